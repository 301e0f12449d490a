"""http.response.pathsend: whole files, and those that cannot be sent."""

from __future__ import annotations

import hashlib

import pytest

from tests.harness.http import Malformed, Truncated
from tests.harness.waiting import until

NOISE = ["Traceback", r"(?i)\berrors?\b"]
SMALL = b"a small file\n"
LARGE_SIZE = 20 << 20


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    (folder / "small").write_bytes(SMALL)
    (folder / "empty").touch()
    (folder / "folder").mkdir()
    (folder / "unreadable").symlink_to(folder / "unreadable")
    (folder / "name with é").write_bytes(SMALL)
    line = hashlib.sha256(b"large").digest()
    (folder / "large").write_bytes(line * (LARGE_SIZE // len(line)))
    return folder


@pytest.fixture
def server(serve_asgi, files):
    return serve_asgi(
        "asgi_pathsend", env={"FILES": str(files)}, uwsgi="127.0.0.1:0", cores=2, allow=NOISE
    )


def test_small(server):
    client = server.http()
    answer = client.get("/file?name=small")
    assert (answer.status, answer.body) == (200, SMALL)
    assert client.get("/hello").body == b"hello\n"
    assert server.wait_requests(1)[0].body_bytes == len(SMALL)


@pytest.mark.parametrize("name", ["small", "empty", "large"])
def test_with_a_length(server, files, name):
    client = server.http()
    expected = (files / name).read_bytes()
    answer = client.get(f"/file?name={name}&length={len(expected)}")
    assert answer.framing == "length"
    assert answer.body == expected
    assert client.get("/hello").body == b"hello\n"


def test_empty(server):
    client = server.http()
    answer = client.get("/file?name=empty")
    assert (answer.status, answer.body) == (200, b"")
    assert client.get("/hello").body == b"hello\n"


def test_large(server, files):
    client = server.http()
    answer = client.get("/file?name=large")
    assert answer.body == (files / "large").read_bytes()
    assert client.get("/hello").body == b"hello\n"
    assert server.wait_requests(1)[0].body_bytes == LARGE_SIZE


def test_large_ones_to_slow_readers(server, files):
    """Their readers keep nobody waiting, and each gets all of it."""
    slow = [server.http(receive_buffer=4096) for _ in range(2)]
    for client in slow:
        client.send_request(target="/file?name=large")
        assert client.read_head().status == 200
    expected = (files / "large").read_bytes()
    for client in slow:
        assert client.read_exactly(1000)
        client.close()
    assert server.get("/file?name=large").body == expected


def test_a_name_in_utf_8(server):
    assert server.get("/file?name=name%20with%20%C3%A9").body == SMALL


@pytest.mark.parametrize("name", ["small", "empty", "large"])
def test_head(server, files, name):
    client = server.http()
    size = (files / name).stat().st_size
    answer = client.request("HEAD", f"/file?name={name}")
    assert (answer.status, answer.body) == (200, b"")
    assert answer.header("content-length") in (None, str(size))
    assert client.get("/hello").body == b"hello\n"


def test_304(server):
    client = server.http()
    answer = client.get("/file?name=small&status=304")
    assert (answer.status, answer.body) == (304, b"")
    assert client.get("/hello").body == b"hello\n"


def test_http_1_0(server):
    client = server.http()
    client.send(b"GET /file?name=small HTTP/1.0\r\n\r\n")
    assert client.read_response().body == SMALL


def test_packets(server, files):
    assert server.packets().ask(path="/file", query="name=small").body == SMALL
    answer = server.packets().ask(path="/file", query="name=large")
    assert answer.body == (files / "large").read_bytes()


def test_removed_after_it_was_sent(server):
    """What send() has taken stays open as long as it needs."""
    assert server.get("/removed?name=removed").body == b"r" * 100_000


@pytest.mark.parametrize("name", ["missing", "folder", "unreadable", "small/under"])
def test_what_cannot_be_sent(server, name):
    """An OSError in the application; without a handler there, an error for the client."""
    client = server.http()
    client.send_request(target=f"/file?name={name}")
    try:
        answer = client.read_response()
    except (Truncated, Malformed, ConnectionResetError):
        pass
    else:
        assert answer.status == 500
    server.wait_for_log(r"^\w*Error: |^OSError")
    assert server.count_log("sent$") == 0
    assert server.get("/hello").body == b"hello\n"


@pytest.mark.parametrize("length", [len(SMALL) - 1, len(SMALL) + 1, 0])
def test_a_length_that_is_wrong(server, length):
    """Never a response that looks whole and is not, and nothing behind it."""
    client = server.http()
    client.send_request(target=f"/file?name=small&length={length}")
    try:
        answer = client.read_response()
        assert answer.status == 500 or answer.body == SMALL[:length]
        assert client.get("/hello").body == b"hello\n"
    except (Truncated, Malformed, ConnectionResetError):
        assert server.get("/hello").body == b"hello\n"


@pytest.mark.parametrize("case", ["before", "relative", "bytes", "number", "null", "no-path"])
def test_refused(server, case):
    answer = server.http().get(f"/bad?case={case}")
    assert answer.status == 200
    assert answer.body in (b"RuntimeError", b"TypeError", b"ValueError", b"OSError")


def test_after_a_part(server):
    """The specification leaves that open: refused, or the file behind the part."""
    assert server.http().get("/after_a_part").body in (b"part refused", b"part" + SMALL)


def test_twice(server):
    client = server.http()
    assert client.get("/twice?name=twice").body == SMALL
    server.wait_for_log("^twice refused$")
    assert client.get("/hello").body == b"hello\n"


def test_the_client_leaves(server):
    """The file is closed, the core is free: the look around after the test sees it."""
    for _ in range(4):
        client = server.http(receive_buffer=4096)
        client.send_request(target="/file?name=large")
        client.read_head()
        client.reset()
    until(lambda: len(server.log_requests()) >= 4, "their lines")
    assert server.get("/hello").body == b"hello\n"
