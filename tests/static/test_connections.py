"""Files among other requests of a connection, and by the other protocol."""

from __future__ import annotations

import itertools

import pytest

from tests.harness.uwsgi import packet, variables
from tests.static.trees import LAST_MODIFIED, etag, pattern, plant

SMALL, LARGE = b"small file", pattern(700_000)


@pytest.fixture
def root(tmp_path):
    return plant(tmp_path / "root", **{"small": SMALL, "large": LARGE, "empty": b""})


def get(target: str, *lines: str, version: str = "HTTP/1.1") -> bytes:
    return "\r\n".join([f"GET {target} {version}", "Host: a", *lines, "", ""]).encode()


class TestMethods:
    @pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "get", "Get"])
    def test_others_find_no_file(self, fresh_native, root, method):
        with fresh_native("--check-static", str(root)).http() as client:
            assert client.request(method, "/small").status == 404
            assert client.get("/small").body == SMALL

    def test_a_body_is_read_and_dropped(self, fresh_native, root):
        with fresh_native("--check-static", str(root)).http() as client:
            for method, status in (("POST", 404), ("GET", 200)):
                answer = client.request(method, "/small", body=b"GET /large HTTP/1.1\r\n\r\n")
                assert answer.status == status
            assert client.get("/large").body == LARGE

    def test_head_is_get_without_the_body(self, fresh_native, root):
        with fresh_native("--check-static", str(root)).http() as client:
            for target in ("/small", "/large", "/empty"):
                heads = [client.request(m, target).headers for m in ("GET", "HEAD")]
                assert dict(heads[0]) | {"Date": ""} == dict(heads[1]) | {"Date": ""}


class TestKeepAlive:
    def test_many_on_one_connection(self, fresh_native, root):
        with fresh_native("--check-static", str(root)).http() as client:
            for _ in range(50):
                assert client.get("/small").body == SMALL
                assert client.get("/none").status == 404
                assert client.get("/large").body == LARGE
                assert client.get("/small", If_None_Match=etag(len(SMALL))).status == 304

    def test_close_is_honoured(self, fresh_native, root):
        server = fresh_native("--check-static", str(root))
        for target, status in (("/small", 200), ("/large", 200), ("/none", 404), ("/empty", 200)):
            client = server.http()
            answer = client.get(target, Connection="close")
            assert (answer.status, answer.header("Connection")) == (status, "close")
            assert client.closed_by_peer()

    def test_its_time_runs_behind_a_file(self, fresh_native, root):
        server = fresh_native("--check-static", str(root), "--keep-alive-timeout", "1")
        for target in ("/small", "/large", "/none"):
            client = server.http()
            client.get(target)
            assert client.closed_by_peer()

    def test_none(self, fresh_native, root):
        client = fresh_native("--check-static", str(root), "--keep-alive-timeout", "0").http()
        assert client.get("/large").header("Connection") == "close"
        assert client.closed_by_peer()

    def test_http_1_0(self, fresh_native, root):
        server = fresh_native("--check-static", str(root))
        for target, content in (("/small", SMALL), ("/large", LARGE)):
            client = server.http()
            client.send(f"GET {target} HTTP/1.0\r\n\r\n")
            answer = client.read_response()
            assert answer.body == content
            assert answer.header("Content-Length") == str(len(content))
            assert client.closed_by_peer()

    def test_http_1_0_kept_alive(self, fresh_native, root):
        client = fresh_native("--check-static", str(root)).http()
        for target, content in (("/small", SMALL), ("/large", LARGE), ("/small", SMALL)):
            client.send(get(target, "Connection: keep-alive", version="HTTP/1.0"))
            answer = client.read_response()
            assert (answer.body, answer.header("Connection").lower()) == (content, "keep-alive")

    def test_a_unix_listener(self, fresh_native, root, tmp_path):
        with fresh_native("--check-static", str(root), http=str(tmp_path / "h")).http() as client:
            for _ in range(3):
                assert client.get("/large").body == LARGE
                assert client.get("/small").body == SMALL


class TestPipelining:
    def test_files(self, fresh_native, root):
        targets = ["/small", "/large", "/none", "/empty", "/large", "/small"] * 5
        expected = {"/small": SMALL, "/large": LARGE, "/none": b"Not Found", "/empty": b""}
        client = fresh_native("--check-static", str(root)).http()
        client.send(b"".join(map(get, targets)))
        for target in targets:
            assert client.read_response().body == expected[target]

    def test_heads_ranges_and_conditions(self, fresh_native, root):
        client = fresh_native("--check-static", str(root)).http()
        head = get("/large").replace(b"GET", b"HEAD", 1)
        client.send(
            head
            + get("/large", "Range: bytes=-5")
            + get("/large", f"If-None-Match: {etag(len(LARGE))}")
            + get("/small", "Range: bytes=100-")
            + head
            + get("/small")
        )
        assert client.read_response("HEAD").status == 200
        assert client.read_response().body == LARGE[-5:]
        assert client.read_response().status == 304
        assert client.read_response().status == 416
        assert client.read_response("HEAD").status == 200
        assert client.read_response().body == SMALL

    @pytest.mark.parametrize(
        "options", [(), ("--async", "4"), ("--async", "4", "--ugreen")], ids=str
    )
    def test_mixed_with_an_application(self, fresh, root, options):
        server = fresh("echo", "--check-static", str(root), *options)
        order = [kind for permutation in itertools.permutations("fFap") for kind in permutation]
        requests = {
            "f": get("/small"),
            "F": get("/large"),
            "a": get("/app"),
            "p": b"POST /small HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody",
        }
        client = server.http()
        client.send(b"".join(requests[kind] for kind in order))
        for kind in order:
            answer = client.read_response()
            if kind in "fF":
                assert answer.body == (SMALL if kind == "f" else LARGE)
            else:
                found = answer.json()
                assert (found["path"], found["length"]) == (
                    ("/app", 0) if kind == "a" else ("/small", 4)
                )
        assert [r.core == -1 for r in server.wait_requests(len(order))] == [
            k in "fF" for k in order
        ]

    def test_byte_by_byte(self, fresh_native, root):
        client = fresh_native("--check-static", str(root)).http()
        client.send_pieces(get("/small") * 3 + get("/large"))
        for content in (SMALL, SMALL, SMALL, LARGE):
            assert client.read_response().body == content

    def test_a_file_while_cores_are_busy(self, fresh, root, gate):
        """All cores hold a request, more wait for one: files need none."""
        server = fresh(
            "hold", "--check-static", str(root), "--async", "2",
            env=gate.env, allow=["async queue is full"],
        )  # fmt: skip
        holders = [server.http() for _ in range(4)]
        for client in holders:
            client.send_request(target="/hold")
        for _ in range(5):
            assert server.get("/small").body == SMALL
            assert server.get("/large").body == LARGE
        gate.release(4)
        for client in holders:
            assert client.read_response().body == b"held\nreleased\n"


class TestUwsgi:
    def test_a_file(self, fresh_native, root):
        server = fresh_native("--check-static", str(root), uwsgi="127.0.0.1:0")
        for target, content in (("/small", SMALL), ("/large", LARGE), ("/empty", b"")):
            with server.packets() as client:
                answer = client.ask(path=target)
                assert (answer.status, answer.body) == (200, content)
                assert answer.header("ETag") == etag(len(content))
                assert answer.header("Last-Modified") == LAST_MODIFIED
                assert answer.header("Content-Length") == str(len(content))

    def test_head_ranges_and_conditions(self, fresh_native, root):
        server = fresh_native("--check-static", str(root), uwsgi="127.0.0.1:0")

        def ask(method="GET", **fields):
            with server.packets() as client:
                return client.ask(method, "/large", extra=fields.items())

        head = ask("HEAD")
        assert (head.body, head.header("Content-Length")) == (b"", str(len(LARGE)))
        part = ask(HTTP_RANGE="bytes=10-19")
        assert (part.status, part.body) == (206, LARGE[10:20])
        assert ask(HTTP_IF_NONE_MATCH=etag(len(LARGE))).status == 304
        assert ask(HTTP_IF_MATCH='"other"').status == 412
        assert ask(HTTP_RANGE="bytes=700000-").header("Content-Range") == "bytes */700000"
        assert ask("POST").status == 404

    @pytest.mark.parametrize("uri", ["/sub%2Fx", "/sub%2fx?q", "/%73ub%2Fx"])
    def test_an_encoded_slash_is_none(self, fresh_native, root, uri):
        """The packet's path is decoded already: its target tells."""
        plant(root, **{"sub/x": "below"})
        server = fresh_native("--check-static", str(root), uwsgi="127.0.0.1:0")
        found = [(k, v) for k, v in variables(path="/sub/x") if k != "REQUEST_URI"]
        with server.packets() as client:
            client.send(packet([*found, ("REQUEST_URI", uri)]))
            assert client.read_answer().status == 404
        with server.packets() as client:
            assert client.ask(path="/sub/x").body == b"below"

    def test_before_an_application(self, fresh, root):
        server = fresh("echo", "--check-static", str(root), uwsgi="127.0.0.1:0")
        with server.packets() as client:
            assert client.ask(path="/small").body == SMALL
        with server.packets() as client:
            assert client.ask("POST", "/small", body=b"abc").json()["length"] == 3


class TestNginx:
    def test_files_through_it(self, fresh_native, root, nginx):
        server = fresh_native("--check-static", str(root), uwsgi="127.0.0.1:0")
        front = nginx(server)
        assert front.request(target="/large").body == LARGE
        with front.client() as client:
            assert client.get("/small").body == SMALL
            assert client.get("/empty").body == b""
            assert client.request("HEAD", "/large").header("Content-Length") == str(len(LARGE))
            part = client.get("/large", Range="bytes=1000-1999")
            assert (part.status, part.body) == (206, LARGE[1000:2000])
            assert client.get("/small", If_None_Match=etag(len(SMALL))).status == 304
            assert client.get("/none").status == 404
            assert client.get("/large").body == LARGE
        assert "upstream" not in front.errors()

    def test_its_document_root(self, fresh, tmp_path, root, nginx):
        """check-static-docroot with what nginx says, and an application for all else."""
        server = fresh("echo", "--check-static-docroot", uwsgi=str(tmp_path / "u"))
        server.more_directories = 1
        front = nginx(server, f"root {root};")
        assert front.request(target="/small").body == SMALL
        assert front.request(target="/app").json()["path"] == "/app"
