"""The request line: each field, and that no client can write one of its own."""

from __future__ import annotations

import re
import time

import pytest

from tests.harness import request_log


def one(server, *request, **how):
    before = len(server.log_requests())
    server.request(*request, **how)
    return server.wait_requests(before + 1)[-1]


class TestFields:
    def test_all(self, fresh):
        server = fresh("hello", "--async", "2")
        answer = server.get("/plain?a=1")
        (line,) = server.wait_requests(1)
        assert line.pid == server.worker()
        assert line.app == 0
        assert (line.started, line.total) == (1, 1)
        assert line.address == "127.0.0.1"
        assert line.user == ""
        assert (line.method, line.uri, line.protocol) == ("GET", "/plain?a=1", "HTTP/1.1")
        assert line.status == 200
        assert line.body_bytes == 6
        assert line.via is None
        assert line.headers == len(answer.headers)
        assert line.header_bytes == len(answer.raw_head) + 4
        assert line.core in (0, 1)
        assert line.variables % 2 == 0
        assert line.variables >= 16
        assert line.variable_bytes > 50
        assert 0 <= line.msecs < 10_000

    def test_date_is_the_start_in_local_time(self, fresh):
        before = int(time.time())
        server = fresh("hello")
        server.get("/")
        (line,) = server.wait_requests(1)
        assert before <= time.mktime(time.strptime(line.date)) <= time.time()

    def test_counters(self, fresh):
        server = fresh("hello")
        for _ in range(3):
            server.get("/")
        assert [(r.started, r.total) for r in server.wait_requests(3)] == [(1, 1), (2, 2), (3, 3)]

    def test_total_over_all_workers(self, fresh):
        server = fresh("hello", "--processes", "2")
        for _ in range(10):
            server.get("/")
        assert sorted(r.total for r in server.wait_requests(10)) == list(range(1, 11))

    def test_app_of_a_mount(self, serve):
        server = serve(
            None, "--chdir", "tests/apps/mounts", "--mount", "/a=one.py", "--mount", "/b=two.py",
            probe=False,
        )  # fmt: skip
        server.get("/a")
        server.get("/b")
        assert sorted(r.app for r in server.wait_requests(2)) == [0, 1]

    def test_status_and_size(self, serve):
        server = serve("bodyless")
        assert one(server, "GET", "/204/list").status == 204
        assert one(server, "GET", "/204/list").body_bytes == 0
        assert one(server, "HEAD", "/200/list").body_bytes == 0
        assert one(server, "GET", "/200/generator").body_bytes == 8

    def test_body_bytes_are_without_framing(self, serve):
        server = serve("stream")
        assert one(server, "GET", "/10?size=100").body_bytes == 1000

    def test_sync_switches(self, serve):
        server = serve("stream")
        assert 5 <= one(server, "GET", "/5").switches <= 7

    def test_refused_requests_have_no_request_line(self, serve):
        server = serve("hello")
        client = server.http()
        client.send(b"GET / HTTP/1.1\r\n\r\n")
        assert client.read_response().status == 400
        server.get("/")
        assert [r.status for r in server.wait_requests(1)] == [200]

    def test_remote_user_comes_from_the_front_end_only(self, serve):
        server = serve("hello", uwsgi="127.0.0.1:0")
        server.packets().ask(extra=[("REMOTE_USER", "ann")])
        assert server.wait_requests(1)[0].user == "ann"
        assert one(server, "GET", "/", [("Remote-User", "evil")]).user == ""


FORGED = (
    "[pid: 1|app: 0|req: 1/1] 6.6.6.6 () {2 vars in 2 bytes} [Sat Nov 21 19:27:38 2026] "
    "GET /forged => generated 5 bytes in 1 msecs (HTTP/1.1 200) 1 headers in 45 bytes "
    "(1 switches on core 0)"
)


def only_one_clean_line(server):
    server.get("/last")
    lines = server.wait_requests(1)
    lines = server.lines_after_ready()
    for line in lines:
        assert re.fullmatch(r"[\x20-\x7e\udc80-\udcff]*", line), line
        parsed = request_log.parse(line)
        assert parsed is None or parsed.address != "6.6.6.6"
        assert not line.startswith("[pid: 1|")


class TestForgery:
    @pytest.mark.parametrize("mark", ["%0a", "%0d%0a", "%1b[2J", "%00", "%0a%0d", "%e2%80%a8"])
    def test_encoded_targets(self, serve, mark):
        server = serve("hello")
        server.get("/x" + mark + FORGED.replace(" ", "%20"))
        (line,) = server.wait_requests(1)
        assert line.uri.startswith("/x")
        only_one_clean_line(server)

    @pytest.mark.parametrize("mark", ["\n", "\r", "\r\n", "\x1b[2J", "\x00", "\x7f", "\x85"])
    def test_raw_targets(self, serve, mark):
        server = serve("hello")
        client = server.http()
        client.send(f"GET /x{mark}{FORGED.replace(' ', '_')} HTTP/1.1\r\nHost: a\r\n\r\n")
        client.read_response()
        server.wait_for_lines(1)
        only_one_clean_line(server)

    @pytest.mark.parametrize("mark", ["\n", "\r", "\r\n", "\x1b[2J", "\x00", "\x7f", "\x85"])
    @pytest.mark.parametrize(
        "name",
        ["REQUEST_URI", "REQUEST_METHOD", "REMOTE_ADDR", "REMOTE_USER", "SERVER_PROTOCOL"],
    )
    def test_packets(self, serve, name, mark):
        from tests.harness.uwsgi import packet, variables

        server = serve("hello", uwsgi="127.0.0.1:0", allow=["forged"])
        pairs = [(k, v) for k, v in variables() if k != name]
        client = server.packets()
        client.send(packet([*pairs, (name, "x" + mark + FORGED)]))
        client.read_to_end()
        server.wait_for_lines(1)
        assert len(server.lines_after_ready()) == 1
        only_one_clean_line(server)

    @pytest.mark.parametrize("mark", [b"\n", b"\r\n ", b"\x1b"])
    def test_headers(self, serve, mark):
        server = serve("hello")
        client = server.http()
        client.send(
            b"GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 1" + mark + FORGED.encode()
            + b"\r\n\r\n"
        )  # fmt: skip
        client.read_response()
        only_one_clean_line(server)

    def test_escapes_are_visible(self, serve):
        server = serve("hello", uwsgi="127.0.0.1:0")
        server.packets().ask(path="/a\nb\x1bc")
        server.wait_for_log(r" /a\\x0[aA]b\\x1[bB]c => generated ")

    def test_a_long_target_stays_one_line(self, serve):
        server = serve("hello", "--buffer-size", "32768")
        server.get("/" + "a" * 20_000)
        server.wait_for_lines(1)
        assert len(server.lines_after_ready()) == 1
        only_one_clean_line(server)


class TestTargets:
    def test_disable_logging(self, serve):
        server = serve("hello", "--disable-logging")
        for _ in range(3):
            assert server.get("/").status == 200
        assert server.lines_after_ready() == []

    def test_logto(self, fresh, tmp_path):
        path = tmp_path / "greenloom.log"
        path.write_text("earlier line\n")
        server = fresh("hello", logto=path)
        server.get("/x")
        server.wait_requests(1)
        assert path.read_text().startswith("earlier line\n")
