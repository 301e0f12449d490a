"""What leaves for what an application sends: framing, headers, bodies of all shapes."""

from __future__ import annotations

import pytest


@pytest.fixture
def server(serve_asgi):
    return serve_asgi("asgi_responses", uwsgi="127.0.0.1:0")


class TestFraming:
    def test_a_length_of_its_own(self, server):
        answer = server.http().get("/length")
        assert (answer.body, answer.framing) == (b"abcdef", "length")

    def test_one_part_has_a_length(self, server):
        answer = server.http().get("/one_part")
        assert (answer.body, answer.framing) == (b"one part", "length")

    def test_several_parts_are_chunked(self, server):
        answer = server.http().get("/parts")
        assert (answer.body, answer.framing) == (b"onetwothree", "chunked")

    def test_the_last_part_may_have_bytes(self, server):
        answer = server.http().get("/last_with_bytes")
        assert (answer.body, answer.framing) == (b"onetwo", "chunked")

    @pytest.mark.parametrize("path", ["/empty", "/empty_of"])
    def test_nothing(self, server, path):
        answer = server.http().get(path)
        assert (answer.status, answer.body, answer.framing) == (200, b"", "length")
        assert answer.header("content-length") == "0"

    def test_chunked_of_its_own(self, server):
        """Said once, coded once."""
        answer = server.http().get("/own_chunked")
        assert (answer.body, answer.framing) == (b"onetwo", "chunked")

    def test_http_1_0_has_no_chunks(self, server):
        client = server.http()
        client.send(b"GET /parts HTTP/1.0\r\n\r\n")
        answer = client.read_response()
        assert (answer.body, answer.framing) == (b"onetwothree", "close")

    @pytest.mark.parametrize("path", ["/own_chunked", "/length"])
    def test_http_1_0(self, server, path):
        client = server.http()
        client.send(f"GET {path} HTTP/1.0\r\n\r\n")
        answer = client.read_response()
        assert answer.header("transfer-encoding") is None
        assert answer.body in (b"onetwo", b"abcdef")

    def test_a_thousand_parts(self, server):
        expected = b"".join(b"%d\n" % number for number in range(1000))
        assert server.http().get("/many").body == expected

    def test_five_megabytes(self, server):
        answer = server.http().get("/large")
        assert answer.framing == "length"
        assert answer.body == b"l" * (5 << 20)


class TestWithoutBodies:
    @pytest.mark.parametrize(
        "path", ["/length", "/one_part", "/parts", "/empty", "/large", "/many"]
    )
    def test_head(self, server, path):
        """The head of the GET, and the next response on the connection."""
        client = server.http()
        answer = client.request("HEAD", path)
        assert (answer.status, answer.body) == (200, b"")
        length = answer.header("content-length")
        assert client.get("/hello").body == b"hello\n"
        assert length in (None, client.get(path).header("content-length"))

    @pytest.mark.parametrize("code", [204, 304])
    @pytest.mark.parametrize("path", ["/status", "/body_with_status"])
    def test_status(self, server, path, code):
        client = server.http()
        answer = client.get(f"{path}?code={code}")
        assert (answer.status, answer.body) == (code, b"")
        assert client.get("/hello").body == b"hello\n"

    def test_304_may_say_how_long_it_would_be(self, server):
        client = server.http()
        answer = client.get("/length_with_status?code=304")
        assert (answer.status, answer.body) == (304, b"")
        assert answer.header("content-length") in (None, "4")
        assert client.get("/hello").body == b"hello\n"


@pytest.mark.parametrize("code", [200, 201, 206, 299, 302, 404, 418, 500, 503, 599])
def test_statuses(server, code):
    client = server.http()
    assert client.get(f"/status?code={code}").status == code
    assert client.get("/hello").body == b"hello\n"


def test_kinds_of_bytes(server):
    assert server.get("/kinds").body == b"bytearray memoryview sliced bytes"


def test_a_buffer_that_is_used_again(server):
    """What was sent is what was in it then."""
    expected = b"".join(b"%04d" % number for number in range(200))
    assert server.get("/reused").body == expected


class TestHeaders:
    def test_order_and_repetition(self, server):
        answer = server.http().get("/headers")
        found = [(k.lower(), v) for k, v in answer.headers]
        own = [pair for pair in found if pair[0].startswith(("x-", "set-cookie"))]
        assert own == [
            ("set-cookie", "a=b"),
            ("x-order", "1"),
            ("set-cookie", "c=d"),
            ("x-list", "as a list"),
            ("x-bytes", "\xe9\xff"),
            ("x-empty", ""),
        ]

    def test_iterables(self, server):
        answer = server.http().get("/headers_of_any_kind")
        assert (answer.header("x-a"), answer.header("x-b")) == ("1", "2")

    def test_those_a_server_would_add(self, server):
        answer = server.http().get("/own_server_headers")
        assert answer.header("date") == "Thu, 01 Jan 1970 00:00:00 GMT"
        assert answer.header("server") == "of its own"

    def test_close(self, server):
        client = server.http()
        answer = client.get("/close")
        assert (answer.body, answer.header("connection")) == (b"closes", "close")
        assert client.closed_by_peer()

    def test_a_key_of_an_absent_extension(self, server):
        assert server.get("/trailers_key").body == b"none"


class TestConnections:
    def test_one_after_the_other(self, server):
        client = server.http()
        for path in ["/parts", "/one_part", "/empty", "/length", "/many", "/headers"] * 3:
            assert client.get(path).status == 200

    def test_pipelined(self, server):
        client = server.http()
        client.send(
            "".join(f"GET /{p} HTTP/1.1\r\nHost: a\r\n\r\n" for p in ["parts", "length"] * 5)
        )
        bodies = [client.read_response().body for _ in range(10)]
        assert bodies == [b"onetwothree", b"abcdef"] * 5

    def test_the_client_asks_to_close(self, server):
        client = server.http()
        assert client.get("/parts", Connection="close").body == b"onetwothree"
        assert client.closed_by_peer()


def test_packets(server):
    for path, body in [
        ("/length", b"abcdef"),
        ("/one_part", b"one part"),
        ("/parts", b"onetwothree"),
        ("/own_chunked", b"onetwo"),
        ("/empty", b""),
        ("/large", b"l" * (5 << 20)),
    ]:
        answer = server.packets().ask(path=path)
        assert (answer.status, answer.body) == (200, body)
        assert answer.header("transfer-encoding") is None


def test_request_lines(server):
    for path in ("/length", "/parts", "/empty", "/status?code=404"):
        server.get(path)
    lines = server.wait_requests(4)
    assert [(line.uri, line.status, line.body_bytes) for line in lines] == [
        ("/length", 200, 6),
        ("/parts", 200, 11),
        ("/empty", 200, 0),
        ("/status?code=404", 404, 0),
    ]
    assert {(line.cancelled, line.abandoned) for line in lines} == {(None, False)}
