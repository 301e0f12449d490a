"""uwsgi signals and timers beside ASGI requests: handlers run while requests wait."""

from __future__ import annotations

import re

import pytest

from tests.harness.asking import ask
from tests.harness.waiting import until

NOTE, SLOW, BAD, TASK = 30, 31, 32, 33
FAILS = ("Traceback", "ValueError", "exception in the handler", "error managing signal")


@pytest.fixture
def server(serve_asgi):
    return serve_asgi("asgi_signals", cores=4)


def events(server):
    return re.findall(r"^event (.*)$", server.log_text(), re.MULTILINE)


def wait_for(server, what, count=1):
    until(lambda: events(server).count(what) >= count, f"{count} times {what}: {events(server)}")


def raise_signal(server, number):
    assert server.get(f"/raises?n={number}").body == b"raised"


def test_raised_by_a_request(server):
    raise_signal(server, NOTE)
    wait_for(server, f"handled {NOTE}")


def test_raised_by_a_thread(server):
    assert server.get(f"/raised_in_a_thread?n={NOTE}").body == b"raised"
    wait_for(server, f"handled {NOTE}")


def test_each_one_counts(server):
    for _ in range(20):
        raise_signal(server, NOTE)
    wait_for(server, f"handled {NOTE}", 20)


def test_it_wakes_requests(server):
    clients = [server.http() for _ in range(2)]
    for client in clients:
        client.send_request(target="/waits_for_handler")
    until(lambda: ask(server, "/waiting") == 2, "both wait")
    raise_signal(server, NOTE)
    assert [client.read_response().body for client in clients] == [b"handled"] * 2


def test_a_handler_that_is_suspended_holds_nobody_up(server):
    for _ in range(3):
        raise_signal(server, SLOW)
    wait_for(server, "slow begins", 3)
    assert server.get("/hello").body == b"hello\n"
    wait_for(server, "slow ends", 3)


def test_a_handler_with_a_task(server):
    raise_signal(server, TASK)
    wait_for(server, "task ends")


def test_a_handler_that_fails(serve_asgi):
    server = serve_asgi("asgi_signals", cores=4, allow=FAILS)
    raise_signal(server, BAD)
    server.wait_for_log("^ValueError: bad on purpose$")
    raise_signal(server, NOTE)
    wait_for(server, f"handled {NOTE}")


def test_a_timer(fresh_asgi):
    server = fresh_asgi("asgi_signals", env={"TICK_S": "0.05"}, cores=4)
    client = server.http()
    client.send_request(target="/waits_for_handler")
    wait_for(server, "tick", 3)
    raise_signal(server, NOTE)
    assert client.read_response().body == b"handled"


def test_after_the_fork(fresh_asgi):
    server = fresh_asgi("asgi_signals", "--processes", "2")
    server.mark = 0
    wait_for(server, "forked", 2)
