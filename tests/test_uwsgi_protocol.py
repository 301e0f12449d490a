"""The uwsgi protocol: packets, bodies, ping, and packets that are none."""

from __future__ import annotations

import hashlib
import struct

import pytest

from tests.harness.uwsgi import block, packet, variables


def serve_packets(serve, app, *options, **how):
    return serve(app, *options, uwsgi="127.0.0.1:0", **how)


def test_hello(serve, modes):
    answer = serve_packets(serve, "hello", *modes).packets().ask()
    assert answer.status == 200
    assert answer.body == b"hello\n"


def test_the_response_is_http_text_without_chunks(serve, modes):
    answer = serve_packets(serve, "stream", *modes).packets().ask(path="/5")
    assert answer.header("transfer-encoding") is None
    assert answer.body.count(b"\n") == 5
    assert len(answer.body) == 50


def test_variables(serve):
    server = serve_packets(serve, "environ")
    found = server.packets().ask(query="a=1&b=2", extra=[("HTTP_X_NAME", "caf\xe9")]).json()
    assert found["QUERY_STRING"] == "a=1&b=2"
    assert found["REMOTE_ADDR"] == "192.0.2.7"
    assert found["REMOTE_PORT"] == "40000"
    assert found["HTTP_X_NAME"] == "caf\xe9"
    assert found["SCRIPT_NAME"] == ""
    assert found["wsgi.url_scheme"] == "http"
    # Stock parameters send these empty when a request has none.
    assert "CONTENT_TYPE" not in found
    assert "CONTENT_LENGTH" not in found


@pytest.mark.parametrize(
    ("scheme", "extra"),
    [
        ("https", [("HTTPS", "on")]),
        ("https", [("UWSGI_SCHEME", "https")]),
        ("http", [("UWSGI_SCHEME", "http"), ("HTTPS", "on")]),
        ("http", [("UWSGI_SCHEME", "evil")]),
        # A client may have said this one.
        ("http", [("HTTP_X_FORWARDED_PROTO", "https")]),
    ],
)
def test_scheme(serve, scheme, extra):
    server = serve_packets(serve, "environ")
    assert server.packets().ask(extra=extra).json()["wsgi.url_scheme"] == scheme


@pytest.mark.parametrize("size", [0, 1, 5, 65536, 1 << 20, 3_000_000])
def test_bodies(serve, modes, size):
    body = bytes(range(256)) * (size // 256 + 1)
    body = body[:size]
    answer = serve_packets(serve, "echo", *modes).packets().ask("POST", body=body).json()
    assert answer["length"] == size
    assert answer["sha256"] == hashlib.sha256(body).hexdigest()


def test_byte_by_byte(serve, modes):
    client = serve_packets(serve, "echo", *modes).packets()
    client.send_pieces(packet(variables("POST", length=5)) + b"hello")
    assert client.read_answer().json()["length"] == 5


def test_one_request_per_connection(serve):
    client = serve_packets(serve, "hello").packets()
    client.send(packet(variables()) * 2)
    head, _, body = client.read_to_end().partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200")
    assert body == b"hello\n"


def test_ping(serve, modes):
    client = serve_packets(serve, "hello", *modes).packets()
    client.send(b"\x64\x00\x00\x00")
    assert client.read_to_end() == b"\x64\x00\x00\x01"


def test_unavailable_modifier(serve, modes):
    server = serve_packets(serve, "hello", *modes)
    client = server.packets()
    client.send(packet(variables(), modifier1=77))
    assert client.closed_by_peer()
    server.wait_for_log(
        r"-- unavailable modifier requested: 77 -- \(client 127\.0\.0\.1:\d+, closed\)$"
    )
    assert server.packets().ask().status == 200
    assert len(server.wait_requests(1)) == 1


GOOD = block(variables())
BAD = {
    "key runs past the end": struct.pack("<BHB", 0, 4, 0) + b"\xff\xff\x41\x41",
    "value runs past the end": struct.pack("<BHB", 0, 6, 0) + b"\x01\x00\x41\xff\xff\x41",
    "half a length": struct.pack("<BHB", 0, len(GOOD) + 1, 0) + GOOD + b"\x01",
    "key without value": struct.pack("<BHB", 0, len(GOOD) + 3, 0) + GOOD + b"\x01\x00\x41",
    "empty key": packet([("", "x"), *variables()]),
    "no variables": struct.pack("<BHB", 0, 0, 0),
    "length that is none": packet(variables(length="five")),
    "negative length": packet(variables(length=-5)),
    "http": b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" + b"x" * 30000,
}


@pytest.mark.parametrize("name", BAD)
def test_bad_packets_are_closed_with_one_line(serve, modes, name):
    server = serve_packets(serve, "hello", *modes)
    client = server.packets()
    client.send(BAD[name])
    assert client.closed_by_peer()
    server.wait_for_lines(1)
    for _ in range(3):
        assert server.packets().ask().body == b"hello\n"
    server.wait_requests(3)
    assert len(server.lines_after_ready()) == 4, server.lines_after_ready()


def test_too_large_for_the_buffer(serve):
    server = serve_packets(serve, "hello", "--buffer-size", "2048")
    client = server.packets()
    client.send(packet([("HTTP_X_LONG", "x" * 3000), *variables()]))
    assert client.closed_by_peer()
    assert server.packets().ask().status == 200


def test_limit_post(serve):
    server = serve_packets(serve, "echo", "--limit-post", "10")
    assert server.packets().ask("POST", body=b"x" * 10).json()["length"] == 10
    client = server.packets()
    client.send(packet(variables("POST", length=11)) + b"x" * 11)
    data = client.read_to_end()
    assert data == b"" or data.startswith(b"HTTP/1.1 413")
    assert server.packets().ask().status == 200


@pytest.mark.parametrize("size", [1, 3, 4, 50])
def test_a_packet_that_is_never_complete(serve, modes, size):
    server = serve_packets(serve, "hello", *modes)
    for ending in ("close", "reset"):
        client = server.packets()
        client.send(packet(variables())[:size])
        getattr(client, ending)()
    assert server.packets().ask().status == 200


def test_variables_that_would_load_code_are_ignored(serve, tmp_path):
    evil = tmp_path / "evil.py"
    marker = tmp_path / "marker"
    evil.write_text(f"open({str(marker)!r}, 'w')\n")
    server = serve_packets(serve, "hello")
    for name in ("UWSGI_FILE", "UWSGI_SCRIPT", "UWSGI_MODULE", "UWSGI_CHDIR", "UWSGI_HOME"):
        extra = [(name, str(evil)), ("SCRIPT_NAME", "")]
        assert server.packets().ask(extra=extra).body == b"hello\n"
    assert not marker.exists()


def test_head_has_no_body(serve):
    assert serve_packets(serve, "hello").packets().ask("HEAD").body == b""


def test_request_line_of_the_log(serve):
    server = serve_packets(serve, "hello")
    server.packets().ask(path="/x", query="y=1")
    (line,) = server.wait_requests(1)
    assert (line.address, line.method, line.uri) == ("192.0.2.7", "GET", "/x?y=1")
    assert line.variables % 2 == 0
    assert line.variable_bytes > 0


def test_unix_socket(serve, tmp_path):
    path = str(tmp_path / "uwsgi.sock")
    server = serve("hello", uwsgi=path)
    assert server.packets().ask().body == b"hello\n"
