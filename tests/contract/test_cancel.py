"""Cancelled requests: the exception at the suspension point, whatever Python stands around it.

Who cancels (the deadline, a client that leaves, the stop) makes no difference to the application
but the reason.
"""

from __future__ import annotations

import re
import signal

import pytest

from tests.harness.http import Truncated
from tests.harness.waiting import until

TRIES = 8
"""How often a request is told; one that goes on is abandoned."""

# Place: notes between `began` and the end; {} is the reason.
ENDS = {
    "plain": [],
    "in_with": ["exit with Cancelled: {}"],
    "nested": ["inner", "middle", "outer"],
    "in_generator": ["generator"],
    "in_yield_from": ["generator", "delegating"],
    "in_context_manager": ["thrown into: {}", "managed", "callback"],
    "in_except": ["context KeyError"],
    "in_finally": ["finally of finally"],
    "in_sorted": ["key 1", "sorted"],
    "in_sqlite": ["OperationalError", "raised again"],
    "with_a_lock": ["locked"],
    "catches_exception": [],
    "waits_in_finally": ["raised again: {}"],
}
# The interpreter itself says something about these.
SAID_BY_PYTHON = {
    "in_ctypes": ["sorted", "raised again"],
    "in_del": ["in __del__", "deleted", "raised again"],
}
RETURNS = {
    "swallows_once": ["swallowed: {}", "returned"],
    "swallows_some": [*(f"swallowed {n + 1}" for n in range(7)), "enough", "returned"],
}
STAYS = {
    "swallows_for_ever": [f"swallowed {n + 1}" for n in range(TRIES)],
    "swallows_bare": [f"swallowed {n + 1}" for n in range(TRIES)],
}
ALL = {**ENDS, **SAID_BY_PYTHON, **RETURNS, **STAYS}
# Told once; once more for each suspension after that.
TOLD = {"in_sqlite": 2, "waits_in_finally": 2, "in_ctypes": 2, "in_del": 2, "swallows_some": 7}
PYTHON_SAYS = ["^Exception ignored", "^Traceback", r"Cancelled\b"]


@pytest.fixture
def server(suspending, serve_engine):
    """Requests below /late are cancelled soon; all others may stay as long as they like."""
    return serve_engine(
        "contract_cancel", "--request-timeout", "/late=0.2", cores=2, allow=PYTHON_SAYS
    )


def notes(server, name):
    return [line.partition(": ")[2] for line in server.log_lines() if line.startswith(f"{name}: ")]


def expected(place, reason):
    return ["began", *(text.format(reason) for text in ALL[place])]


def line_of(server, name):
    def found():
        return [r for r in server.log_requests() if re.search(rf"name={name}\b", r.uri)]

    (line,) = until(found, f"the request line of {name}")
    return line


def has_ended(server, place, name, reason):
    line = line_of(server, name)
    assert notes(server, name) == expected(place, reason)
    assert line.cancelled == reason
    assert line.abandoned == (place in STAYS)
    return line


def told(place):
    return TRIES if place in STAYS else TOLD.get(place, 1)


@pytest.mark.parametrize("place", ALL)
class TestReasons:
    def test_deadline(self, server, place):
        """504, whatever the application does after its time is over."""
        answer = server.get(f"/late/{place}?name={place}")
        assert answer.status == 504
        line = has_ended(server, place, place, "deadline")
        assert line.status == 504
        # Told once per suspension. One that goes on adds its part, or the one that is the last.
        extra = {1} if place in STAYS else {0, 1} if place in RETURNS else {0}
        assert line.switches - told(place) in extra
        assert server.get("/hello").body == b"hello\n"

    def test_deadline_in_mid_response(self, server, place):
        client = server.http()
        client.send_request(target=f"/late/{place}?name={place}&mid=1")
        head = client.read_head()
        assert head.status == 200
        with pytest.raises(Truncated):
            client.read_body(head)
        line = has_ended(server, place, place, "deadline")
        assert (line.status, line.body_bytes) == (200, 5)
        assert server.get("/hello").body == b"hello\n"

    @pytest.mark.parametrize("ending", ["close", "reset"])
    def test_client_gone(self, server, place, ending):
        client = server.http()
        client.send_request(target=f"/stay/{place}?name={place}&mid=1")
        client.read_head()
        server.wait_for_log(f"^{place}: began$")
        getattr(client, ending)()
        has_ended(server, place, place, "client gone")
        assert server.get("/hello").body == b"hello\n"


def test_the_exception(server):
    """Not an Exception, or `except Exception` would swallow it all over the world."""
    answer = server.get("/late/catches_exception?name=c")
    assert answer.status == 504
    assert "caught" not in notes(server, "c")


def test_a_lock_is_released(server):
    assert server.get("/late/with_a_lock?name=one").status == 504
    assert server.get("/lock_is_free?name=two").body == b"answered\n"
    assert notes(server, "two") == ["began", "lock is free", "returned"]


def test_no_traceback(suspending, fresh_engine):
    """A request that was told to end and does is nothing to write about."""
    cores = len(ENDS)
    server = fresh_engine("contract_cancel", "--request-timeout", "/late=0.2", cores=cores)
    clients = [server.http() for _ in ENDS]
    for client, place in zip(clients, ENDS, strict=True):
        client.send_request(target=f"/late/{place}?name={place}")
    assert [client.read_response().status for client in clients] == [504] * cores


def test_all_cores_are_usable_after_many_were_abandoned(suspending, serve_engine):
    server = serve_engine("contract_cancel", "--request-timeout", "/late=0.2", cores=4)
    for number in range(3):
        clients = [server.http() for _ in range(4)]
        for at, client in enumerate(clients):
            client.send_request(target=f"/late/swallows_for_ever?name=n{number}{at}")
        assert [client.read_response().status for client in clients] == [504] * 4
    lines = server.wait_requests(12)
    assert all(line.abandoned for line in lines)
    assert {line.core for line in lines} == set(range(4))


def test_telling_is_fair(suspending, serve_engine):
    """One that never listens is told between the turns of others, and keeps nobody waiting."""
    server = serve_engine("contract_cancel", "--request-timeout", "/late=0.2", cores=8)
    client = server.http()
    client.send_request(target="/late/swallows_bare?name=deaf")
    for _ in range(50):
        assert server.get("/hello").body == b"hello\n"
    assert client.read_response().status == 504
    assert line_of(server, "deaf").abandoned


class TestStop:
    """SIGTERM with all of these in flight: each is told, and the worker leaves in any case."""

    @pytest.mark.parametrize("options", [(), ("--master=false",)], ids=["master", "alone"])
    @pytest.mark.parametrize("mid", ["", "&mid=1"], ids=["before", "mid"])
    def test_every_place(self, suspending, fresh_engine, options, mid):
        server = fresh_engine(
            "contract_cancel",
            *("--worker-reload-mercy", "0.5", *options),
            cores=len(ALL) + 1,
            allow=PYTHON_SAYS,
        )
        places = [place for place in ALL if place != "with_a_lock"]
        clients = {}
        for place in places:
            clients[place] = server.http()
            clients[place].send_request(target=f"/stay/{place}?name={place}{mid}")
            server.wait_for_log(f"^{place}: began$")
        server.signal(signal.SIGTERM)
        assert server.wait_exit() == 0
        for place in places:
            line = has_ended(server, place, place, "stop")
            if mid:
                head = clients[place].read_head()
                with pytest.raises(Truncated):
                    clients[place].read_body(head)
            else:
                assert clients[place].read_response().status == 503
                assert line.status == 503
        assert server.leftovers() == []

    def test_one_that_stays(self, suspending, fresh_engine):
        """Nothing else is left, so nobody but the worker can give it up."""
        server = fresh_engine("contract_cancel", "--worker-reload-mercy", "0.2", cores=1)
        client = server.http()
        client.send_request(target="/stay/swallows_for_ever?name=deaf")
        server.wait_for_log("^deaf: began$")
        server.signal(signal.SIGTERM)
        assert server.wait_exit() == 0
        assert client.read_response().status == 503
        has_ended(server, "swallows_for_ever", "deaf", "stop")

    def test_a_second_signal_ends_them_at_once(self, suspending, fresh_engine):
        server = fresh_engine("contract_cancel", "--worker-reload-mercy", "3600", cores=4)
        for place in ("in_with", "swallows_for_ever"):
            server.http().send_request(target=f"/stay/{place}?name={place}")
            server.wait_for_log(f"^{place}: began$")
        server.signal(signal.SIGTERM)
        server.wait_for_log("requests in flight have 3600 s to end")
        server.signal(signal.SIGTERM)
        assert server.wait_exit() == 0
        for place in ("in_with", "swallows_for_ever"):
            has_ended(server, place, place, "stop")


@pytest.mark.parametrize("name", ["Cancelled", "ClientGone"])
def test_raised_by_the_application_itself_it_is_a_failure(fresh_engine, tmp_path, name):
    """Only a request that is really to end is left without a traceback."""
    source = f"import uwsgi\ndef application(environ, send):\n    raise uwsgi.{name}('mine')\n"
    (tmp_path / "raises.py").write_text(source)
    trace = ["Traceback", f"{name}: mine$", "exception in the application, /:"]
    server = fresh_engine(None, "--chdir", str(tmp_path), "-w", "raises", allow=trace)
    assert server.get("/").status == 500
    server.wait_for_log(f"{name}: mine$")
    (line,) = server.wait_requests(1)
    assert line.cancelled is None
