"""Clients that leave at every stage: who listens hears of it, who does not is cancelled."""

from __future__ import annotations

import random

import pytest

from tests.harness.asking import ask, notes_of
from tests.harness.waiting import until

FULL = r"\[DANGER\] async queue is full !!!$"
ENDINGS = ["close", "reset"]


@pytest.fixture
def server(serve_asgi):
    return serve_asgi("asgi_departures", cores=2, allow=[FULL])


def begun(server, kind, name, *more, **how):
    """A client whose request is in the application, and waits there."""
    client = server.http(**how)
    client.send_request(target="&".join([f"/{kind}?name={name}", *more]))
    server.wait_for_log(f"^{name} began$")
    return client


def said(server, name):
    return [
        line.removeprefix(f"{name} ")
        for line in server.log_lines()
        if line.startswith(f"{name} ") and line != f"{name} began"
    ]


def line_of(server, name):
    (line,) = until(
        lambda: [r for r in server.log_requests() if f"name={name}" in r.uri],
        f"the request line of {name}",
    )
    return line


def serves_on(server):
    for _ in range(3):
        assert server.get("/hello").body == b"hello\n"


@pytest.mark.parametrize("ending", ENDINGS)
class TestNobodyListens:
    def test_before_the_answer(self, server, ending):
        client = begun(server, "sleeps", "one")
        getattr(client, ending)()
        assert line_of(server, "one").cancelled == "client gone"
        assert said(server, "one") == ["CancelledError", "finally"]
        serves_on(server)

    def test_in_the_middle(self, server, ending):
        client = begun(server, "sleeps", "one", "mid=1")
        client.read_head()
        assert client.read_chunk() == b"part\n"
        getattr(client, ending)()
        line = line_of(server, "one")
        assert (line.status, line.body_bytes, line.cancelled) == (200, 5, "client gone")
        assert said(server, "one") == ["CancelledError", "finally"]
        serves_on(server)

    def test_it_never_rests(self, server, ending):
        client = begun(server, "busy", "one")
        getattr(client, ending)()
        assert line_of(server, "one").cancelled == "client gone"
        serves_on(server)

    def test_it_swallows_that_once(self, server, ending):
        client = begun(server, "swallows", "one")
        getattr(client, ending)()
        line = line_of(server, "one")
        assert (line.cancelled, line.abandoned) == ("client gone", False)
        assert said(server, "one")[0] == "swallowed"
        serves_on(server)

    def test_work_that_it_has_shielded(self, server, ending):
        client = begun(server, "shielded", "one")
        until(lambda: ask(server, "/waiting") == 1, "the work waits")
        getattr(client, ending)()
        assert line_of(server, "one").cancelled == "client gone"
        assert ask(server, "/go") == "gone"
        assert notes_of(server, 1) == ["shielded work done"]


@pytest.mark.parametrize("ending", ENDINGS)
class TestReceive:
    def test_hears_of_it(self, server, ending):
        client = begun(server, "listens", "one")
        getattr(client, ending)()
        line = line_of(server, "one")
        assert not line.abandoned
        # Not cancelled, and told the same as often as it asks.
        assert said(server, "one") == ["http.disconnect", "again http.disconnect"]
        serves_on(server)

    def test_has_time_to_clean_up(self, server, ending):
        client = begun(server, "listens_and_cleans_up", "one")
        getattr(client, ending)()
        line_of(server, "one")
        assert said(server, "one") == ["cleaned up"]

    def test_is_cancelled_when_it_stays(self, server, ending):
        client = begun(server, "listens_and_stays", "one")
        getattr(client, ending)()
        line = line_of(server, "one")
        assert line.cancelled == "client gone"
        assert said(server, "one") == ["http.disconnect", "CancelledError"]
        serves_on(server)

    def test_sends_nevertheless(self, server, ending):
        client = begun(server, "sends_to_nobody", "one")
        getattr(client, ending)()
        line_of(server, "one")
        assert said(server, "one") == ["OSError False"]
        serves_on(server)


@pytest.mark.parametrize("ending", ENDINGS)
class TestStreams:
    def test_listener_and_sender(self, server, ending):
        client = begun(server, "as_starlette_does", "one")
        client.read_head()
        assert client.read_chunk() == b"0\n"
        getattr(client, ending)()
        line = line_of(server, "one")
        assert line.status == 200
        found = said(server, "one")
        assert found[-1] == "ended"
        assert set(found) & {"http.disconnect", "stream OSError"}
        assert "stream cancelled" in found or "stream OSError" in found
        serves_on(server)

    def test_a_reader_that_does_not_read(self, server, ending):
        client = begun(server, "stalls", "one", receive_buffer=4096)
        client.read_head()
        getattr(client, ending)()
        line_of(server, "one")
        found = said(server, "one")
        assert found[0] in ("CancelledError", "OSError")
        assert found[1:] == ["finally"]
        serves_on(server)


def test_a_stream_to_its_end(server):
    """The listener waits until the response is complete, and is no reason to wait longer."""
    client = begun(server, "as_starlette_does", "one", "parts=5")
    assert client.read_response().body == b"0\n1\n2\n3\n4\n"
    assert client.get("/hello").body == b"hello\n"
    line = line_of(server, "one")
    assert (line.cancelled, line.status) == (None, 200)
    found = said(server, "one")
    assert found[-1] == "ended"
    assert set(found) <= {"http.disconnect", "ended"}


def test_the_next_request_is_no_departure(server):
    """Its bytes come while the listener waits: who sends is there."""
    client = begun(server, "as_starlette_does", "one", "parts=20")
    client.send(b"GET /hello HTTP/1.1\r\nHost: a\r\n\r\n")
    expected = b"".join(b"%d\n" % number for number in range(20))
    assert client.read_response().body == expected
    assert client.read_response().body == b"hello\n"
    assert line_of(server, "one").cancelled is None


class TestAfterTheAnswer:
    @pytest.mark.parametrize("ending", ENDINGS)
    def test_work_goes_on(self, server, ending):
        client = server.http()
        assert client.get("/after_the_answer?name=one").body == b"complete"
        server.wait_for_log("^one began$")
        getattr(client, ending)()
        for _ in range(5):
            assert server.get("/hello").body == b"hello\n"
        assert said(server, "one") == []
        assert ask(server, "/go") == "gone"
        assert notes_of(server, 1) == ["one went on"]
        line = line_of(server, "one")
        assert (line.status, line.cancelled) == (200, None)

    def test_receive(self, server):
        """Waits while the client may still come to read, then says that this is over."""
        client = server.http()
        assert client.get("/listens_after_the_answer").body == b"complete"
        assert notes_of(server, 1) == [[False, "http.disconnect"]]
        assert client.get("/hello").body == b"hello\n"


class TestHalfClosed:
    """Nearly always such a client has left; one that has not gets a quick answer."""

    def test_a_quick_answer(self, server):
        client = server.http()
        client.send_request(target="/quick")
        client.half_close()
        assert client.read_response().body == b"quick"
        assert line_of_target(server, "/quick").cancelled is None

    def test_half_closed_is_gone(self, server):
        client = begun(server, "sleeps", "one")
        client.half_close()
        assert line_of(server, "one").cancelled == "client gone"
        assert said(server, "one") == ["CancelledError", "finally"]

    def test_with_all_the_time_in_the_world(self, serve_asgi):
        server = serve_asgi("asgi_departures", "--half-close", cores=2)
        client = begun(server, "answers_late", "one")
        client.half_close()
        for _ in range(5):
            assert server.get("/hello").body == b"hello\n"
        assert ask(server, "/go") == "gone"
        assert client.read_response().body == b"late"
        line = line_of(server, "one")
        assert (line.status, line.cancelled) == (200, None)


def line_of_target(server, target):
    (line,) = until(
        lambda: [r for r in server.log_requests() if r.uri == target], f"the line of {target}"
    )
    return line


def test_many_at_a_time(serve_asgi):
    """Some leave, others stay, and the others notice nothing."""
    server = serve_asgi("asgi_departures", cores=40, allow=[FULL])
    kinds = ["sleeps", "listens", "as_starlette_does", "listens_and_stays", "busy"]
    leaving = [begun(server, kinds[n % len(kinds)], f"l{n}-") for n in range(20)]
    staying = [begun(server, "answers_late", f"s{n}-") for n in range(15)]
    random.Random(7).shuffle(leaving)
    for number, client in enumerate(leaving):
        getattr(client, ENDINGS[number % 2])()
    for number in range(20):
        line_of(server, f"l{number}-")
    assert ask(server, "/go") == "gone"
    assert [client.read_response().body for client in staying] == [b"late"] * 15
    lines = [line_of(server, f"s{number}-") for number in range(15)]
    assert {(line.status, line.cancelled) for line in lines} == {(200, None)}


def test_cores_are_parked_for_no_longer_than_that(server):
    """Both cores wait for clients that leave; whoever was parked is served then."""
    leaving = [begun(server, "sleeps", f"l{n}-") for n in range(2)]
    parked = [server.http() for _ in range(5)]
    for client in parked:
        client.send_request(target="/hello")
    for client in leaving:
        client.close()
    assert [client.read_response().body for client in parked] == [b"hello\n"] * 5
