"""SIGUSR2: what every request in flight is doing, and where."""

from __future__ import annotations

import pytest

from tests.harness.stacks import ask, finish, in_flight, line_of, shown, wait_for
from tests.harness.waiting import until

YIELDING = ["yielding_outer", "yielding_middle", "yielding_inner"]
SUSPENDING = ["application", "suspending_outer", "suspending_key", "suspending_inner"]
SLEEPING = ["application", "sleeping_outer", "sleeping_generator"]


@pytest.fixture
def server(fresh_engine, gate):
    return fresh_engine("contract_stacks", cores=8, env=gate.env)


@pytest.mark.parametrize("whom", ["master", "worker"])
class TestSuspended:
    def test_generators(self, server, gate, whom):
        """The whole chain of `yield from`, though no stack holds it."""
        clients = in_flight(server, "/yielding_outer?name=one")
        ask(server, whom)
        text = wait_for(server, "/yielding_outer?name=one", *YIELDING)
        assert text.count("/yielding_outer?name=one") == 1
        # From the outside to the inside, as in a traceback.
        found = [text.index(shown(name)) for name in YIELDING]
        assert found == sorted(found)
        finish(server, gate, clients, b"yielded\n")

    def test_suspended(self, suspending, server, gate, whom):
        clients = in_flight(server, "/suspending_outer?name=one")
        ask(server, whom)
        wait_for(server, "/suspending_outer?name=one", *SUSPENDING)
        finish(server, gate, clients, b"suspended\n")

    def test_asleep(self, suspending, server, gate, whom):
        clients = in_flight(server, "/sleeping_outer?name=one")
        ask(server, whom)
        wait_for(server, "/sleeping_outer?name=one", *SLEEPING)
        finish(server, gate, clients, b"slept\n")

    def test_all_of_them(self, engine, server, gate, whom):
        clients = in_flight(server, "/yielding_outer?name=many", count=4)
        if engine.suspends:
            others = in_flight(server, "/suspending_outer?name=many", count=3)
        ask(server, whom)
        until(
            lambda: server.log_text().count(shown("yielding_inner")) == 4,
            f"four stacks:\n{server.log_text()}",
        )
        if engine.suspends:
            wait_for(server, *SUSPENDING)
            until(
                lambda: server.log_text().count(shown("suspending_inner")) == 3,
                f"three stacks:\n{server.log_text()}",
            )
        gate.release(7 if engine.suspends else 4)
        for client in clients:
            assert client.read_response().body == b"yielded\n"
        for client in others if engine.suspends else []:
            assert client.read_response().body == b"suspended\n"

    def test_nothing_in_flight(self, server, gate, whom):
        ask(server, whom)
        until(lambda: server.log_text().strip(), "it says so")
        assert server.get("/hello").body == b"hello\n"


class TestFacts:
    def test_core_age_and_wait(self, server, gate):
        """Enough to find the request in the log of the front end, and what it waits for."""
        clients = in_flight(server, "/yielding_outer?name=one")
        ask(server, "worker")
        text = wait_for(server, "yielding_inner")
        (head,) = [line for line in text.splitlines() if "/yielding_outer?name=one" in line]
        assert "GET" in head
        finish(server, gate, clients, b"yielded\n")
        assert f"core {line_of(server, 'yielding_outer').core}" in head
        facts = text[text.index(head) :]
        assert "reads fd" in facts
        assert " ms" in facts or " s" in facts

    def test_the_time_that_is_left(self, suspending, server, gate):
        clients = in_flight(server, "/sleeping_outer?name=one")
        ask(server, "worker")
        text = wait_for(server, "sleeping_generator")
        assert "ms left" in text or "queued" in text or "runs" in text
        finish(server, gate, clients, b"slept\n")


@pytest.mark.parametrize("whom", ["master", "worker"])
def test_a_busy_core(server, gate, whom):
    """It computes and gives way to nobody: its stack is there while it does."""
    waiting = in_flight(server, "/yielding_outer?name=waits")
    busy = server.http()
    busy.send_request(target="/busy_outer?name=busy")
    # It has begun when nobody is answered any more.
    until(lambda: is_stuck(server), "the worker is busy")
    ask(server, whom)
    wait_for(server, "busy_inner")
    gate.release(2)
    assert busy.read_response().body == b"computed\n"
    assert waiting[0].read_response().body == b"yielded\n"
    wait_for(server, "/busy_outer?name=busy")
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


def test_again_and_again(server, gate):
    """Whoever asks often harms nobody."""
    clients = in_flight(server, "/yielding_outer?name=one", count=2)
    for _ in range(20):
        ask(server, "master")
        until(lambda: server.log_text().count(shown("yielding_inner")) == 2, "the stacks are there")
        assert server.get("/hello").body == b"hello\n"
    finish(server, gate, clients, b"yielded\n")
