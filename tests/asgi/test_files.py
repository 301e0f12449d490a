"""Files of ASGI applications: by http.response.pathsend, and handed over in a field."""

from __future__ import annotations

import hashlib
import os
import random
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlencode

import pytest

from tests.contract.files.support import (
    CUT,
    LARGE_SIZE,
    NOT_THERE,
    SMALL,
    begun,
    has_helper,
    is_truncated,
    line_of,
    make_large,
    rest,
)
from tests.harness import procs
from tests.harness.http import Malformed, Truncated
from tests.harness.waiting import until

NOISE = ["Traceback", r"^\w*(Error|Gone)\b"]
WAYS = ["file", "handed"]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files") / "root"
    folder.mkdir()
    (folder / "small").write_bytes(SMALL)
    (folder / "empty").touch()
    (folder / "secret").symlink_to(__file__)
    make_large(folder / "large")
    for name in ("small", "large"):
        os.utime(folder / name, (1_700_000_000, 1_700_000_000))
    return folder


@pytest.fixture
def start(serve_asgi, files):
    """A server that hands over what is below the folder of files."""

    def started(cores, *options, by=serve_asgi, **how):
        hands_over = ("--x-sendfile", str(files), "--x-accel-redirect", f"/internal={files}")
        how["allow"] = [*how.get("allow", []), *NOISE]
        server = by(
            "asgi_pathsend",
            *hands_over,
            *options,
            cores=cores,
            env={"FILES": str(files)},
            uwsgi="127.0.0.1:0",
            **how,
        )
        return warmed(server)

    return started


def warmed(server):
    """Who looks for files that are handed over comes with the first one, with a descriptor."""
    if not has_helper(server.worker()):
        assert server.get("/handed?name=empty").status == 200
        server.wait_requests(1)
        server.begin()
        server.baseline = {pid: procs.open_files(pid) for pid in server.workers()}
    return server


@pytest.fixture
def server(start):
    return start(2)


@pytest.fixture
def single(start):
    """With one core: whoever holds it is alone."""
    return start(1)


def hash_of(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("how", WAYS)
def test_the_core_is_free_while_it_is_sent(single, files, how):
    """The one core answers others; the line comes when the file has left."""
    client = begun(single, f"/{how}?name=large")
    for _ in range(3):
        assert single.get("/hello").body == b"hello\n"
    assert [line.uri for line in single.wait_requests(3)] == ["/hello"] * 3
    assert rest(client) == hash_of(files / "large")
    line = single.wait_requests(4)[3]
    assert (line.via, line.status, line.body_bytes) == ("sendfile", 200, LARGE_SIZE)
    assert line.cancelled is None
    assert client.get("/hello").body == b"hello\n"


@pytest.mark.parametrize("ending", ["close", "reset"])
@pytest.mark.parametrize("how", WAYS)
def test_a_client_that_leaves(single, how, ending):
    client = begun(single, f"/{how}?name=large")
    assert single.get("/hello").body == b"hello\n"
    getattr(client, ending)()
    line = line_of(single, how)
    assert (line.cancelled, line.via) == ("client gone", "sendfile")
    assert 0 < line.body_bytes < LARGE_SIZE
    assert single.get("/hello").body == b"hello\n"


@pytest.mark.parametrize("how", WAYS)
def test_a_file_that_becomes_shorter(server, files, how):
    path = files / "changing"
    make_large(path)
    try:
        client = begun(server, f"/{how}?name=changing")
        os.truncate(path, 12 << 20)
        assert is_truncated(client) < 13 << 20
    finally:
        path.unlink()
    server.wait_for_log(CUT)
    assert line_of(server, how).body_bytes <= 12 << 20
    assert server.get("/hello").body == b"hello\n"


@pytest.mark.parametrize("how", WAYS)
def test_a_reload_while_it_is_sent(start, fresh_asgi, files, how):
    server = start(2, by=fresh_asgi)
    old = server.worker()
    client = begun(server, f"/{how}?name=large")
    server.reload()
    assert server.get("/hello").body == b"hello\n"
    assert rest(client) == hash_of(files / "large")
    until(lambda: not procs.alive(old), "the old worker ends")


@pytest.mark.parametrize("how", WAYS)
def test_many_at_once(server, files, how):
    """Of random length by Content-Length or Range, each complete and no other's."""
    data = (files / "large").read_bytes()
    numbers = random.Random(how)
    wanted = [int(2 ** numbers.uniform(0, 23)) for _ in range(40)]

    def one(size):
        if how == "file":
            answer = server.get(f"/file?name=large&length={size}")
            expected = data[:size]
        else:
            begins = numbers.randrange(LARGE_SIZE - size)
            answer = server.get("/handed?name=large", Range=f"bytes={begins}-{begins + size - 1}")
            expected = data[begins : begins + size]
        assert hashlib.sha256(answer.body).digest() == hashlib.sha256(expected).digest()

    with ThreadPoolExecutor(12) as clients:
        list(clients.map(one, wanted))
    assert len(server.wait_requests(40)) == 40


def test_an_exception_behind_it(server):
    """The body was complete with the file."""
    client = server.http()
    assert client.get("/raises?name=small").body == SMALL
    server.wait_for_log("^RuntimeError: after pathsend$")
    assert server.get("/hello").body == b"hello\n"


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("name", ["small", "empty", "large"])
def test_the_line_of_pathsend(server, files, method, name):
    client = server.http()
    client.request(method, f"/file?name={name}")
    size = (files / name).stat().st_size if method == "GET" else 0
    line = line_of(server, "file")
    assert (line.status, line.body_bytes) == (200, size)
    assert line.via == ("sendfile" if size else None)


class TestHandedOver:
    @pytest.mark.parametrize("field", ["X-Sendfile", "X-Accel-Redirect"])
    @pytest.mark.parametrize("body", ["", "parts", "pathsend"])
    def test_in_place_of_the_body(self, server, field, body):
        client = server.http()
        query = urlencode({"name": "small", "field": field, "body": body, "length": 3})
        answer = client.get(f"/handed?{query}")
        assert (answer.status, answer.body) == (200, SMALL)
        assert answer.header("content-length") == str(len(SMALL))
        assert answer.header("content-type") == "text/plain"
        assert answer.header("x-own") == "kept"
        assert answer.header(field) is None
        assert client.get("/hello").body == b"hello\n"
        server.wait_for_log("^small goes on$")
        line = line_of(server, "handed")
        assert (line.via, line.body_bytes) == ("sendfile", len(SMALL))

    def test_head_ranges_and_conditions(self, server):
        client = server.http()
        at = "/handed?name=small"
        answer = client.request("HEAD", at)
        assert (answer.header("content-length"), answer.body) == (str(len(SMALL)), b"")
        tag = answer.header("etag")
        answer = client.get(at, Range="bytes=100-199", If_Range=tag)
        assert (answer.status, answer.body) == (206, SMALL[100:200])
        assert answer.header("content-range") == f"bytes 100-199/{len(SMALL)}"
        assert client.get(at, Range="bytes=5000-").status == 416
        assert client.get(at, If_None_Match=tag).status == 304
        assert client.get(at, If_Match='"other"').status == 412
        assert client.get("/hello").body == b"hello\n"

    def test_another_status(self, server):
        answer = server.get("/handed?name=small&status=404", Range="bytes=0-9")
        assert (answer.status, answer.body) == (404, SMALL)

    def test_over_packets(self, server, files):
        for name in ("small", "empty", "large"):
            answer = server.packets().ask(path="/handed", query=f"name={name}")
            assert answer.body == (files / name).read_bytes()

    def test_http_1_0(self, server):
        assert server.http().request("GET", "/handed?name=small", version="HTTP/1.0").body == SMALL

    @pytest.mark.parametrize("path", ["/etc/passwd", "{}/../root/small", "{}/missing", "{}", ""])
    def test_what_may_not_be_handed_over(self, server, files, path):
        client = server.http()
        answer = client.get(f"/handed?{urlencode({'path': path.format(files)})}&name=it")
        assert (answer.status, answer.header("x-own")) == (404, None)
        assert client.get("/hello").body == b"hello\n"
        server.expect_log(NOT_THERE)

    def test_a_link_that_leads_out(self, start):
        server = start(2, allow=[r"\[fileserve\] security error: "])
        assert server.get("/handed?name=secret").status == 404
        server.expect_log(r"\[fileserve\] security error: \S*test_files.py is not under ")

    def test_without_the_option_it_is_a_field_like_others(self, serve_asgi, files):
        server = serve_asgi("asgi_pathsend", env={"FILES": str(files)}, cores=2)
        for field, path in (("X-Sendfile", str(files / "small")), ("X-Accel-Redirect", "/a/b")):
            answer = server.get(f"/handed?{urlencode({'field': field, 'path': path})}")
            assert answer.header(field) == path
            assert answer.body == b"a body that nobody gets"

    @pytest.mark.parametrize("body", ["raise-before", "raise"])
    def test_an_exception_before_it_is_sent(self, server, body):
        client = server.http()
        client.send_request(target=f"/handed?name=small&body={body}")
        try:
            answer = client.read_response()
        except (Truncated, Malformed, ConnectionResetError):
            pytest.fail("there is nothing to cut off yet")
        assert (answer.status, answer.header("x-own")) == (500, None)
        assert client.get("/hello").body == b"hello\n"
