"""SIGUSR2: where the task of each request stands, though no stack holds it."""

from __future__ import annotations

import pytest

from tests.harness.stacks import ask, finish, in_flight, line_of, shown, wait_for
from tests.harness.waiting import until

AWAITING = ["application", "awaiting_outer", "awaiting_middle", "awaiting_inner", "at_gate"]


@pytest.fixture
def server(fresh_asgi, gate):
    return fresh_asgi("asgi_stacks", cores=8, env=gate.env)


@pytest.mark.parametrize("whom", ["master", "worker"])
class TestSuspended:
    def test_the_whole_chain_of_awaits(self, server, gate, whom):
        clients = in_flight(server, "/awaiting_outer?name=one")
        ask(server, whom)
        text = wait_for(server, "/awaiting_outer?name=one", *AWAITING)
        assert "tests/apps/asgi_stacks/app.py" in text
        # From the outside to the inside, as in a traceback.
        found = [text.index(shown(name)) for name in AWAITING]
        assert found == sorted(found)
        finish(server, gate, clients, b"awaited\n")

    def test_many(self, server, gate, whom):
        clients = in_flight(server, "/awaiting_outer?name=one", 5)
        ask(server, whom)
        until(
            lambda: server.log_text().count(shown("awaiting_inner")) == 5,
            f"five stacks:\n{server.log_text()}",
        )
        finish(server, gate, clients, b"awaited\n")

    def test_nothing_in_flight(self, server, whom):
        ask(server, whom)
        until(lambda: server.log_text().strip(), "it says so")
        assert server.get("/hello").body == b"hello\n"


def test_asynchronous_generators(server, gate):
    clients = in_flight(server, "/generator_outer?name=one")
    ask(server, "worker")
    wait_for(server, "/generator_outer?name=one", "generator_outer")
    finish(server, gate, clients, b"generated\n")


def test_in_receive(server):
    client = server.http()
    client.send(
        b"POST /receiving_outer?name=r HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    assert server.get("/hello").body == b"hello\n"
    ask(server, "worker")
    wait_for(server, "/receiving_outer?name=r", "receiving_outer", "receiving_inner")
    client.send(b"0\r\n\r\n")
    assert client.read_response().body == b"received\n"


def test_behind_its_response(server, gate):
    client = server.http()
    assert client.get("/resting_outer?name=rests").body == b"answered\n"
    # The connection goes on when the task waits.
    assert client.get("/hello").body == b"hello\n"
    ask(server, "worker")
    wait_for(server, "/resting_outer?name=rests", "resting_outer", "at_gate")
    gate.release()
    assert client.get("/hello").body == b"hello\n"
    line_of(server, "rests")


def test_facts(server, gate):
    """Core and age, to find it in the log of the front end."""
    clients = in_flight(server, "/awaiting_outer?name=one")
    ask(server, "worker")
    text = wait_for(server, "at_gate")
    (head,) = [line for line in text.splitlines() if "/awaiting_outer?name=one" in line]
    assert "GET" in head
    assert " ms" in head
    finish(server, gate, clients, b"awaited\n")
    assert f"core {line_of(server, 'awaiting_outer').core}" in head


def test_a_busy_core(server, gate):
    """It computes and gives way to nobody: its stack is there while it does."""
    busy = server.http()
    busy.send_request(target="/busy_outer?name=busy")
    until(lambda: is_stuck(server), "the worker is busy")
    ask(server, "worker")
    wait_for(server, "busy_inner")
    gate.release()
    assert busy.read_response().body == b"computed\n"
    assert server.get("/hello").body == b"hello\n"


def is_stuck(server):
    # Not just slow, on a machine that is busy.
    client = server.http(timeout_s=1)
    client.send_request(target="/hello")
    try:
        client.read_response()
    except TimeoutError:
        return True
    return False
