"""wsgi.input over bodies in memory, spooled to disk, and chunked."""

from __future__ import annotations

import hashlib
import json

import pytest

from tests.harness.http import chunked

TEXT = b"first line\nsecond\n\nlast without end"

METHODS = {
    "read": ["first line\nsecond\n\nlast without end"],
    "read_sized": ["first l", "ine\nsec", "ond\n\nla", "st with", "out end"],
    "read_minus_one": ["first line\nsecond\n\nlast without end", "", ""],
    "read_nothing": ["", "fir", ""],
    "readline": ["first line\n", "second\n", "\n", "last without end"],
    "readline_sized": [
        "firs", "t li", "ne\n", "seco", "nd\n", "\n", "last", " wit", "hout", " end",
    ],
    "readlines": ["first line\n", "second\n", "\n", "last without end"],
    "iterate": ["first line\n", "second\n", "\n", "last without end"],
    "mixed": ["first line\n", "sec", "ond\n", "\nlast without end", ""],
    "readinto": ["first ", "True"],
}  # fmt: skip

SIZES = {"memory": ["--post-buffering", "1000"], "spooled": ["--post-buffering", "8"]}


def send(client, path, body, framing, pieces):
    if framing == "length":
        head = b"Content-Length: %d" % len(body)
    else:
        head = b"Transfer-Encoding: chunked"
        body = chunked(*[body[i : i + 5] for i in range(0, len(body), 5)])
    client.send(b"POST /%s HTTP/1.1\r\nHost: a\r\n%s\r\n\r\n" % (path.encode(), head))
    if pieces:
        client.send_pieces(body, pieces)
    else:
        client.send(body)
    return client.read_response()


@pytest.mark.parametrize("framing", ["length", "chunked"])
@pytest.mark.parametrize("where", SIZES)
def test_methods(serve, modes, where, framing):
    client = serve("input_methods", *SIZES[where], *modes).http()
    for method, expected in METHODS.items():
        answer = send(client, method, TEXT, framing, None)
        assert answer.status == 200, method
        assert json.loads(answer.body) == expected, method


def test_the_hint_of_readlines(serve):
    """PEP 3333 leaves it to the server: whole lines, at least as many as the hint asks for."""
    client = serve("input_methods").http()
    answer = json.loads(send(client, "readlines_hint", TEXT, "length", None).body)
    assert answer in (METHODS["readlines"][:1], METHODS["readlines"])


@pytest.mark.parametrize("framing", ["length", "chunked"])
@pytest.mark.parametrize("where", SIZES)
def test_empty_bodies(serve, where, framing):
    client = serve("input_methods", *SIZES[where]).http()
    for method in ("read", "read_minus_one", "readline", "readlines", "iterate", "read_nothing"):
        answer = json.loads(send(client, method, b"", framing, None).body)
        assert "".join(answer) == "", method


def test_no_body(serve, modes):
    client = serve("input_methods", *modes).http()
    assert client.get("/read").json() == [""]
    assert client.get("/readlines").json() == []


@pytest.mark.parametrize("framing", ["length", "chunked"])
@pytest.mark.parametrize("size", [999, 1000, 1001, 5000])
def test_around_the_memory_limit(serve, modes, size, framing):
    body = bytes(n % 251 for n in range(size))
    client = serve("input_methods", "--post-buffering", "1000", *modes).http()
    for how in ("digest", "digest_at_once"):
        found = json.loads(send(client, how, body, framing, None).body)
        assert found == [str(size), hashlib.sha256(body).hexdigest()]


@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_large(serve, modes, framing):
    body = bytes(range(256)) * 40_000
    client = serve("input_methods", *modes).http()
    if framing == "length":
        answer = client.request("POST", "/digest", body=body)
    else:
        client.send(b"POST /digest HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
        client.send(chunked(*[body[i : i + 100_000] for i in range(0, len(body), 100_000)]))
        answer = client.read_response()
    assert answer.json() == [str(len(body)), hashlib.sha256(body).hexdigest()]


@pytest.mark.parametrize("where", SIZES)
def test_dripped(serve, modes, where):
    client = serve("input_methods", *SIZES[where], *modes).http()
    for framing in ("length", "chunked"):
        answer = send(client, "readline", TEXT, framing, 1)
        assert json.loads(answer.body) == METHODS["readline"]


@pytest.mark.parametrize("where", SIZES)
def test_unread(serve, modes, where):
    """What the application does not read is not the next request."""
    client = serve("input_methods", *SIZES[where], *modes).http()
    for _ in range(3):
        for framing in ("length", "chunked"):
            body = b"GET /evil HTTP/1.1\r\nHost: a\r\n\r\n"
            assert json.loads(send(client, "unread", body, framing, None).body)
    assert client.get("/read").json() == [""]


def test_a_spooled_body_leaves_no_file(serve, tmp_path):
    spool = tmp_path / "spool"
    spool.mkdir()
    server = serve("input_methods", "--post-buffering", "8", env={"TMPDIR": str(spool)})
    assert server.request("POST", "/digest", body=b"x" * 100_000).json()[0] == "100000"
    assert list(spool.iterdir()) == []


@pytest.mark.parametrize("size", [500, 5_000, 3_000_000])
def test_a_body_in_progress_blocks_nobody(serve, modes, size):
    """The core is taken when the body is complete: in memory as well as above the limit."""
    server = serve("input_methods", "--post-buffering", "1000", *modes)
    slow = server.http()
    slow.send(b"POST /digest HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % size)
    slow.send(b"x" * (size - 1))
    for _ in range(5):
        assert server.get("/read").status == 200
    assert len(server.wait_requests(5)) == 5
    slow.send(b"x")
    assert slow.read_response().json() == [str(size), hashlib.sha256(b"x" * size).hexdigest()]


@pytest.mark.parametrize("where", SIZES)
@pytest.mark.parametrize("ending", ["close", "reset", "half_close"])
def test_a_client_that_leaves_in_its_body(serve, modes, where, ending):
    server = serve("input_methods", *SIZES[where], *modes)
    for framing in (b"Content-Length: 100", b"Transfer-Encoding: chunked"):
        client = server.http()
        client.send(b"POST /read HTTP/1.1\r\nHost: a\r\n" + framing + b"\r\n\r\n20\r\nabc")
        getattr(client, ending)()
    assert server.get("/read").json() == [""]
    assert [r.method for r in server.wait_requests(1)] == ["GET"]
