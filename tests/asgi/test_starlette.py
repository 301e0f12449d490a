"""Starlette as it is, on each loop."""

from __future__ import annotations

import gzip
import hashlib
import signal

import pytest

from tests.harness.asking import ask, notes_of
from tests.harness.http import Truncated, chunked
from tests.harness.waiting import until

NOISE = ["Traceback", r"(?i)\berrors?\b"]
LARGE = hashlib.sha256(b"large").digest() * (4 << 15)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    (folder / "small.txt").write_bytes(b"a small file\n")
    (folder / "empty.txt").touch()
    (folder / "large.bin").write_bytes(LARGE)
    return folder


@pytest.fixture
def server(serve_asgi, files):
    return serve_asgi("asgi_starlette", env={"FILES": str(files)}, allow=NOISE)


class TestRouting:
    def test_request(self, server):
        answer = server.get("/items/5?a=b&c=%C3%A9", Cookie="x=y", User_Agent="test")
        assert answer.json() == {
            "id": 5,
            "query": {"a": "b", "c": "é"},
            "cookies": {"x": "y"},
            "agent": "test",
            "client": "127.0.0.1",
            "url": "http://example.org/items/5?a=b&c=%C3%A9",
            "url_for": "http://example.org/items/7",
            "base": "http://example.org/",
        }

    @pytest.mark.parametrize(
        ("method", "target", "status"),
        [
            ("GET", "/nothing", 404),
            ("GET", "/items/text", 404),
            ("DELETE", "/hello", 405),
            ("GET", "/redirect", 307),
            ("HEAD", "/hello", 200),
        ],
    )
    def test_statuses(self, server, method, target, status):
        client = server.http()
        assert client.request(method, target).status == status
        assert client.get("/hello").body == b"hello\n"

    def test_its_own_mounts(self, server):
        assert server.get("/sub/hello").body == b"hello\n"
        found = ask(server, "/sub/items/5")
        assert found["url"] == "http://example.org/sub/items/5"

    def test_mounted_by_the_server(self, serve_asgi, files):
        server = serve_asgi(
            None, "--pythonpath", "tests/apps/asgi_starlette", "--asgi", "/front=app",
            env={"FILES": str(files)}, allow=NOISE,
        )  # fmt: skip
        found = ask(server, "/front/items/5")
        assert found["url"] == "http://example.org/front/items/5"
        assert found["url_for"] == "http://example.org/front/items/7"
        assert ask(server, "/front/sub/items/5")["base"] == "http://example.org/front/"
        assert server.get("/front/static/small.txt").body == b"a small file\n"

    def test_several_cookies(self, server):
        found = server.get("/cookie").get_all("set-cookie")
        assert [value.partition(";")[0] for value in found] == ["a=1", "b=2"]


def test_lifespan(fresh_asgi, files):
    server = fresh_asgi("asgi_starlette", env={"FILES": str(files)}, allow=NOISE)
    assert ask(server, "/state") == ["of the lifespan", "of the app"]
    server.signal(signal.SIGTERM)
    assert server.wait_exit() == 0
    assert server.count_log("^starlette ends in order$") == 1


def test_an_endpoint_in_a_thread(server):
    assert server.get("/thread").body == b"from a thread\n"


def test_threads_serve_one_endpoint_after_another(server):
    """They, and what they keep (connections of a database, say), outlive a request."""
    client = server.http()
    found = [client.get("/which_thread").json() for _ in range(10)]
    assert len(set(found)) == 1


class TestStreams:
    @pytest.mark.parametrize("target", ["/stream", "/sync_stream"])
    def test_to_the_end(self, server, target):
        client = server.http()
        for _ in range(3):
            answer = client.get(target)
            assert answer.framing == "chunked"
            assert answer.body == b"".join(b"%d\n" % number for number in range(10))
        ask(server, "/notes")

    @pytest.mark.parametrize("ending", ["close", "reset"])
    def test_the_client_leaves(self, server, ending):
        client = server.http()
        client.send_request(target="/stream?count=100000000")
        client.read_head()
        assert client.read_chunk() == b"0\n"
        getattr(client, ending)()
        assert notes_of(server, 1) == ["stream ends"]
        until(lambda: [r for r in server.log_requests() if "count" in r.uri], "its line")
        assert server.get("/hello").body == b"hello\n"

    def test_no_reader(self, server):
        client = server.http(receive_buffer=4096)
        client.send_request(target="/stream?count=100000000")
        client.read_head()
        for _ in range(5):
            assert server.get("/hello").body == b"hello\n"
        client.close()
        assert notes_of(server, 1) == ["stream ends"]


def test_background_tasks(server):
    client = server.http()
    assert client.get("/background").body == b"answered\n"
    # The same connection, while they wait.
    assert client.get("/notes").json() == []
    assert client.get("/go").body == b"gone"
    assert notes_of(server, 2) == ["async a", "sync b"]


class TestFiles:
    @pytest.mark.parametrize(
        ("name", "body"),
        [("small.txt", b"a small file\n"), ("empty.txt", b""), ("large.bin", LARGE)],
    )
    @pytest.mark.parametrize("where", ["/file?name=", "/static/"])
    def test_whole(self, server, where, name, body):
        client = server.http()
        answer = client.get(where + name)
        assert (answer.status, answer.body) == (200, body)
        assert answer.framing == "length"
        head = client.request("HEAD", where + name)
        assert head.header("content-length") == str(len(body))
        again = client.get(where + name, If_None_Match=answer.header("etag"))
        assert again.status in (200, 304)
        assert client.get("/hello").body == b"hello\n"

    def test_ranges(self, server):
        client = server.http()
        answer = client.get("/file?name=large.bin", Range="bytes=100-299")
        assert (answer.status, answer.body) == (206, LARGE[100:300])
        answer = client.get("/static/small.txt", Range="bytes=2-")
        assert (answer.status, answer.body) == (206, b"small file\n")

    def test_missing(self, server):
        assert server.get("/static/missing").status == 404


class TestBodies:
    def test_streamed(self, server):
        for body in (b"", b"small", LARGE):
            found = server.request("POST", "/upload", body=body).json()
            assert found == [len(body), hashlib.sha256(body).hexdigest()]

    def test_chunked(self, server):
        client = server.http()
        client.send("POST /upload HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
        client.send_pieces(chunked(*[b"x" * 1000] * 10), 333)
        assert client.read_response().json()[0] == 10_000

    @pytest.mark.parametrize("target", ["/echo", "/wrapped/echo"])
    def test_echoed(self, server, target):
        client = server.http()
        body = LARGE[:200_000]
        assert client.request("POST", target, body=body).body == body

    def test_whole(self, server):
        assert server.request("POST", "/body", body=LARGE[:300_000]).body == LARGE[:300_000]

    def test_cut_off(self, server):
        """ClientDisconnect in the endpoint, nothing more."""
        client = server.http()
        client.send("POST /upload HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\nhalf")
        client.reset()
        assert server.get("/hello").body == b"hello\n"


class TestDisconnected:
    def test_not_yet(self, server):
        assert ask(server, "/connected") == [False, False, False]

    @pytest.mark.parametrize("ending", ["close", "reset"])
    def test_asked_again_and_again(self, server, ending):
        client = server.http()
        client.send_request(target="/disconnected")
        assert notes_of(server, 1) == ["began"]
        getattr(client, ending)()
        # Who has asked once wants to hear of it, though nobody listens between two questions.
        assert notes_of(server, 1) == ["disconnected"]
        assert server.get("/hello").body == b"hello\n"


def test_middleware_with_tasks_of_its_own(server):
    client = server.http()
    answer = client.get("/wrapped/hello")
    assert (answer.body, answer.header("x-added")) == (b"hello\n", "yes")
    answer = client.get("/wrapped/stream?count=500", Accept_Encoding="gzip")
    assert answer.header("x-added") == "yes"
    expected = b"".join(b"%d\n" % number for number in range(500))
    assert gzip.decompress(answer.body) == expected
    ask(server, "/notes")


def test_an_exception(server):
    """Its own middleware answers, then raises on for the server's log."""
    client = server.http()
    assert client.get("/fails").status == 500
    server.wait_for_log("^ValueError: on purpose$")
    try:
        assert client.get("/hello").body == b"hello\n"
    except (Truncated, ConnectionResetError):
        assert server.get("/hello").body == b"hello\n"
