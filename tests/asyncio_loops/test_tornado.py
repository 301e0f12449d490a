"""Tornado's own functions in requests, and its handlers beside them."""

from __future__ import annotations

import urllib.request

import pytest

from tests.harness.asking import ask
from tests.harness.needed import missing


@pytest.fixture
def server(serve):
    try:
        import tornado  # noqa: F401
    except ImportError:
        missing("Tornado is not installed: pip install tornado")
    return serve("tornado_requests", "--tornado", "8")


def test_the_current_loop(server):
    assert ask(server, "/current") is True


def test_clients(server):
    assert ask(server, "/fetch") == [True, True]


def test_timeouts_callbacks_and_descriptors(server):
    assert ask(server, "/timeout") is True
    assert ask(server, "/chained") == ["first", "second", "third"]


def test_generators(server):
    assert ask(server, "/parts") == [1, 2, 3]


def test_handlers_on_ports_of_their_own(server):
    url = f"http://127.0.0.1:{ask(server, '/port')}/"
    with urllib.request.urlopen(url, timeout=20) as answer:
        assert answer.read() == b"hello from Tornado"
