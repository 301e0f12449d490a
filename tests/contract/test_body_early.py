"""Bodies that are read while they come (`--body-early`): only their own request waits."""

from __future__ import annotations

import hashlib
import json
import signal

import pytest

from tests.harness.http import chunked
from tests.harness.uwsgi import packet, variables
from tests.harness.waiting import until
from tests.test_input import METHODS, TEXT

APP = "contract_early"
EARLY = ("--body-early", "/early")

CLIENT_CLOSED = "the client closed the connection in the middle of the request body"

pytestmark = pytest.mark.usefixtures("suspending")


def head(view, length=None, *fields, prefix="early"):
    """A request's head; without a length the body is chunked."""
    framing = "Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}"
    lines = [f"POST /{prefix}/{view} HTTP/1.1", "Host: a", framing, *fields]
    return "\r\n".join(lines).encode() + b"\r\n\r\n"


def post(client, view, body, *fields):
    client.send(head(view, len(body), *fields) + body)
    return client.read_response()


def bytes_of(size):
    return (hashlib.sha256(b"early").digest() * (size // 32 + 1))[:size]


@pytest.fixture
def server(serve_engine):
    return serve_engine(APP, *EARLY)


def test_each_byte_is_read_as_it_comes(server):
    client = server.http()
    client.send(head("echo"))
    for letter in b"abcdefgh":
        client.send(chunked(bytes([letter]), last=b""))
        if letter == ord("a"):
            assert client.read_head().status == 200
        assert client.read_chunk() == bytes([letter])
    client.send(b"0\r\n\r\n")
    assert client.read_chunk() == b""
    (line,) = server.wait_requests(1)
    # Every piece is yielded; it is waited for only where the client was not quicker.
    assert line.switches >= 8


def test_neighbours_are_served_while_a_body_drips(server):
    slow = [server.http() for _ in range(3)]
    for client in slow:
        client.send(head("lets_fail", 6) + b"abc")
    quick = server.http()
    for _ in range(5):
        assert quick.get("/early/hello").json() == "hello"
    big = server.http()
    body = bytes_of(3_000_000)
    big.send(head("digest", len(body)) + body[:1_000_000])
    assert quick.get("/late/hello").json() == "hello"
    big.send(body[1_000_000:])
    assert big.read_response().json() == [len(body), hashlib.sha256(body).hexdigest()]
    for client in slow:
        client.send(b"def")
        assert client.read_response().json() == "abcdef"
    lines = server.wait_requests(10)
    assert [line.uri for line in lines[-3:]] == ["/early/lets_fail"] * 3
    # Each has waited for its body; a hello has not.
    assert all(line.switches > lines[0].switches for line in lines[-3:])


@pytest.mark.parametrize("pieces", [None, 1], ids=["whole", "dripped"])
@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_every_way_of_reading(serve_engine, framing, pieces):
    server = serve_engine("input_methods", "--body-early", "/")
    client = server.http()
    body = TEXT
    if framing == "chunked":
        body = chunked(*[body[i : i + 5] for i in range(0, len(body), 5)])
    for method, expected in METHODS.items():
        client.send(
            head(method, len(TEXT) if framing == "length" else None).replace(b"/early/", b"/")
        )
        if pieces:
            client.send_pieces(body, pieces)
        else:
            client.send(body)
        answer = client.read_response()
        assert answer.status == 200, method
        assert answer.json() == expected, method
        if answer.header("Connection") == "close":
            assert method in ("readinto", "read_nothing"), "the others read all of it"
            client = server.http()
    assert len(server.wait_requests(len(METHODS))) == len(METHODS)


@pytest.mark.parametrize("view", ["digest", "digest_pieces"])
@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_twenty_megabytes(server, view, framing):
    body = bytes_of(20_000_000)
    client = server.http()
    if framing == "length":
        client.send(head(view, len(body)) + body)
    else:
        client.send(head(view))
        client.send(chunked(*[body[i : i + 70_000] for i in range(0, len(body), 70_000)]))
    assert client.read_response().json() == [len(body), hashlib.sha256(body).hexdigest()]
    (line,) = server.wait_requests(1)
    # At the latest after each 256 KiB others have their turn.
    assert line.switches >= 70


def test_body_that_has_come_is_read_without_a_switch(server):
    client = server.http()
    assert client.get("/early/hello").json() == "hello"
    assert post(client, "lets_fail", b"small").json() == "small"
    hello, small = server.wait_requests(2)
    assert small.switches == hello.switches


def test_reading_may_begin_late_and_the_connection_is_kept(server):
    client = server.http()
    for body in (b"one", b"", bytes(range(65, 91)) * 1000):
        answer = post(client, "later", body)
        assert answer.json() == body.decode()
        assert answer.header("Connection") is None
    # Pipelined: each request behind the body of the one before.
    client.send(b"".join(head("later", 3) + body for body in (b"abc", b"def", b"ghi")))
    assert [client.read_response().json() for _ in range(3)] == ["abc", "def", "ghi"]
    assert {line.status for line in server.wait_requests(6)} == {200}


def test_request_elsewhere_starts_with_its_whole_body(server):
    client = server.http()
    client.send(head("surface", 4, prefix="late") + b"body")
    found = client.read_response().json()
    assert (found["seekable"], found["tell"]) == (True, "returned 0")
    client.send(head("surface", 4, prefix="earlier") + b"body")
    assert client.read_response().json()["seekable"] is True


@pytest.mark.parametrize("length", [4, None], ids=["length", "chunked"])
def test_file_object_cannot_seek(server, length):
    client = server.http()
    client.send(head("surface", length) + (b"body" if length else chunked(b"bo", b"dy")))
    found = client.read_response().json()
    for call in ("seek", "tell"):
        assert found.pop(call).startswith(f"UnsupportedOperation: {call}: ")
    assert found == {
        "seekable": False,
        "readable": True,
        "buffered": True,
        "length": "4" if length else None,
        "terminated": True,
        "body": "body",
        "after": "b''",
        "closed": "ValueError: I/O operation on closed file.",
    }


def test_client_that_closes_its_side_fails_the_read_and_gets_the_answer(server):
    client = server.http()
    client.send(head("fails", 10) + b"abc")
    client.half_close()
    error = f"OSError: {CLIENT_CLOSED}"
    answer = client.read_response()
    assert answer.json() == ["abc", error, error]
    assert answer.header("Connection") == "close"
    assert client.closed_by_peer()
    (line,) = server.wait_requests(1)
    assert line.status == 200


def test_client_that_resets_fails_the_read(server):
    other = server.http()
    other.get("/early/report")
    client = server.http()
    client.send(head("fails", 10) + b"abc")
    # On a connection that came later: when it is answered, the other request has begun.
    assert server.get("/early/hello").json() == "hello"
    client.reset()
    error = f"OSError: {CLIENT_CLOSED}"
    assert until(lambda: other.get("/early/report").json(), "the failed read") == [
        ["abc", error, error]
    ]
    server.wait_for_log(CLIENT_CLOSED + ", after 3 bytes of it")


@pytest.mark.parametrize(
    ("options", "body", "status"),
    [
        (("--limit-post", "10"), chunked(b"123456", b"789012"), 413),
        ((), b"3\r\nabc\r\nnonsense", 400),
        (("--body-timeout", "1"), b"3\r\nabc\r\n", 408),
    ],
    ids=["too-large", "malformed", "too-slow"],
)
def test_failed_body_is_answered_when_nobody_else_does(serve_engine, options, body, status):
    server = serve_engine(APP, *EARLY, *options, allow=["Traceback", "OSError"])
    client = server.http()
    client.send(head("lets_fail") + body)
    answer = client.read_response()
    assert (answer.status, answer.header("Connection")) == (status, "close")
    assert client.closed_by_peer()
    client = server.http()
    client.send(head("fails") + body)
    before, *errors = client.read_response().json()
    assert before in ("abc", "123456")
    assert len(set(errors)) == 1
    assert errors[0].startswith("OSError: ")
    assert [line.status for line in server.wait_requests(2)] == [status, 200]


def test_announced_length_above_the_limit_is_refused_at_once(serve_engine):
    server = serve_engine(APP, *EARLY, "--limit-post", "10")
    client = server.http()
    client.send(head("lets_fail", 11))
    assert client.read_response().status == 413
    assert client.closed_by_peer()
    assert server.log_requests() == []


def test_only_the_wait_for_the_client_counts_against_it(serve_engine):
    server = serve_engine(APP, *EARLY, "--body-timeout", "1")
    client = server.http()
    client.send(head("patient", 8))
    # The application has spent more time than the client may.
    assert client.read_head().status == 200
    assert client.read_chunk() == b"reading"
    client.send(b"the body")
    assert client.read_chunk() == b"the body"
    assert client.read_chunk() == b""
    (line,) = server.wait_requests(1)
    # The sleep and two parts; the body may have come before it was asked for.
    assert line.switches >= 3


def test_continue_is_sent_when_the_application_reads(server):
    client = server.http()
    client.send(head("lets_fail", 4, "Expect: 100-continue"))
    assert client.read_head().status == 100
    client.send(b"body")
    answer = client.read_response()
    assert (answer.json(), answer.header("Connection")) == ("body", None)
    client.send(head("unread", 4, "Expect: 100-continue"))
    answer = client.read_head()
    assert (answer.status, answer.header("Connection")) == (200, "close")
    assert client.read_body(answer).json() == "not read"
    assert len(server.wait_requests(2)) == 2


def test_unread_body_is_thrown_away_if_it_is_there(server):
    client = server.http()
    for view, expected in (("unread", "not read"), ("first", "GET")):
        client.send(head(view, 20) + b"GET / HTTP/1.1\r\nX: y")
        answer = client.read_response()
        assert (answer.json(), answer.header("Connection")) == (expected, None)
    assert client.get("/early/hello").json() == "hello"


def test_unread_body_that_is_still_to_come_ends_the_connection(server):
    client = server.http()
    client.send(head("first", 1_000_000) + b"abc")
    answer = client.read_response()
    assert (answer.json(), answer.header("Connection")) == ("abc", "close")
    # The answer was not lost to a reset, and the rest is nobody's request.
    client.send(b"GET /early/hello HTTP/1.1\r\nHost: a\r\n\r\n")
    assert client.closed_by_peer()
    assert len(server.wait_requests(1)) == 1


def test_thread_of_the_application_must_not_read(server):
    error, body = post(server.http(), "thread", b"body").json()
    assert error.startswith("RuntimeError: wsgi.input was read on a thread of the application")
    assert body == "body"


def test_greenlet_of_the_application_must_not_read(engine, server):
    pytest.importorskip("greenlet")
    error, body = post(server.http(), "greenlets", b"body").json()
    assert error.startswith("RuntimeError: wsgi.input was read on another coroutine")
    assert body == "body"


def test_input_must_not_outlive_its_request(server):
    client = server.http()
    assert post(client, "keep", b"kept").json() == "kept"
    error, body = post(client, "use_kept", b"new").json()
    assert error == "RuntimeError: wsgi.input was read after the end of its request"
    assert body == "new"


@pytest.mark.engines("greenlet")
def test_interrupted_read_loses_nothing(engine, server):
    """Only a greenlet can be thrown an exception by the application."""
    client = server.http()
    client.send(head("interrupted", 12) + b"one\ntw")
    other = server.http()
    assert other.get("/early/throw").json() == "thrown"
    client.send(b"o\nend.")
    assert client.read_response().json() == ["'thrown'", "one\n", "two\nend."]


def test_chunked_read_returns_what_has_come(server):
    client = server.http()
    client.send(head("chunks") + chunked(b"ab", b"cd"))
    assert "".join(client.read_response().json()) == "abcd"
    client.send(head("chunks_nb"))
    other = server.http()
    assert other.get("/early/chunk_is_missed").json() == "missed"
    client.send(chunked(b"late"))
    found = client.read_response().json()
    assert found[0] is None
    assert "".join(filter(None, found)) == "late"


def test_chunked_read_gives_up_after_its_timeout(server):
    client = server.http()
    client.send(head("chunk_timeout") + chunked(b"one", last=b""))
    assert client.read_head().status == 200
    assert client.read_chunk() == b"one"
    assert client.read_chunk() == b"OSError: unable to receive chunked part: nothing came in time"
    client.send(chunked(b"two"))
    assert client.read_chunk() == b"two"
    assert client.read_chunk() == b""
    (line,) = server.wait_requests(1)
    # Three parts and the wait in vain; the others end where the client is quicker.
    assert line.switches >= 4


def test_over_the_uwsgi_protocol(serve_engine):
    server = serve_engine(APP, *EARLY, uwsgi="127.0.0.1:0")
    client = server.packets()
    client.send(packet(variables("POST", "/early/echo", length=6)) + b"abc")
    while b"\r\n\r\nabc" not in client.buffer:
        assert client.fill()
    client.send(b"def")
    assert client.read_to_end().endswith(b"\r\n\r\nabcdef")


def test_http_1_0(server):
    client = server.http()
    client.send(b"POST /early/later HTTP/1.0\r\nContent-Length: 6\r\n\r\nabc")
    assert server.get("/early/hello").json() == "hello"
    client.send(b"def")
    assert json.loads(client.read_to_end().partition(b"\r\n\r\n")[2]) == "abcdef"


def test_requests_that_wait_for_a_core_lose_nothing(serve_engine):
    server = serve_engine(APP, *EARLY, cores=2, allow=["async queue is full"])
    slow = [server.http() for _ in range(2)]
    for client in slow:
        client.send(head("lets_fail", 4) + b"sl")
    body = bytes_of(300_000)
    parked = server.http()
    parked.send(head("digest", len(body)) + body[:100_000])
    server.wait_for_log("async queue is full")
    for client in slow:
        client.send(b"ow")
        assert client.read_response().json() == "slow"
    parked.send(body[100_000:])
    assert parked.read_response().json() == [len(body), hashlib.sha256(body).hexdigest()]


def test_deadline_ends_a_request_that_reads(serve_engine):
    server = serve_engine(APP, *EARLY, "--request-timeout", "/early/cancelled=1")
    client = server.http()
    client.send(head("cancelled", 10) + b"abc")
    answer = client.read_response()
    assert (answer.status, answer.header("Connection")) == (504, "close")
    assert server.get("/early/report").json() == ["deadline"]


def test_stop_does_not_wait_for_ever(fresh_engine):
    server = fresh_engine(APP, *EARLY, "--worker-reload-mercy", "1", allow=["Traceback", "OSError"])
    client = server.http()
    client.send(head("cancelled", 10) + b"abc")
    assert server.get("/early/hello").json() == "hello"
    server.signal(signal.SIGTERM)
    assert server.wait_exit() == 0
