"""Django by get_asgi_application(), on each loop."""

from __future__ import annotations

import pytest

from tests.harness.asking import ask, notes_of, send

NOISE = ["Traceback", r"(?i)\berrors?\b", "async queue is full"]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    (folder / "small.txt").write_bytes(b"a small file\n")
    return folder


@pytest.fixture
def server(serve_asgi, files):
    return serve_asgi("asgi_django", env={"FILES": str(files)}, allow=NOISE)


def test_an_asynchronous_view(server):
    client = server.http()
    for _ in range(3):
        assert client.get("/hello").body == b"hello\n"
    answer = client.request("POST", "/asynchronous", body=b"some body")
    assert answer.json() == ["/hello", "/asynchronous", "some body"]


def test_a_plain_view(server):
    answer = server.get("/plain?a=b&c=%C3%A9", Cookie="x=y", X_Test="yes")
    assert answer.json() == {
        "main thread": False,
        "method": "GET",
        "path": "/plain",
        "path_info": "/plain",
        "reverse": "/hello",
        "query": {"a": "b", "c": "é"},
        "cookies": {"x": "y"},
        "remote": "127.0.0.1",
        "uri": "http://example.org/plain?a=b&c=%C3%A9",
        "header": "yes",
    }


def test_many_at_a_time(server):
    targets = ["/plain", "/hello", "/asynchronous", "/stream"] * 4
    clients = [send(server, target) for target in targets]
    assert [client.read_response().status for client in clients] == [200] * 16


def test_views_that_wait(server):
    clients = [send(server, "/waits") for _ in range(4)]
    assert notes_of(server, 4) == ["began"] * 4
    assert server.get("/go").body == b"gone"
    assert [client.read_response().body for client in clients] == [b"went on"] * 4


@pytest.mark.parametrize("ending", ["close", "reset"])
class TestTheClientLeaves:
    def test_a_view(self, server, ending):
        client = send(server, "/waits")
        assert notes_of(server, 1) == ["began"]
        getattr(client, ending)()
        assert notes_of(server, 1) == ["CancelledError"]
        assert server.get("/hello").body == b"hello\n"

    def test_a_stream(self, server, ending):
        client = send(server, "/stream_for_ever")
        client.read_head()
        assert client.read_chunk() == b"part\n"
        getattr(client, ending)()
        assert notes_of(server, 1) == ["stream ends"]
        assert server.get("/hello").body == b"hello\n"


def test_a_stream(server):
    answer = server.http().get("/stream")
    assert answer.body == b"".join(b"%d\n" % number for number in range(10))


@pytest.mark.parametrize("size", [0, 5, 100_000, 3 << 20])
def test_bodies(server, size):
    assert server.request("POST", "/upload", body=b"x" * size).body == b"%d" % size


def test_a_file(server):
    client = server.http()
    answer = client.get("/file")
    assert (answer.status, answer.body) == (200, b"a small file\n")
    assert client.get("/hello").body == b"hello\n"


@pytest.mark.parametrize(("target", "status"), [("/fails", 500), ("/nothing", 404)])
def test_statuses(server, target, status):
    client = server.http()
    assert client.get(target).status == status
    assert client.get("/hello").body == b"hello\n"


def test_mounted_by_the_server(serve_asgi, files):
    """Its own URLs have the prefix."""
    server = serve_asgi(
        None, "--pythonpath", "tests/apps/asgi_django", "--asgi", "/shop=app",
        env={"FILES": str(files)}, allow=NOISE,
    )  # fmt: skip
    found = ask(server, "/shop/plain")
    assert (found["path"], found["path_info"]) == ("/shop/plain", "/plain")
    assert found["reverse"] == "/shop/hello"
    assert server.request("POST", "/shop/asynchronous", body=b"").json()[0] == "/shop/hello"
