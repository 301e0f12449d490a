"""The pairs themselves: every built one starts, on this interpreter, and counts its switches."""

from __future__ import annotations

import sys

import pytest

from tests.contract.conftest import by_pair
from tests.contract.engines import Engine, engines, runs_here


def test_server_runs_on_the_interpreter_of_the_tests(serve_engine):
    server = serve_engine("contract_engine")
    response = server.get()
    assert response.body.decode() == f"{sys.version_info[:3]} {sys.prefix}"
    (line,) = server.wait_requests(1)
    assert line.switches >= 1


@pytest.mark.nasty
def test_all_cores_wait_at_the_same_time(serve_engine):
    server = serve_engine("contract_engine", cores=5)
    clients = [server.http() for _ in range(5)]
    for client in clients:
        client.send_request("GET", "/")
    assert {client.read_response().status for client in clients} == {200}
    lines = server.wait_requests(5)
    assert {line.core for line in lines} <= set(range(5))


def test_table_has_the_engines_that_work_and_names_no_pair_twice():
    """One that is missing here would be missing in every test, and nobody would be told."""
    ids = [engine.id for engine in engines()]
    assert {"native+none", "native+ugreen", "native+greenlet"} <= set(ids)
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize(
    ("loop", "suspend", "ask", "name", "ident", "options", "arguments", "suspends"),
    [
        ("native", "none", "--async N, or nothing", "none", "native+none", "", "--async 3", False),
        (
            "native",
            "ugreen",
            "--async N --ugreen",
            "ugreen",
            "native+ugreen",
            "--ugreen",
            "--async 3 --ugreen",
            True,
        ),
        ("gevent", "its own", "--gevent N", "gevent", "gevent", "--gevent", "--gevent 3", True),
        (
            "uvloop",
            "greenlet",
            "--asyncio N --asyncio-loop uvloop",
            "uvloop+greenlet",
            "uvloop+greenlet",
            "--asyncio --asyncio-loop uvloop",
            "--asyncio 3 --asyncio-loop uvloop",
            True,
        ),
    ],
)
def test_rows_become_options(loop, suspend, ask, name, ident, options, arguments, suspends):
    engine = Engine(loop, suspend, ask)
    assert (engine.name, engine.id, engine.suspends) == (name, ident, suspends)
    assert " ".join(engine.options) == options
    assert " ".join(engine.arguments(3)) == arguments


def test_stackless_is_another_interpreter():
    assert runs_here("any")
    assert runs_here("Python, Perl")
    assert not runs_here("Stackless Python")
    assert not runs_here("Ruby")


def test_package_that_cannot_be_imported_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "greenlet", None)
    reason = Engine("native", "greenlet", "--async N --greenlet").missing()
    assert "native+greenlet needs greenlet" in reason
    assert Engine("native", "ugreen", "--async N --ugreen").missing() is None


def test_summary_counts_a_failed_end_as_failed():
    class Report:
        def __init__(self, pair):
            self.user_properties = [("engine", pair)] if pair else []

    counted = by_pair(
        {
            "passed": [Report("native+none"), Report("native+none"), Report(None)],
            "error": [Report("native+none")],
            "skipped": [Report("native+greenlet")],
            "": [Report("native+none")],
        }
    )
    assert counted["native+none"] == {"passed": 2, "failed": 1}
    assert counted["native+greenlet"] == {"skipped": 1}
