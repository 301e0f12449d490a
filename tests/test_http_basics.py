"""HTTP/1.1 as an ordinary client sees it: persistence, framing, limits, interim answers."""

from __future__ import annotations

import re

import pytest

from tests.harness.http import chunked

IMF_DATE = re.compile(
    r"(Mon|Tue|Wed|Thu|Fri|Sat|Sun), \d\d (Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) "
    r"\d{4} \d\d:\d\d:\d\d GMT"
)


def test_hello(serve, modes):
    answer = serve("hello", *modes).get("/")
    assert (answer.version, answer.status, answer.reason) == ("HTTP/1.1", 200, "OK")
    assert answer.body == b"hello\n"
    assert answer.header("content-type") == "text/plain"


def test_keep_alive_is_the_default(serve, modes):
    client = serve("hello", *modes).http()
    for _ in range(20):
        answer = client.get("/")
        assert answer.status == 200
        assert answer.body == b"hello\n"
        assert (answer.header("connection") or "").lower() != "close"


def test_connection_close_is_honoured(serve, modes):
    client = serve("hello", *modes).http()
    answer = client.get("/", Connection="close")
    assert answer.header("connection").lower() == "close"
    assert client.closed_by_peer()


@pytest.mark.parametrize("value", ["Close", "keep-alive, close", "close, x-other", " close "])
def test_connection_close_is_a_token_in_a_list(serve, value):
    client = serve("hello").http()
    client.get("/", Connection=value)
    assert client.closed_by_peer()


def test_http_1_0_closes(serve, modes):
    client = serve("hello", *modes).http()
    answer = client.request(version="HTTP/1.0")
    assert answer.body == b"hello\n"
    assert client.closed_by_peer()


def test_http_1_0_keep_alive_on_request(serve, modes):
    client = serve("hello", *modes).http()
    for _ in range(3):
        answer = client.request(version="HTTP/1.0", headers=[("Connection", "keep-alive")])
        assert answer.header("connection").lower() == "keep-alive"
        assert answer.framing == "length"
        assert answer.body == b"hello\n"


def test_http_1_0_never_gets_chunks(serve, modes):
    client = serve("stream", *modes).http()
    answer = client.request(target="/5", version="HTTP/1.0")
    assert answer.framing == "close"
    assert answer.body.count(b"\n") == 5


def test_pipelined_requests_are_answered_in_order(serve, modes):
    client = serve("echo", *modes).http()
    client.send(b"".join(b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % n for n in range(30)))
    assert [client.read_response().json()["path"] for _ in range(30)] == [
        f"/{n}" for n in range(30)
    ]


def test_pipelined_requests_with_bodies(serve, modes):
    client = serve("echo", *modes).http()
    body = chunked(b"abc", b"defg")
    client.send(
        b"POST /1 HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n12345"
        b"POST /2 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + body + b"GET /3 "
        b"HTTP/1.1\r\nHost: a\r\n\r\n"
    )
    found = [client.read_response().json() for _ in range(3)]
    assert [(f["path"], f["length"]) for f in found] == [("/1", 5), ("/2", 7), ("/3", 0)]


def test_bytes_one_by_one(serve, modes):
    client = serve("echo", *modes).http()
    client.send_pieces(b"POST /p HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello")
    assert client.read_response().json()["length"] == 5
    client.send_pieces(
        b"POST /c HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked(b"ab", b"c")
    )
    assert client.read_response().json()["length"] == 3


def test_an_unread_body_does_not_disturb_the_next_request(serve, modes):
    client = serve("hello", *modes).http()
    for _ in range(3):
        assert client.request("POST", body=b"GET /evil HTTP/1.1\r\n\r\n" * 100).status == 200
    assert client.get("/").body == b"hello\n"


def test_empty_lines_before_a_request_are_ignored(serve):
    client = serve("hello").http()
    client.send(b"\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n")
    assert client.read_response().body == b"hello\n"
    client.send(b"\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n")
    assert client.read_response().body == b"hello\n"


def test_date(serve, modes):
    client = serve("headers", *modes).http()
    assert IMF_DATE.fullmatch(client.get("/").header("date"))
    assert client.get("/date").get_all("date") == ["Thu, 01 Jan 1970 00:00:00 GMT"]


def test_a_list_of_one_has_a_length(serve, modes):
    answer = serve("hello", *modes).http().get("/")
    assert answer.framing == "length"
    assert answer.header("content-length") == "6"


def test_a_generator_is_chunked(serve, modes):
    client = serve("stream", *modes).http()
    for _ in range(3):
        answer = client.get("/4")
        assert answer.framing == "chunked"
        assert answer.body == b"".join((b"%d\n" % n).rjust(10, b".") for n in range(4))


def test_a_long_list_is_complete(serve, modes):
    answer = serve("stream", *modes).http().get("/list/1000?size=1000")
    assert len(answer.body) == 1000 * 1000


def test_a_long_stream_is_complete(serve, modes):
    answer = serve("stream", *modes).http().get("/1000?size=5000")
    assert len(answer.body) == 1000 * 5000
    assert answer.body.count(b"\n") == 1000


def test_an_own_length_is_kept(serve, modes):
    answer = serve("headers", *modes).http().get("/length")
    assert answer.get_all("content-length") == ["6"]
    assert answer.framing == "length"


@pytest.mark.parametrize("how", ["list", "generator", "write"])
@pytest.mark.parametrize("status", [204, 304])
def test_no_body_for_204_and_304(serve, modes, status, how):
    client = serve("bodyless", *modes).http()
    for _ in range(2):
        client.send_request(target=f"/{status}/{how}")
        answer = client.read_response()
        assert answer.status == status
    # Anything after the empty line would be read as the start of this answer.
    assert client.get("/200/list").body == b"somebody"


@pytest.mark.parametrize("how", ["list", "generator", "write"])
def test_no_body_for_head(serve, modes, how):
    client = serve("bodyless", *modes).http()
    for _ in range(2):
        assert client.request("HEAD", f"/200/{how}").status == 200
    assert client.get("/200/list").body == b"somebody"


def test_head_has_the_length_of_get(serve, modes):
    client = serve("hello", *modes).http()
    assert client.request("HEAD").header("content-length") == client.get("/").header(
        "content-length"
    )


class TestExpect:
    def test_100_continue_before_the_body(self, serve, modes):
        client = serve("echo", *modes).http()
        for _ in range(2):
            client.send(
                b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n"
            )
            assert client.read_head().status == 100
            client.send(b"hello")
            assert client.read_response().json()["length"] == 5

    def test_100_continue_with_chunks(self, serve):
        client = serve("echo").http()
        client.send(
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n"
            b"Expect: 100-Continue\r\n\r\n"
        )
        assert client.read_head().status == 100
        client.send(chunked(b"abc"))
        assert client.read_response().json()["length"] == 3

    def test_none_when_the_body_is_there(self, serve):
        client = serve("echo").http()
        client.send(
            b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\nhello"
        )
        head = client.read_head()
        if head.status == 100:
            head = client.read_head()
        assert client.read_body(head).json()["length"] == 5

    def test_none_for_http_1_0(self, serve):
        client = serve("echo").http()
        client.send(b"POST / HTTP/1.0\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\nhello")
        assert client.read_head().status == 200

    def test_too_large_is_refused_before_it_is_sent(self, serve):
        client = serve("echo", "--limit-post", "10").http()
        client.send(
            b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\nExpect: 100-continue\r\n\r\n"
        )
        assert client.read_response().status == 413
        assert client.closed_by_peer()

    def test_unknown_expectation(self, serve):
        client = serve("echo").http()
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\nExpect: something-else\r\n\r\n")
        assert client.read_head().status == 417


class TestLimits:
    def test_413_by_length(self, serve, modes):
        server = serve("echo", "--limit-post", "1000", *modes)
        with server.http() as client:
            assert client.request("POST", body=b"x" * 1000).json()["length"] == 1000
            assert client.request("POST", body=b"x" * 1001).status == 413
            assert client.closed_by_peer()
        assert server.get("/").status == 200

    def test_413_by_chunks(self, serve, modes):
        server = serve("echo", "--limit-post", "1000", *modes)
        with server.http() as client:
            client.send(
                b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
                + chunked(b"x" * 600, b"x" * 600, last=b"")
            )
            assert client.read_response().status == 413
            assert client.closed_by_peer()
        assert server.get("/").status == 200

    def test_413_reaches_a_client_that_only_writes_first(self, serve):
        """Unread bytes in our socket would reset the connection and destroy the answer."""
        client = serve("echo", "--limit-post", "1000").http()
        client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 300000\r\n\r\n")
        client.send(b"x" * 300000)
        assert client.read_response().status == 413

    @pytest.mark.parametrize(
        "head",
        [
            b"GET /" + b"a" * 70000 + b" HTTP/1.1\r\nHost: a\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: a\r\nX-Long: " + b"a" * 70000 + b"\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X-Many: 1\r\n" * 7000 + b"\r\n",
            b"GET / HTTP/1.1\r\nHost: a\r\n" + b"a" * 70000,
        ],
        ids=["target", "value", "number", "endless"],
    )
    def test_431_or_414(self, serve, head):
        server = serve("hello")
        with server.http() as client:
            client.send(head)
            assert client.read_response().status in (431, 414)
            assert client.closed_by_peer()
        assert server.get("/").status == 200

    def test_431_by_buffer_size(self, serve):
        server = serve("hello", "--buffer-size", "2048")
        with server.http() as client:
            assert client.get("/", X_Fits="a" * 1500).status == 200
            client.send(b"GET / HTTP/1.1\r\nHost: a\r\nX-Long: " + b"a" * 3000 + b"\r\n\r\n")
            assert client.read_response().status == 431
            assert client.closed_by_peer()


class TestBadRequests:
    def test_400_closes_and_logs_one_line(self, serve, modes):
        server = serve("hello", *modes)
        with server.http() as client:
            client.send(b"GET / HTTP/1.1\r\nHost: a\r\nno colon\r\n\r\n")
            answer = client.read_response()
            assert answer.status == 400
            assert answer.header("connection").lower() == "close"
            assert client.closed_by_peer()
        server.wait_for_lines(1)
        assert server.get("/").status == 200
        server.wait_requests(1)
        lines = server.wait_for_lines(2)
        assert len(lines) == 2, lines

    def test_a_bad_request_behind_a_good_one(self, serve, modes):
        client = serve("hello", *modes).http()
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\nrubbish\r\n\r\nGET / HTTP/1.1\r\n\r\n")
        assert client.read_response().status == 200
        assert client.read_response().status == 400
        assert client.closed_by_peer()

    def test_an_empty_connection_is_silent(self, serve, modes):
        server = serve("hello", *modes)
        for _ in range(5):
            server.http().close()
        assert server.get("/").status == 200
        server.wait_requests(1)
        assert len(server.lines_after_ready()) == 1, server.lines_after_ready()

    @pytest.mark.parametrize(
        ("line", "statuses"),
        [
            (b"GET / HTTP/2.0", {505, 400}),
            (b"GET / HTTP/1.2", {200, 505}),
            (b"GET / HTTP/0.9", {505, 400}),
            (b"GET /", {400}),
            (b"GET  / HTTP/1.1", {400}),
            (b"GET / HTTP/1.1 ", {400}),
            (b"G\xc3\x89T / HTTP/1.1", {400}),
            (b"GET /\x00 HTTP/1.1", {400}),
            (b"GET / http/1.1", {400, 505}),
            (b"GET / HTTP/1.1x", {400, 505}),
            (b"PRI * HTTP/2.0", {505, 400}),
        ],
    )
    def test_request_lines(self, serve, line, statuses):
        server = serve("hello")
        with server.http() as client:
            client.send(line + b"\r\nHost: a\r\nConnection: close\r\n\r\n")
            assert client.read_response().status in statuses
            assert client.closed_by_peer()
        assert server.get("/").status == 200

    def test_other_methods_reach_the_application(self, serve):
        client = serve("echo").http()
        for method in ("PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND", "X-OWN"):
            assert client.request(method).json()["method"] == method
