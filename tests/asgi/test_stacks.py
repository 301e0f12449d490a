"""SIGUSR2: where the task of each request stands, though no stack holds it."""

from __future__ import annotations

import signal

import pytest

from tests.harness.waiting import until

AWAITING = ["application", "awaiting_outer", "awaiting_middle", "awaiting_inner", "at_gate"]


@pytest.fixture
def server(fresh_asgi, gate):
    return fresh_asgi("asgi_stacks", cores=8, env=gate.env)


def in_flight(server, target, count=1):
    clients = [server.http() for _ in range(count)]
    for client in clients:
        client.send_request(target=target)
    # Handled in the order of arrival: when this one is answered, those are where they wait.
    assert server.get("/hello").body == b"hello\n"
    return clients


def ask(server, whom):
    """Only what the log says from here on."""
    server.begin()
    server.signal(signal.SIGUSR2, None if whom == "master" else server.worker())


def shown(text):
    """A function's line in a stack, which is not its name in the code of a caller; or a target."""
    return text if "/" in text else f"in {text}\n"


def wait_for(server, *texts):
    until(
        lambda: all(shown(text) in server.log_text() for text in texts),
        f"all of {texts} in the log, which is:\n{server.log_text()}",
    )
    return server.log_text()


def finish(server, gate, clients, body):
    gate.release(len(clients))
    for client in clients:
        assert client.read_response().body == body
    for _ in range(3):
        assert server.get("/hello").body == b"hello\n"


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
    until(lambda: [r for r in server.log_requests() if "rests" in r.uri], "its line")


def test_facts(server, gate):
    """Core and age, to find it in the log of the front end."""
    clients = in_flight(server, "/awaiting_outer?name=one")
    ask(server, "worker")
    text = wait_for(server, "at_gate")
    (head,) = [line for line in text.splitlines() if "/awaiting_outer?name=one" in line]
    assert "GET" in head
    assert " ms" in head
    finish(server, gate, clients, b"awaited\n")
    # The line of an earlier request may come late.
    (line,) = until(
        lambda: [r for r in server.log_requests() if "awaiting_outer" in r.uri], "its line"
    )
    assert f"core {line.core}" in head


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
    client = server.http(timeout_s=0.2)
    client.send_request(target="/hello")
    try:
        client.read_response()
    except TimeoutError:
        return True
    return False
