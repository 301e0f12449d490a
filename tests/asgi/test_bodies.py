"""Bodies of requests as messages: collected, streamed, waited for, cut off and left unread."""

from __future__ import annotations

import contextlib
import hashlib

import pytest

from tests.harness.asking import ask, notes_of
from tests.harness.http import Malformed, Truncated, chunked
from tests.harness.waiting import until

MIB = 1 << 20
COLLECTED = 65_536
"""Up to this size a body with a length is there before its request takes a core."""
SIZES = [0, 1, 1000, COLLECTED, COLLECTED + 1, MIB]


def content(size):
    return (hashlib.sha256(b"body").digest() * (size // 32 + 1))[:size]


def is_whole(answer, sent):
    assert answer.status == 200
    said = answer.json()
    assert said["length"] == len(sent)
    assert said["sha256"] == hashlib.sha256(sent).hexdigest()
    assert said["largest"] <= COLLECTED
    return said


def head(target, length=None, *fields):
    framing = "Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}"
    lines = [f"POST {target} HTTP/1.1", "Host: a", framing, *fields]
    return "\r\n".join(lines).encode() + b"\r\n\r\n"


def pieces_of(body, size):
    return [body[at : at + size] for at in range(0, len(body), size)]


@pytest.fixture
def server(serve_asgi):
    return serve_asgi("asgi_bodies", uwsgi="127.0.0.1:0")


def is_over(client):
    """Answered or cut: whatever comes, the connection ends."""
    try:
        answer = client.read_response()
    except (Truncated, Malformed, ConnectionResetError):
        return None
    return answer.status


def goes_on(client, answer):
    """The connection, unless the head said that it would not: it left before the body was there."""
    if answer.header("connection") == "close":
        assert client.closed_by_peer()
    else:
        assert client.get("/hello").body == b"hello\n"


class TestWhole:
    def test_with_a_length(self, server):
        client = server.http()
        for size in SIZES:
            is_whole(client.request("POST", "/collect", body=content(size)), content(size))

    def test_chunked(self, server):
        client = server.http()
        for size in SIZES:
            client.send(head("/collect") + chunked(*pieces_of(content(size), 8191)))
            is_whole(client.read_response(), content(size))

    def test_none(self, server):
        said = is_whole(server.get("/collect"), b"")
        assert said["times"] == 1

    def test_small_ones_are_one_message_and_no_switch(self, server):
        said = is_whole(server.request("POST", "/collect", body=content(5000)), content(5000))
        assert said["times"] == 1
        assert server.wait_requests(1)[0].switches == 0

    @pytest.mark.parametrize("size", [3, 1000])
    def test_packets(self, server, size):
        body = content(size)
        is_whole(server.packets().ask("POST", "/collect", body=body), body)

    def test_a_large_one_in_packets(self, server):
        body = content(MIB)
        is_whole(server.packets().ask("POST", "/collect", body=body), body)

    def test_twenty_megabytes(self, server):
        """It streams through a buffer; nobody keeps it."""
        body = content(20 * MIB)
        is_whole(server.request("POST", "/collect", body=body), body)


class TestDripping:
    @pytest.mark.parametrize("length", [True, False])
    def test_byte_by_byte(self, server, length):
        body = content(300)
        client = server.http()
        client.send(head("/collect", len(body) if length else None))
        sent = body if length else chunked(*pieces_of(body, 1))
        client.send_pieces(sent)
        is_whole(client.read_response(), body)

    def test_each_piece_is_echoed_as_it_comes(self, server):
        client = server.http()
        client.send(head("/echo"))
        for letter in b"abcdefgh":
            client.send(chunked(bytes([letter]), last=b""))
            if letter == ord("a"):
                answer = client.read_head()
                assert answer.status == 200
            assert client.read_chunk() == bytes([letter])
        client.send(b"0\r\n\r\n")
        assert client.read_chunk() == b""
        goes_on(client, answer)

    def test_a_long_one_is_echoed_as_it_comes(self, server):
        """The same with a length above what is collected."""
        client = server.http()
        client.send(head("/echo", 5 * COLLECTED))
        for number, piece in enumerate(pieces_of(content(5 * COLLECTED), COLLECTED)):
            client.send(piece)
            if number == 0:
                assert client.read_head().status == 200
            got = b""
            while len(got) < COLLECTED:
                got += client.read_chunk()
            assert got == piece
        assert client.read_chunk() == b""

    def test_a_short_one_takes_no_core_before_it_is_there(self, server):
        client = server.http()
        client.send(head("/started?name=short", 10) + b"12345")
        assert ask(server, "/notes") == []
        client.send(b"67890")
        assert client.read_response().body == b"10"
        assert ask(server, "/notes") == ["short started", "short complete"]

    @pytest.mark.parametrize("length", [COLLECTED + 1, None])
    def test_others_start_with_the_head(self, server, length):
        client = server.http()
        client.send(head("/started?name=long", length))
        assert notes_of(server, 1) == ["long started"]
        body = content(COLLECTED + 1)
        client.send(body if length else chunked(body))
        assert client.read_response().body == b"%d" % len(body)
        assert ask(server, "/notes") == ["long complete"]

    def test_neighbours_are_served(self, server):
        clients = [server.http() for _ in range(4)]
        body = content(2 * COLLECTED)
        for client in clients:
            client.send(head("/collect", len(body)))
            client.send(body[:COLLECTED])
        for _ in range(5):
            assert server.get("/hello").body == b"hello\n"
        for client in clients:
            client.send(body[COLLECTED:])
            is_whole(client.read_response(), body)


class TestBothWays:
    def test_at_the_same_time(self, server):
        """A client that reads nothing before it has sent everything."""
        client = server.http()
        body = content(MIB)
        client.send(head("/both_ways", len(body)))
        answer = client.read_head()
        for piece in pieces_of(body, 100_000):
            client.send(piece)
        found = client.read_body(answer).body
        assert found == b"w" * 1_000_000 + b"%d 1000000" % len(body)

    def test_the_answer_may_begin_first(self, server):
        client = server.http()
        client.send(head("/late_answer", 2 * COLLECTED))
        answer = client.read_head()
        assert client.read_chunk() == b"begun "
        client.send(content(2 * COLLECTED))
        assert client.read_body(answer).body == b"%d" % (2 * COLLECTED)
        goes_on(client, answer)


class TestContinue:
    @pytest.mark.parametrize("length", [5, 2 * COLLECTED, None])
    def test_before_the_body(self, server, length):
        client = server.http()
        client.send(head("/collect", length, "Expect: 100-continue"))
        assert client.read_head().status == 100
        body = content(length or 5)
        client.send(body if length else chunked(body))
        is_whole(client.read_response(), body)
        assert client.get("/hello").body == b"hello\n"

    @pytest.mark.parametrize("length", [2 * COLLECTED, None])
    def test_only_for_who_reads(self, server, length):
        """Who does not want the body answers without it, and the client need not send it."""
        client = server.http()
        client.send(head("/never", length, "Expect: 100-continue"))
        answer = client.read_head()
        assert answer.status == 200
        assert client.read_body(answer).body == b"never read"

    def test_with_the_first_receive(self, server):
        client = server.http()
        client.send(head("/late", 2 * COLLECTED, "Expect: 100-continue"))
        until(lambda: ask(server, "/waiting") == 1, "it waits")
        assert not client.buffer
        ask(server, "/go")
        assert client.read_head().status == 100
        client.send(content(2 * COLLECTED))
        assert client.read_response().body == b"%d" % (2 * COLLECTED)


class TestUnread:
    @pytest.mark.parametrize("target", ["/never", "/one_message"])
    @pytest.mark.parametrize("size", [10, COLLECTED, 2 * COLLECTED, MIB])
    def test_with_a_length(self, server, target, size):
        self.next_one_is_right(server, head(target, size) + content(size))

    @pytest.mark.parametrize("target", ["/never", "/one_message"])
    @pytest.mark.parametrize("size", [10, 2 * COLLECTED])
    def test_chunked(self, server, target, size):
        body = content(size)
        self.next_one_is_right(server, head(target) + chunked(*pieces_of(body, 5000)))

    def next_one_is_right(self, server, request):
        """Kept or closed, but never is a body taken for a request."""
        client = server.http()
        with contextlib.suppress(OSError):
            client.send(request)
        answer = client.read_response()
        assert answer.status == 200
        assert answer.body in (b"never read", b"read a piece")
        closes = answer.header("connection") == "close"
        try:
            client.send(b"GET /hello HTTP/1.1\r\nHost: a\r\n\r\n")
            assert client.read_response().body == b"hello\n"
            assert not closes
        except (OSError, Truncated):
            pass
        # A body is all letters and control bytes: as a request it would have been refused.
        lines = server.log_requests()
        assert {line.status for line in lines} <= {200}
        assert server.get("/hello").body == b"hello\n"

    def test_one_that_has_not_come(self, server):
        """The response does not wait for bytes that nobody has asked for."""
        client = server.http()
        client.send(head("/never", MIB))
        assert client.read_response().body == b"never read"

    def test_a_body_that_looks_like_a_request(self, server):
        evil = b"GET /evil HTTP/1.1\r\nHost: a\r\n\r\n"
        for target in ("/never", "/one_message"):
            client = server.http()
            client.send(head(target, len(evil)) + evil)
            assert client.read_response().status == 200
            client.send(head(target) + chunked(evil))
        assert server.get("/hello").body == b"hello\n"
        assert not [line for line in server.log_requests() if "evil" in line.uri]


class TestReceive:
    def test_after_the_end(self, server):
        client = server.http()
        for body in (b"", b"some"):
            answer = client.request("POST", "/after_the_end", body=body)
            assert answer.body == b"waits"
            assert notes_of(server, 2) == ["http.disconnect", "http.disconnect"]

    @pytest.mark.parametrize("size", [1000, 5 * COLLECTED])
    def test_by_two_tasks(self, server, size):
        answer = server.request("POST", "/two_readers", body=content(size))
        assert answer.body == b"%d" % size

    def test_given_up_and_asked_again(self, server):
        client = server.http()
        body = content(1000)
        client.send(head("/cancelled_receive"))
        client.send_pieces(chunked(*pieces_of(body, 100)), 50)
        assert client.read_response().body == body


INCOMPLETE = {
    "a length": (2 * COLLECTED, b"x" * 1000),
    "nothing yet": (2 * COLLECTED, b""),
    "a chunk": (None, b"5\r\nab"),
    "between chunks": (None, b"5\r\nabcde\r\n"),
    "a chunk's size": (None, b"1"),
}
BAD_CHUNKS = [b"x\r\n", b"5\r\nabcdefgh\r\n", b"-1\r\n", b"fffffffffffffffff\r\n"]


class TestCutOff:
    @pytest.mark.parametrize("ending", ["close", "reset"])
    @pytest.mark.parametrize("where", INCOMPLETE)
    def test_the_client_is_gone(self, server, where, ending):
        length, begun = INCOMPLETE[where]
        client = server.http()
        client.send(head("/started?name=cut", length) + begun)
        assert notes_of(server, 1) == ["cut started"]
        getattr(client, ending)()
        assert notes_of(server, 1) == ["cut disconnected"]
        assert server.get("/hello").body == b"hello\n"

    def test_in_what_is_collected(self, server):
        """The application never hears of it."""
        client = server.http()
        client.send(head("/started?name=cut", 1000) + b"half")
        client.close()
        for _ in range(3):
            assert server.get("/hello").body == b"hello\n"
        assert ask(server, "/notes") == []

    def test_half_closed_in_the_middle(self, server):
        """Such a client may still read why."""
        client = server.http()
        client.send(head("/started?name=half", 2 * COLLECTED) + b"half")
        assert notes_of(server, 1) == ["half started"]
        client.half_close()
        assert notes_of(server, 1) == ["half disconnected"]
        assert is_over(client) in (400, None)

    @pytest.mark.parametrize("bad", BAD_CHUNKS)
    def test_malformed_chunks(self, server, bad):
        client = server.http()
        client.send(head("/started?name=bad") + b"3\r\nabc\r\n")
        assert notes_of(server, 1) == ["bad started"]
        client.send(bad)
        assert client.read_response().status == 400
        assert client.closed_by_peer()
        assert notes_of(server, 1) == ["bad disconnected"]

    def test_malformed_chunks_after_the_answer_has_begun(self, server):
        client = server.http()
        client.send(head("/echo") + b"3\r\nabc\r\n")
        answer = client.read_head()
        assert client.read_chunk() == b"abc"
        client.send(b"rubbish\r\n")
        with pytest.raises((Truncated, ConnectionResetError)):
            client.read_body(answer)
        assert notes_of(server, 1) == ["echo disconnected"]

    def test_an_answer_to_an_incomplete_body(self, server):
        """The server's own answer goes first, or the application's; never both."""
        client = server.http()
        client.send(head("/disconnected") + b"3\r\nabc\r\nrubbish\r\n")
        answer = client.read_response()
        assert answer.status in (200, 400)
        assert client.closed_by_peer()


class TestLimits:
    @pytest.fixture
    def server(self, serve_asgi):
        return serve_asgi("asgi_bodies", "--limit-post", "100000")

    def test_by_length(self, server):
        client = server.http()
        body = content(100_000)
        is_whole(client.request("POST", "/collect", body=body), body)
        assert client.request("POST", "/collect", body=b"x" * 100_001).status == 413
        assert client.closed_by_peer()
        assert ask(server, "/notes") == []

    def test_by_chunks(self, server):
        client = server.http()
        client.send(head("/collect?name=large") + chunked(b"x" * 60_000, b"y" * 60_000, last=b""))
        assert client.read_response().status == 413
        assert client.closed_by_peer()
        (note,) = notes_of(server, 1)
        assert note.startswith("large disconnected after ")
        assert int(note.rpartition(" ")[2]) <= 100_000

    def test_too_slow(self, serve_asgi):
        server = serve_asgi("asgi_bodies", "--body-timeout", "0.3", "--body-min-rate", "0")
        client = server.http()
        client.send(head("/started?name=slow", 2 * COLLECTED) + b"half")
        assert client.read_response().status == 408
        assert client.closed_by_peer()
        assert notes_of(server, 2) == ["slow started", "slow disconnected"]
        assert server.get("/hello").body == b"hello\n"
