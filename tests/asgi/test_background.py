"""Work that goes on after the response: its client has it, and the connection its next request."""

from __future__ import annotations

import signal

import pytest

from tests.harness.asking import ask, notes_of
from tests.harness.waiting import until

FULL = r"\[DANGER\] async queue is full !!!$"
NOISE = ["Traceback", r"(?i)\berrors?\b"]


@pytest.fixture
def server(serve_asgi):
    return serve_asgi("asgi_background", cores=4, allow=[*NOISE, FULL], uwsgi="127.0.0.1:0")


@pytest.mark.parametrize("kind", ["work", "chunked_work"])
class TestKeepAlive:
    def test_the_next_request_meanwhile(self, server, kind):
        client = server.http()
        assert client.get(f"/{kind}?name=a").body == b"answered"
        for _ in range(3):
            assert client.get("/hello").body == b"hello\n"
        assert client.get("/waiting").json() == 1
        assert client.get("/notes").json() == []
        assert client.get("/go").json() == "gone"
        assert notes_of(server, 1) == ["a done"]

    def test_several_of_one_connection(self, server, kind):
        client = server.http()
        for name in "abc":
            assert client.get(f"/{kind}?name={name}").body == b"answered"
        assert client.get("/waiting").json() == 3
        assert client.get("/go").json() == "gone"
        assert sorted(notes_of(server, 3)) == ["a done", "b done", "c done"]

    def test_pipelined(self, server, kind):
        client = server.http()
        text = [
            f"GET /{t} HTTP/1.1\r\nHost: a\r\n\r\n" for t in (f"{kind}?name=a", "waiting", "go")
        ]
        client.send("".join(text))
        assert client.read_response().body == b"answered"
        assert client.read_response().json() == 1
        assert client.read_response().json() == "gone"
        assert notes_of(server, 1) == ["a done"]

    def test_the_connection_is_closed_at_once(self, server, kind):
        """Not when the work is done."""
        client = server.http()
        assert client.get(f"/{kind}?name=a", Connection="close").body == b"answered"
        assert client.closed_by_peer()
        assert ask(server, "/go") == "gone"
        assert notes_of(server, 1) == ["a done"]

    def test_packets(self, server, kind):
        """The end of the connection is the end of the response."""
        answer = server.packets().ask(path=f"/{kind}", query="name=a")
        assert answer.body == b"answered"
        assert ask(server, "/go") == "gone"
        assert notes_of(server, 1) == ["a done"]


def test_the_line_comes_when_the_work_is_done(server):
    assert server.get("/work?name=a").body == b"answered"
    assert server.get("/hello").body == b"hello\n"
    assert "/work?name=a" not in [line.uri for line in server.log_requests()]
    assert ask(server, "/go") == "gone"
    assert notes_of(server, 1) == ["a done"]
    until(lambda: "/work?name=a" in [r.uri for r in server.log_requests()], "its line")


def test_it_holds_its_core(serve_asgi):
    """With all cores at work behind their responses, others are parked, and served then."""
    server = serve_asgi("asgi_background", "--request-timeout", "/late=1", cores=2, allow=[FULL])
    client = server.http()
    for _ in range(2):
        assert client.get("/late/late_work?name=late").body == b"answered"
    client.send_request(target="/hello")
    # Their deadlines end them.
    assert client.read_response().body == b"hello\n"
    assert server.count_log("^late CancelledError$") >= 1


def test_a_task_of_its_own_holds_none(server):
    for name in "abcdefgh":
        assert server.get(f"/leaves_a_task?name={name}").body == b"answered"
    until(lambda: ask(server, "/waiting") == 8, "all of them wait")
    lines = server.wait_requests(8)
    assert {line.status for line in lines} == {200}
    assert ask(server, "/go") == "gone"
    assert sorted(notes_of(server, 8)) == [f"{name} task done" for name in "abcdefgh"]


def test_it_fails(server):
    client = server.http()
    assert client.get("/fails?name=a").body == b"answered"
    server.wait_for_log("^ValueError: after the answer$")
    assert client.get("/hello").body == b"hello\n"
    (line,) = [r for r in server.wait_requests(2) if r.uri == "/fails?name=a"]
    assert line.status == 200


def test_a_deadline_ends_it(serve_asgi):
    server = serve_asgi("asgi_background", "--request-timeout", "/late=0.2")
    client = server.http()
    assert client.get("/late/late_work?name=a").body == b"answered"
    server.wait_for_log("^a CancelledError$")
    assert client.get("/hello").body == b"hello\n"
    (line,) = [r for r in server.wait_requests(2) if "late_work" in r.uri]
    # The client has had a whole response.
    assert (line.status, line.cancelled) == (200, "deadline")


def test_a_stop_waits_for_it(fresh_asgi):
    server = fresh_asgi("asgi_background", "--request-timeout", "/late=1")
    assert server.get("/late/late_work?name=a").body == b"answered"
    server.signal(signal.SIGTERM)
    assert server.wait_exit() == 0
    assert server.count_log("^a CancelledError$") == 1


def test_the_end_of_the_mercy_cancels_it(fresh_asgi):
    server = fresh_asgi("asgi_background", "--worker-reload-mercy", "1")
    assert server.get("/late_work?name=a").body == b"answered"
    server.signal(signal.SIGTERM)
    assert server.wait_exit() == 0
    assert server.count_log("^a CancelledError$") == 1
