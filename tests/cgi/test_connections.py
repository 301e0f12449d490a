"""Scripts, files and an application on the same connections: each answer is its own request's."""

from __future__ import annotations

import pytest

from tests.cgi.scripts import HEAD, MOUNT, do, says, write
from tests.harness.http import Client


@pytest.fixture
def mixed(beside, tmp_path):
    write(tmp_path / "static/page.txt", "a page\n", 0o644)
    return beside("echo", *MOUNT, "--static-map", f"/static={tmp_path}/static")


def request(kind, number):
    """A request and what its answer has to have in its body."""
    if kind == "script":
        code = HEAD + f"sleep 0.0{number % 3}; echo script {number}"
        return ("GET", "/cgi-bin/do", [("X-Do", code)], None), f"script {number}\n".encode()
    if kind == "body":
        code = HEAD + f"cat; echo {number}"
        return ("POST", "/cgi-bin/do", [("X-Do", code)], b"x" * number), b"x" * number + (
            f"{number}\n".encode()
        )
    if kind == "file":
        return ("GET", f"/static/page.txt?{number}", [], None), b"a page\n"
    return ("GET", f"/app/{number}", [], None), f'"path": "/app/{number}"'.encode()


KINDS = ["script", "file", "app", "script", "body", "app", "file", "file", "script", "script"]


def test_one_after_the_other(mixed):
    client = mixed.http()
    for number in range(30):
        asked, expected = request(KINDS[number % len(KINDS)], number)
        answer = client.request(*asked)
        assert answer.status == 200
        assert expected in answer.body


@pytest.mark.parametrize("size", [None, 7, 1000], ids=["at once", "by seven", "by thousand"])
def test_pipelined(mixed, size):
    class Recorder(Client):
        def __init__(self):
            self.sent = b""

        def send(self, data):
            self.sent += data

    recorder, all_expected = Recorder(), []
    for number in range(30):
        asked, expected = request(KINDS[number % len(KINDS)], number)
        recorder.send_request(*asked)
        all_expected.append(expected)
    client = mixed.http()
    if size is None:
        client.send(recorder.sent)
    else:
        client.send_pieces(recorder.sent, size)
    for expected in all_expected:
        answer = client.read_response()
        assert answer.status == 200
        assert expected in answer.body
    lines = mixed.wait_requests(30)
    assert [line.uri.split("/")[1] for line in lines] == [
        {"script": "cgi-bin", "body": "cgi-bin", "file": "static"}.get(KINDS[n % len(KINDS)], "app")
        for n in range(30)
    ]


def test_a_slow_script_does_not_hold_up_other_connections(mixed, gate, tmp_path):
    slow = mixed.http()
    slow.send_request(
        target="/cgi-bin/do", headers=[("X-Do", f"head -c 1 {gate.path} >/dev/null; {HEAD}echo s")]
    )
    with mixed.http() as client:
        for kind in ("app", "file", "script", "body"):
            asked, expected = request(kind, 5)
            assert expected in client.request(*asked).body
    gate.release(1)
    assert slow.read_response().body == b"s\n"


def test_errors_between_others(mixed):
    with mixed.http() as client:
        assert says(client, "no head").status == 502
        assert client.get("/cgi-bin/missing").status == 404
        assert client.get("/static/missing").status == 200  # The application's.
        assert do(client, HEAD + "echo x").body == b"x\n"
        assert client.get("/cgi-bin").status == 301
        assert do(client, HEAD + "echo y").body == b"y\n"


def test_connection_close(mixed):
    client = mixed.http()
    answer = do(client, HEAD + "echo x", headers=[("Connection", "close")])
    assert answer.header("connection") == "close"
    assert client.closed_by_peer()


def test_http_1_0_keep_alive(mixed):
    client = mixed.http()
    headers = [("X-Do", r"printf 'Content-Length: 2\n\nok'"), ("Connection", "keep-alive")]
    for _ in range(2):
        assert client.request("GET", "/cgi-bin/do", headers, version="HTTP/1.0").body == b"ok"
