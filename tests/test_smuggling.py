"""Requests whose end two servers could see in two places: refused with 4xx (or 501) and close."""

from __future__ import annotations

import pytest

from tests.harness.http import chunked

HIDDEN = b"GET /hidden HTTP/1.1\r\nHost: a\r\n\r\n"

HEADS = {
    "length and coding": b"Content-Length: 6\r\nTransfer-Encoding: chunked",
    "coding and length": b"Transfer-Encoding: chunked\r\nContent-Length: 6",
    "two lengths": b"Content-Length: 6\r\nContent-Length: 0",
    "two lengths in a list": b"Content-Length: 6, 0",
    "length with a sign": b"Content-Length: +6",
    "negative length": b"Content-Length: -6",
    "hexadecimal length": b"Content-Length: 0x6",
    "length with rubbish": b"Content-Length: 6a",
    "length with a blank inside": b"Content-Length: 6 0",
    "empty length": b"Content-Length: ",
    "length beyond 64 bits": b"Content-Length: 18446744073709551622",
    "length beyond anything": b"Content-Length: " + b"9" * 100,
    "blank before the colon": b"Content-Length : 6",
    "tab before the colon": b"Transfer-Encoding\t: chunked",
    "folded coding": b"Transfer-Encoding:\r\n chunked",
    "folded header": b"X-A: 1\r\n Content-Length: 6",
    "first header line folded": b" Content-Length: 6",
    "unknown coding": b"Transfer-Encoding: xchunked",
    "coding in quotes": b'Transfer-Encoding: "chunked"',
    "identity": b"Transfer-Encoding: identity",
    "chunked is not the last": b"Transfer-Encoding: chunked, gzip",
    "chunked twice": b"Transfer-Encoding: chunked, chunked",
    "chunked in two headers": b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
    "chunked then identity": b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
    "vertical tab": b"Transfer-Encoding: \x0bchunked",
    "null byte in a value": b"X-A: a\x00b\r\nContent-Length: 6",
    "bare CR in a value": b"X-A: a\rContent-Length: 6",
    "bare CR before the end of line": b"X-A: a\r\r\nContent-Length: 6",
    "null byte in a name": b"Content\x00-Length: 6",
    "empty name": b": 6",
    "no colon": b"Content-Length 6",
    "line without anything but blanks": b"X-A: 1\r\n \r\nContent-Length: 6",
}


@pytest.mark.parametrize("name", HEADS)
def test_ambiguous_heads(serve, name):
    server = serve("echo")
    with server.http() as client:
        client.send(
            b"POST /visible HTTP/1.1\r\nHost: a\r\n" + HEADS[name] + b"\r\n\r\n0\r\n\r\n" + HIDDEN
        )
        answer = client.read_response()
        assert 400 <= answer.status < 500 or answer.status == 501, answer
        assert client.closed_by_peer()
    assert server.get("/after").status == 200
    assert [r.uri for r in server.wait_requests(1) if r.status == 200] == ["/after"]


HTTP_1_0_HEADS = {
    "coding in 1.0": b"Transfer-Encoding: chunked",
    "coding and length in 1.0": b"Content-Length: 6\r\nTransfer-Encoding: chunked",
}


@pytest.mark.parametrize("name", HTTP_1_0_HEADS)
def test_codings_in_http_1_0(serve, name):
    client = serve("echo").http()
    client.send(b"POST / HTTP/1.0\r\n" + HTTP_1_0_HEADS[name] + b"\r\n\r\n0\r\n\r\n" + HIDDEN)
    assert client.read_response().status in (400, 501)
    assert client.closed_by_peer()


BODIES = {
    "size without digits": b"\r\nabc\r\n0\r\n\r\n",
    "size with a prefix": b"0x3\r\nabc\r\n0\r\n\r\n",
    "size with a sign": b"+3\r\nabc\r\n0\r\n\r\n",
    "negative size": b"-3\r\nabc\r\n0\r\n\r\n",
    "size with a leading blank": b" 3\r\nabc\r\n0\r\n\r\n",
    "size with an underscore": b"0_3\r\nabc\r\n0\r\n\r\n",
    "size beyond 64 bits": b"10000000000000003\r\nabc\r\n0\r\n\r\n",
    "endless size": b"0" * 100000 + b"3\r\nabc\r\n0\r\n\r\n",
    "chunk longer than its size": b"3\r\nabcdef\r\n0\r\n\r\n",
    "no line end after the data": b"3\r\nabc0\r\n\r\n",
    "bare LF after the size": b"3\nabc\r\n0\r\n\r\n",
    "bare LF after the data": b"3\r\nabc\n0\r\n\r\n",
    "bare LF in an extension": b"3;a\n\r\nabc\r\n0\r\n\r\n",
    "bare CR in an extension": b"3;a\rb\r\nabc\r\n0\r\n\r\n",
    "rubbish after the size": b"3 x\r\nabc\r\n0\r\n\r\n",
    "endless extension": b"3;" + b"x" * 100000 + b"\r\nabc\r\n0\r\n\r\n",
    "bad trailer": b"3\r\nabc\r\n0\r\nno colon\r\n\r\n",
    "endless trailer": b"3\r\nabc\r\n0\r\n" + b"X-A: 1\r\n" * 20000 + b"\r\n",
}


@pytest.mark.parametrize("name", BODIES)
def test_broken_chunks(serve, name):
    server = serve("echo")
    with server.http() as client:
        client.send(b"POST /visible HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
        client.send(BODIES[name] + HIDDEN)
        answer = client.read_response()
        assert 400 <= answer.status < 500, answer
        assert client.closed_by_peer()
    assert server.get("/after").status == 200
    assert [r.uri for r in server.wait_requests(1) if r.status == 200] == ["/after"]


GOOD = {
    "case of the coding": (b"Transfer-Encoding: CHUNKED", chunked(b"abc"), 3),
    "case of the name": (b"tRANSFER-eNCODING: chunked", chunked(b"abc"), 3),
    "blanks around the coding": (b"Transfer-Encoding: \t chunked \t", chunked(b"abc"), 3),
    "upper case size": (b"Transfer-Encoding: chunked", b"A\r\n0123456789\r\n0\r\n\r\n", 10),
    "size with zeros": (b"Transfer-Encoding: chunked", b"0003\r\nabc\r\n000\r\n\r\n", 3),
    "extensions": (b"Transfer-Encoding: chunked", b'3;a=b;c="d"\r\nabc\r\n0;x\r\n\r\n', 3),
    "trailers": (b"Transfer-Encoding: chunked", b"3\r\nabc\r\n0\r\nX-A: 1\r\nX-B: 2\r\n\r\n", 3),
    "length with zeros": (b"Content-Length: 0003", b"abc", 3),
    "length with blanks": (b"Content-Length: \t3 \t", b"abc", 3),
    "no body": (b"X-A: 1", b"", 0),
}


@pytest.mark.parametrize("name", GOOD)
def test_unusual_but_clear(serve, name):
    head, body, length = GOOD[name]
    client = serve("echo").http()
    for _ in range(2):
        client.send(b"POST / HTTP/1.1\r\nHost: a\r\n" + head + b"\r\n\r\n" + body)
        assert client.read_response().json()["length"] == length


def test_the_same_length_twice_is_refused_or_one(serve):
    client = serve("echo").http()
    client.send(
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc" + HIDDEN
    )
    answer = client.read_response()
    assert answer.status == 400
    assert client.closed_by_peer()


def test_trailers_never_become_headers(serve):
    client = serve("echo").http()
    client.send(
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"3\r\nabc\r\n0\r\nX-Evil: 1\r\nHost: b\r\n\r\n"
    )
    headers = client.read_response().json()["headers"]
    assert "HTTP_X_EVIL" not in headers
    assert headers["HTTP_HOST"] == "a"


def test_a_decoded_body_has_no_coding_left(serve):
    """An application that believed the header would decode twice."""
    client = serve("environ").http()
    client.send(
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked(b"abc")
    )
    found = client.read_response().json()
    assert found.get("CONTENT_LENGTH") in (None, "3")


class TestNames:
    def ask(self, serve, *lines: bytes):
        client = serve("echo").http()
        client.send(b"\r\n".join([b"GET / HTTP/1.1", b"Host: a", *lines]) + b"\r\n\r\n")
        return client.read_response().json()["headers"]

    def test_underscores_are_dropped(self, serve):
        headers = self.ask(serve, b"X_Forwarded_For: evil", b"X-Other: 1")
        assert "HTTP_X_FORWARDED_FOR" not in headers
        assert headers["HTTP_X_OTHER"] == "1"

    def test_proxy_is_dropped(self, serve):
        assert "HTTP_PROXY" not in self.ask(serve, b"Proxy: http://evil")

    def test_repeated_values_are_joined(self, serve):
        headers = self.ask(serve, b"X-A: 1", b"Cookie: a=1", b"x-a: 2", b"Cookie: b=2")
        assert headers["HTTP_X_A"] in ("1,2", "1, 2")
        assert headers["HTTP_COOKIE"] == "a=1; b=2"


class TestHost:
    @pytest.mark.parametrize(
        "lines", [b"", b"Host: a\r\nHost: a\r\n", b"Host: a\r\nHost: b\r\n", b"Host: a, b\r\n"]
    )
    def test_none_or_several(self, serve, lines):
        client = serve("hello").http()
        client.send(b"GET / HTTP/1.1\r\n" + lines + b"\r\n")
        assert client.read_response().status == 400
        assert client.closed_by_peer()

    def test_none_in_1_0(self, serve):
        client = serve("hello").http()
        client.send(b"GET / HTTP/1.0\r\n\r\n")
        assert client.read_response().status == 200


def test_the_application_cannot_break_the_framing(serve, modes):
    """A Transfer-Encoding of the application is refused or replaced; never two framings."""
    server = serve("headers", *modes, allow=["(?i)transfer-encoding|hop-by-hop|Traceback|Error"])
    with server.http() as client:
        client.send_request(target="/chunked")
        assert client.read_response().status in (200, 500)
    assert server.get("/").body == b"hello\n"
