"""Files as frameworks send them: Flask by X-Sendfile, Flask and Django by wsgi.file_wrapper."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from tests.harness import procs

LARGE_SIZE = 16 << 20


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    (folder / "small.txt").write_bytes(b"".join(b"%07d\n" % n for n in range(625)))
    (folder / "empty").touch()
    (folder / "large").write_bytes(random.Random(7).randbytes(LARGE_SIZE))
    for path in folder.iterdir():
        os.utime(path, (1_700_000_000, 1_700_000_000))
    return folder


def warmed(server, path):
    """Who looks for files that are handed over comes with the first one, with a descriptor."""
    tasks = Path(f"/proc/{server.worker()}/task").glob("*/comm")
    if "greenloom-helpe" not in [task.read_text().strip() for task in tasks]:
        server.get(path)
        server.wait_requests(1)
        server.begin()
        server.baseline = {pid: procs.open_files(pid) for pid in server.workers()}
    return server


@pytest.fixture(params=["X-Sendfile", "wsgi.file_wrapper"])
def flask(request, serve, modes, files):
    pytest.importorskip("flask")
    by_field = request.param == "X-Sendfile"
    env = {"FILES": str(files), **({"USE_X_SENDFILE": "1"} if by_field else {})}
    options = ["--x-sendfile", str(files)] if by_field else []
    server = serve("files_flask", *modes, *options, env=env)
    return warmed(server, f"/file?path={files}/empty") if by_field else server


@pytest.fixture
def django(serve, modes):
    pytest.importorskip("django")
    return serve("files_django", *modes)


class TestFlask:
    """A client cannot tell who has sent it."""

    def test_whole(self, flask, files):
        client = flask.http()
        expected = (files / "small.txt").read_bytes()
        for at in (f"/file?path={files}/small.txt", "/below/small.txt"):
            answer = client.get(at)
            assert (answer.status, answer.body) == (200, expected)
            assert answer.header("content-length") == str(len(expected))
            assert answer.header("content-type").startswith("text/plain")
            # Each of them once, though both know of them.
            for name in ("etag", "last-modified", "cache-control", "date"):
                assert answer.header(name) is not None, name
            assert answer.header("x-sendfile") is None
        assert client.get("/hello").body == b"hello\n"
        assert [line.via for line in flask.wait_requests(3)] == ["sendfile", "sendfile", None]

    def test_ranges_are_announced_once(self, flask, files):
        assert flask.get("/below/small.txt").get_all("accept-ranges") in (["bytes"], [])

    def test_large_and_empty(self, flask, files):
        client = flask.http()
        assert client.get("/below/large").body == (files / "large").read_bytes()
        assert client.get("/below/empty").body == b""
        assert client.get("/hello").body == b"hello\n"

    def test_an_attachment(self, flask, files):
        answer = flask.get(f"/file?path={files}/small.txt&attachment")
        assert answer.header("content-disposition") == "attachment; filename=small.txt"

    def test_head(self, flask, files):
        client = flask.http()
        answer = client.request("HEAD", "/below/large")
        assert answer.header("content-length") == str(LARGE_SIZE)
        assert client.get("/hello").body == b"hello\n"

    def test_a_range(self, flask, files):
        client = flask.http()
        answer = client.get("/below/small.txt", Range="bytes=100-199")
        expected = (files / "small.txt").read_bytes()[100:200]
        assert (answer.status, answer.body) == (206, expected)
        assert answer.header("content-range") == "bytes 100-199/5000"
        assert client.get("/hello").body == b"hello\n"

    def test_conditions(self, flask, files):
        client = flask.http()
        found = client.get("/below/small.txt")
        tag, date = found.header("etag"), found.header("last-modified")
        assert client.get("/below/small.txt", If_None_Match=tag).status == 304
        assert client.get("/below/small.txt", If_Modified_Since=date).status == 304
        assert client.get("/below/small.txt", If_None_Match='"other"').status == 200
        answer = client.get("/below/small.txt", Range="bytes=0-9", If_Range=tag)
        assert (answer.status, len(answer.body)) == (206, 10)
        assert client.get("/hello").body == b"hello\n"

    def test_what_is_not_there(self, flask):
        assert flask.get("/below/missing").status == 404


class TestDjango:
    @pytest.mark.parametrize("name", ["small.txt", "large", "empty"])
    def test_a_file_response(self, django, files, name):
        client = django.http()
        expected = (files / name).read_bytes()
        answer = client.get(f"/file?path={files}/{name}")
        assert (answer.status, answer.body) == (200, expected)
        assert answer.header("content-length") == str(len(expected))
        assert client.get("/hello").body == b"hello\n"
        line, _ = django.wait_requests(2)
        assert (line.body_bytes, line.switches) == (len(expected), 1)
        assert line.via == "sendfile" or not expected
        # By close() of the file, once for each request.
        django.expect_log("^request finished$", 2)

    def test_head(self, django, files):
        client = django.http()
        answer = client.request("HEAD", f"/file?path={files}/large")
        assert (answer.header("content-length"), answer.body) == (str(LARGE_SIZE), b"")
        assert client.get("/hello").body == b"hello\n"
        django.expect_log("^request finished$", 2)
