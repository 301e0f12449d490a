"""--request-timeout: the task is cancelled, the client is told, and nobody else notices."""

from __future__ import annotations

import pytest

from tests.harness.http import Malformed, Truncated
from tests.harness.waiting import until

FULL = r"\[DANGER\] async queue is full !!!$"
NOISE = ["Traceback", r"(?i)\berrors?\b"]
TRIES = 8
"""How often a request is told; one that goes on is abandoned."""
ABANDONED_S = 20.0
"""It is told once a second."""

# What each one says when it is told.
ENDS = {
    "sleeps": ["CancelledError"],
    "deep": ["inner", "outer", "outermost"],
    "busy": ["finally"],
    "receives": ["CancelledError"],
    "in_a_group": ["member 0", "member 1", "member 2"],
    "cleans_up": ["cleaned up"],
}


@pytest.fixture
def server(serve_asgi):
    """Short below /late, none elsewhere."""
    return serve_asgi(
        "asgi_deadline", "--request-timeout", "/late=0.2", cores=2, allow=[*NOISE, FULL],
        uwsgi="127.0.0.1:0",
    )  # fmt: skip


def line_of(server, target, deadline_s=10.0):
    (line,) = until(
        lambda: [r for r in server.log_requests() if r.uri == target],
        f"the line of {target}",
        deadline_s,
    )
    return line


def said(server, name):
    prefix = f"{name} "
    return [x.removeprefix(prefix) for x in server.log_lines() if x.startswith(prefix)]


class TestBeforeTheStart:
    @pytest.mark.parametrize("kind", ENDS)
    def test_504(self, server, kind):
        target = f"/late/{kind}?name={kind}"
        client = server.http()
        answer = client.get(target)
        assert (answer.status, answer.reason) == (504, "Gateway Timeout")
        line = line_of(server, target)
        assert (line.status, line.cancelled, line.abandoned) == (504, "deadline", False)
        assert line.msecs >= 200
        assert sorted(said(server, kind)) == sorted(ENDS[kind])
        # The connection may go on where the answer said so.
        if answer.header("connection") == "close":
            assert client.closed_by_peer()
        else:
            assert client.get("/hello").body == b"hello\n"

    def test_from_the_inside_to_the_outside(self, server):
        assert server.get("/late/deep?name=d").status == 504
        line_of(server, "/late/deep?name=d")
        assert said(server, "d") == ["inner", "outer", "outermost"]

    def test_no_exception(self, server):
        """CancelledError is none, or `except Exception` would swallow it all over the world."""
        assert server.get("/late/catches_exception?name=c").status == 504
        line_of(server, "/late/catches_exception?name=c")
        assert said(server, "c") == []

    def test_it_is_nothing_to_write_about(self, serve_asgi):
        """Told to end and ending: no traceback."""
        server = serve_asgi("asgi_deadline", "--request-timeout", "/late=0.2", cores=2)
        assert server.get("/late/sleeps?name=quiet").status == 504
        line_of(server, "/late/sleeps?name=quiet")
        assert server.count_log("Traceback") == 0

    def test_another_exception_instead(self, server):
        assert server.get("/late/raises_another").status == 504
        server.wait_for_log("^ValueError: instead of it$")
        assert line_of(server, "/late/raises_another").cancelled == "deadline"

    def test_head(self, server):
        client = server.http()
        answer = client.request("HEAD", "/late/sleeps?name=h")
        assert (answer.status, answer.body) == (504, b"")
        assert not client.buffer

    def test_packets(self, server):
        assert server.packets().ask(path="/late/sleeps", query="name=p").status == 504
        assert server.packets().ask(path="/hello").body == b"hello\n"


class TestAfterTheStart:
    @pytest.mark.parametrize("kind", ENDS)
    def test_cut(self, server, kind):
        """The client sees that the answer is not complete, and nothing that is not part of it."""
        target = f"/late/{kind}?name={kind}&mid=1"
        client = server.http()
        client.send_request(target=target)
        assert client.read_head().status == 200
        assert client.read_chunk() == b"part\n"
        assert client.closed_by_peer()
        line = line_of(server, target)
        assert (line.status, line.cancelled, line.body_bytes) == (200, "deadline", 5)
        assert sorted(said(server, kind)) == sorted(ENDS[kind])
        assert server.get("/hello").body == b"hello\n"

    def test_a_reader_that_does_not_read(self, server):
        client = server.http(receive_buffer=4096)
        client.send_request(target="/late/stalls?name=s")
        head = client.read_head()
        server.wait_for_log("^s finally$")
        line = line_of(server, "/late/stalls?name=s")
        assert (line.status, line.cancelled) == (200, "deadline")
        with pytest.raises((Truncated, Malformed, ConnectionResetError)):
            client.read_body(head)


class TestSwallowed:
    @pytest.mark.parametrize("mid", ["", "&mid=1"])
    def test_once(self, server, mid):
        """What it makes afterwards never reaches the client."""
        target = f"/late/swallows_once?name=s{mid}"
        client = server.http()
        client.send_request(target=target)
        if mid:
            head = client.read_head()
            with pytest.raises((Truncated, ConnectionResetError)):
                client.read_body(head)
        else:
            answer = client.read_response()
            assert answer.status == 504
            assert b"too late" not in answer.body
        line = line_of(server, target)
        assert (line.cancelled, line.abandoned) == ("deadline", False)
        found = said(server, "s")
        assert (found[0], found[-1]) == ("swallowed", "returned")
        assert server.get("/hello").body == b"hello\n"

    def test_a_long_clean_up_is_told_again(self, server):
        target = "/late/cleans_up_for_long?name=long"
        assert server.get(target).status == 504
        line = line_of(server, target)
        assert (line.cancelled, line.abandoned) == ("deadline", False)
        assert said(server, "long") == ["told again"]

    def test_for_ever(self, server):
        """Given up: the log says so, and all cores can be used again."""
        targets = [f"/late/swallows_for_ever?name=deaf{n}" for n in range(2)]
        clients = [server.http(timeout_s=ABANDONED_S) for _ in targets]
        for client, target in zip(clients, targets, strict=True):
            client.send_request(target=target)
        assert [client.read_response().status for client in clients] == [504] * 2
        for number, target in enumerate(targets):
            line = line_of(server, target, ABANDONED_S)
            assert (line.status, line.cancelled, line.abandoned) == (504, "deadline", True)
            assert said(server, f"deaf{number}") == ["swallowed"] * TRIES
        for _ in range(5):
            assert server.get("/hello").body == b"hello\n"


class TestInTime:
    @pytest.fixture
    def patient(self, serve_asgi):
        """Some requests together take longer than one may, and each by far not as long."""
        return serve_asgi("asgi_deadline", "--request-timeout", "/late=1", cores=2)

    def test_nobody_is_told(self, patient):
        for _ in range(5):
            answer = patient.get("/late/in_time?name=a&seconds=0.1&times=3")
            assert answer.body == b"a"
        assert {line.cancelled for line in patient.wait_requests(5)} == {None}

    def test_requests_of_one_connection_have_their_own(self, patient):
        client = patient.http()
        for _ in range(5):
            assert client.get("/late/in_time?name=a&seconds=0.3&times=1").body == b"a"

    def test_late_but_whole(self, server):
        """It never gave way, so there was no moment to end it, and now it is an answer."""
        assert server.get("/late/computes").body == b"computed\n"
        assert line_of(server, "/late/computes").cancelled is None

    def test_it_gives_way_too_late(self, server):
        assert server.get("/late/computes_then_waits").status == 504

    def test_a_timeout_of_its_own(self, server):
        assert server.get("/late/timeout_of_its_own").body == b"its own"
        assert line_of(server, "/late/timeout_of_its_own").cancelled is None

    def test_off_by_default(self, server):
        assert server.get("/in_time?name=a&seconds=0.3&times=1").body == b"a"


class TestBodies:
    @pytest.mark.parametrize("framing", ["Content-Length: 99999", "Transfer-Encoding: chunked"])
    def test_one_that_does_not_come(self, server, framing):
        client = server.http()
        client.send(f"POST /late/reads_body HTTP/1.1\r\nHost: a\r\n{framing}\r\n\r\n")
        assert client.read_response().status == 504
        # What else would come is the rest of a body, and no request.
        assert client.closed_by_peer()
        assert line_of(server, "/late/reads_body").cancelled == "deadline"


class TestNeighbours:
    def test_they_notice_nothing(self, serve_asgi):
        server = serve_asgi("asgi_deadline", "--request-timeout", "/late=0.3", cores=60)
        late = [server.http() for _ in range(30)]
        kinds = list(ENDS)
        for number, client in enumerate(late):
            client.send_request(target=f"/late/{kinds[number % len(kinds)]}?name=l{number}")
        others = [server.http() for _ in range(30)]
        for number, client in enumerate(others):
            client.send_request(target=f"/in_time?name=n{number}&seconds=0.05&times=10")
        assert [client.read_response().status for client in late] == [504] * 30
        for number, client in enumerate(others):
            assert client.read_response().body == b"n%d" % number

    def test_waiting_for_a_core_does_not_count(self, serve_asgi):
        server = serve_asgi(
            "asgi_deadline", "--request-timeout", "/late=0.5", cores=2, allow=[FULL]
        )
        busy = [server.http() for _ in range(2)]
        for client in busy:
            client.send_request(target="/in_time?name=busy&seconds=0.9&times=1")
        parked = [server.http() for _ in range(4)]
        for client in parked:
            client.send_request(target="/late/in_time?name=parked&seconds=0.01&times=1")
        for client in busy + parked:
            assert client.read_response().status == 200


class TestOfItsOwn:
    """uwsgi.set_user_harakiri()"""

    HARAKIRI = r"HARAKIRI \(user\): core \d+ is cancelled: GET /allows_itself"

    def test_late(self, server):
        target = "/allows_itself?name=own&seconds=1"
        assert server.get(target).status == 504
        line = line_of(server, target)
        assert (line.status, line.cancelled) == (504, "deadline")
        assert said(server, "own") == ["CancelledError"]
        server.wait_for_log(self.HARAKIRI)

    def test_taken_back(self, server):
        answer = server.get("/allows_itself?name=own&seconds=1&back=1")
        assert answer.body == b"taken back"
        assert server.count_log(self.HARAKIRI) == 0
