"""What is said of requests for files: lines in each form, statistics, metrics."""

from __future__ import annotations

import json
import os

import pytest

from tests.harness.http import Truncated
from tests.harness.status import METRICS, address, ask_http, stats
from tests.harness.uwsgi import packet, variables
from tests.harness.waiting import until
from tests.static.trees import etag, pattern, plant
from tests.test_metrics import scrape, value

SMALL, LARGE = b"small file", pattern(3_000_000)
HUGE = 64 << 20

REQUESTS = {
    "small": ("GET", "/small", {}, 200),
    "large": ("GET", "/large", {}, 200),
    "empty": ("GET", "/empty", {}, 200),
    "head": ("HEAD", "/large", {}, 200),
    "one range": ("GET", "/large", {"Range": "bytes=10-19"}, 206),
    "several ranges": ("GET", "/large", {"Range": "bytes=0-1,1000000-1999999"}, 206),
    "no such range": ("GET", "/small", {"Range": "bytes=100-"}, 416),
    "not modified": ("GET", "/small", {"If-None-Match": etag(len(SMALL))}, 304),
    "failed": ("GET", "/small", {"If-Match": '"x"'}, 412),
    "not there": ("GET", "/none", {}, 404),
    "another method": ("POST", "/small", {}, 404),
}


@pytest.fixture
def root(tmp_path):
    found = plant(tmp_path / "root", **{"small": SMALL, "large": LARGE, "empty": b""})
    with (found / "huge").open("wb") as file:
        file.truncate(HUGE)
    return found


def ask(server, name):
    method, target, fields, status = REQUESTS[name]
    with server.http() as client:
        answer = client.request(method, target, fields.items())
    assert answer.status == status
    return answer


class TestLines:
    @pytest.mark.parametrize("name", REQUESTS)
    def test_of_uwsgis_form(self, fresh_native, root, name):
        server = fresh_native("--check-static", str(root))
        answer = ask(server, name)
        (line,) = server.wait_requests(1)
        method, target, _, status = REQUESTS[name]
        assert (line.method, line.uri, line.status) == (method, target, status)
        assert (line.app, line.started, line.core, line.switches) == (-1, -1, -1, 0)
        assert line.body_bytes == len(answer.body)
        assert line.via == ("sendfile" if answer.body and status < 300 else None)
        assert line.headers == len(answer.headers)
        assert line.header_bytes == len(answer.raw_head) + 4
        assert (line.cancelled, line.abandoned) == (None, False)
        assert line.pid == server.worker()

    @pytest.mark.parametrize("name", ["small", "no such range", "not there"])
    def test_the_field_connection_counts(self, fresh_native, root, name):
        server = fresh_native("--check-static", str(root))
        method, target, fields, _ = REQUESTS[name]
        answer = server.request(method, target, fields.items())
        assert answer.header("Connection") == "close"
        (line,) = server.wait_requests(1)
        assert line.header_bytes == len(answer.raw_head) + 4
        assert line.headers == len(answer.headers)

    def test_beside_those_of_an_application(self, fresh, root):
        server = fresh("hello", "--async", "4", "--check-static", str(root))
        with server.http() as client:
            for target in ("/small", "/x", "/large", "/y"):
                client.get(target)
        lines = server.wait_requests(4)
        assert [(r.app, r.core >= 0) for r in lines] == [(-1, False), (0, True)] * 2
        assert [r.total for r in lines] == [1, 2, 3, 4]
        assert [r.started for r in lines] == [-1, 1, -1, 2]

    def test_over_the_uwsgi_protocol(self, fresh_native, root):
        server = fresh_native("--check-static", str(root), uwsgi="127.0.0.1:0")
        with server.packets() as client:
            client.send(packet(variables(path="/large")))
            answer = client.read_answer()
        (line,) = server.wait_requests(1)
        assert (line.core, line.via, line.body_bytes) == (-1, "sendfile", len(LARGE))
        assert line.header_bytes == len(answer.raw_head) + 4
        assert line.address == "192.0.2.7"

    def test_json(self, start):
        server = start("--log-json")
        for name in ("large", "one range", "no such range", "not modified"):
            ask(server, name)
        lines = [json.loads(line) for line in server.wait_for_lines(4)[:4]]
        assert [line["status"] for line in lines] == [200, 206, 416, 304]
        assert [line["rsize"] for line in lines] == [len(LARGE), 10, 0, 0]
        for line in lines:
            assert (line["core"], line["app"], line["app_requests"]) == (-1, -1, -1)
            assert line["ended"] == "complete"
            assert line["micros"] == line["wait_micros"] + line["run_micros"]
            assert line["size"] == line["hsize"] + line["rsize"]
        assert [line["requests"] for line in lines] == [1, 2, 3, 4]

    def test_a_template(self, start):
        server = start(
            "--log-format", "%(method) %(uri) %(status) %(rsize) %(core) %(app) %(ended)"
        )
        for name in ("small", "head", "one range", "not modified"):
            ask(server, name)
        assert server.wait_for_lines(4)[:4] == [
            f"GET /small 200 {len(SMALL)} -1 -1 complete",
            "HEAD /large 200 0 -1 -1 complete",
            "GET /large 206 10 -1 -1 complete",
            "GET /small 304 0 -1 -1 complete",
        ]

    def test_none(self, start):
        server = start("--disable-logging")
        for name in ("small", "large", "not modified"):
            ask(server, name)
        assert server.get("/large").body == LARGE
        assert server.log_requests() == []


class TestWhichLines:
    def test_log_sendfile(self, fresh, root):
        """Files, and of these the ones that were sent."""
        server = fresh(
            "hello", "--check-static", str(root), "--disable-logging", "--log-sendfile",
            "--async", "4",
        )  # fmt: skip
        for name in ("not modified", "head", "small", "no such range", "large", "one range"):
            ask(server, name)
        assert server.get("/app").body == b"hello\n"
        ask(server, "several ranges")
        lines = until(
            lambda: (
                [r for r in server.log_requests() if r.uri != "/x"][3:] and server.log_requests()
            ),
            "4",
        )
        assert [(r.uri, r.status) for r in lines] == [
            ("/small", 200),
            ("/large", 200),
            ("/large", 206),
            ("/large", 206),
        ]
        assert {r.via for r in lines} == {"sendfile"}

    @pytest.mark.parametrize(
        ("option", "names"),
        [
            ("--log-4xx", ["no such range", "failed"]),
            ("--log-zero", ["empty", "head", "no such range", "not modified", "failed"]),
            ("--log-big=1m", ["large"]),
        ],
    )
    def test_other_conditions(self, fresh_native, root, option, names):
        server = fresh_native("--check-static", str(root), "--disable-logging", option)
        asked = [n for n in REQUESTS if n not in ("not there", "another method", "several ranges")]
        for name in asked:
            ask(server, name)
        lines = server.wait_requests(len(names))
        assert [(r.method, r.uri, r.status) for r in lines] == [
            (REQUESTS[n][0], REQUESTS[n][1], REQUESTS[n][3]) for n in asked if n in names
        ]


class TestAborted:
    def test_bytes_are_what_has_left_at_most(self, fresh_native, root):
        """What the client has read has left; what neither socket can hold has not."""
        server = fresh_native("--check-static", str(root))
        client = server.http(receive_buffer=4096)
        client.send_request("GET", "/huge")
        client.read_head()
        read = len(client.read_exactly(5_000_000))
        client.reset()
        (line,) = server.wait_requests(1)
        assert read <= line.body_bytes <= read + (8 << 20) < HUGE
        assert (line.status, line.cancelled, line.via) == (200, "client gone", "sendfile")

    def test_of_a_part(self, fresh_native, root):
        server = fresh_native("--check-static", str(root))
        client = server.http(receive_buffer=4096)
        client.send_request("GET", "/huge", [("Range", "bytes=1000-")])
        client.read_head()
        client.read_exactly(1_000_000)
        client.close()
        (line,) = server.wait_requests(1)
        assert 1_000_000 <= line.body_bytes < HUGE - 1000
        assert (line.status, line.cancelled) == (206, "client gone")

    def test_of_several_parts(self, fresh_native, root):
        server = fresh_native("--check-static", str(root))
        client = server.http(receive_buffer=4096)
        client.send_request("GET", "/huge", [("Range", f"bytes=0-99,{1 << 20}-")])
        client.read_head()
        client.read_exactly(1_000_000)
        client.reset()
        (line,) = server.wait_requests(1)
        assert 1_000_000 <= line.body_bytes < HUGE - (1 << 20)

    def test_in_json(self, fresh_native, root):
        server = fresh_native("--check-static", str(root), "--log-json")
        client = server.http(receive_buffer=4096)
        client.send_request("GET", "/huge")
        client.read_exactly(1000)
        client.reset()
        line = json.loads(server.wait_for_lines(1)[0])
        assert (line["status"], line["ended"]) == (200, "client-gone")
        assert 1000 <= line["size"] < HUGE

    @pytest.mark.parametrize("why", ["nothing is read", "truncated"])
    def test_whose_fault_it_is(self, fresh_native, root, why):
        server = fresh_native(
            "--check-static", str(root), "--socket-timeout", "1",
            "--log-format", "%(uri) %(status) %(ended)", allow=["cannot send the rest of a file"],
        )  # fmt: skip
        client = server.http(receive_buffer=4096)
        client.send_request("GET", "/huge")
        client.read_head()
        if why == "truncated":
            os.truncate(root / "huge", 1000)
            with pytest.raises((Truncated, ConnectionResetError)):
                client.read_exactly(HUGE)
        found = server.wait_for_log(r"^/huge 200 (.*)$")
        assert found[1] == ("failed" if why == "truncated" else "client-gone")


class TestCounts:
    def test_statistics(self, start):
        server = start("--stats", "127.0.0.1:0")
        sent = 0
        for name in ("small", "large", "head", "not modified", "one range", "no such range"):
            answer = ask(server, name)
            sent += len(answer.raw_head) + 4 + len(answer.body)
        server.wait_requests(6)
        (worker,) = stats(server)["workers"]
        assert worker["requests"] == 6
        assert worker["greenloom"]["files"] == 6
        assert worker["greenloom"]["scripts"] == 0
        assert worker["tx"] == sent
        assert worker["exceptions"] == 0
        assert worker["avg_rt"] == 0, "the average is that of applications"
        assert all(app["requests"] == 0 for app in worker["apps"])
        assert all(core["requests"] == 0 for core in worker["cores"])

    def test_metrics(self, start):
        server = start("--metrics", "127.0.0.1:0")
        for name in ("small", "large", "one range", "not modified", "no such range", "failed"):
            ask(server, name)
        server.wait_requests(6)
        families = scrape(server)
        assert value(families, "greenloom_files_total") == 6
        assert value(families, "greenloom_scripts_total") == 0
        assert value(families, "greenloom_requests_total") == 6
        for status, count in (("2xx", 3), ("3xx", 1), ("4xx", 2), ("5xx", 0)):
            assert value(families, "greenloom_requests_total", status=status) == count
        assert value(families, "greenloom_request_duration_seconds_count") == 6
        assert value(families, "greenloom_sent_bytes_total") > len(LARGE)

    def test_what_is_not_there(self, fresh_native, root):
        """A 404 without an application is a request like others."""
        server = fresh_native("--check-static", str(root), "--metrics", "127.0.0.1:0")
        ask(server, "not there")
        ask(server, "another method")
        ask(server, "small")
        server.wait_requests(3)
        families = scrape(server)
        assert value(families, "greenloom_requests_total", status="4xx") == 2
        assert value(families, "greenloom_requests_total") == 3
        assert value(families, "greenloom_files_total") == 1

    def test_files_and_an_application(self, fresh, root):
        server = fresh(
            "hello", "--async", "4", "--check-static", str(root), "--metrics", "127.0.0.1:0",
            "--stats", "127.0.0.1:0",
        )  # fmt: skip
        for target in ("/small", "/app", "/large", "/app"):
            server.get(target)
        server.wait_requests(4)
        families = scrape(server)
        assert value(families, "greenloom_files_total") == 2
        assert value(families, "greenloom_requests_total") == 4
        (worker,) = stats(server)["workers"]
        assert sum(core["requests"] for core in worker["cores"]) == 2
        assert worker["apps"][0]["requests"] == 2

    def test_clients_that_leave(self, fresh_native, root):
        server = fresh_native("--check-static", str(root), "--metrics", "127.0.0.1:0")
        client = server.http(receive_buffer=4096)
        client.send_request("GET", "/huge")
        client.read_exactly(1000)
        client.reset()
        server.wait_requests(1)
        until(lambda: value(scrape(server), "greenloom_clients_gone_total") == 1, "counted")
        assert value(scrape(server), "greenloom_files_total") == 1
        assert value(scrape(server), "greenloom_sent_bytes_total") < HUGE

    def test_how_things_stand(self, start):
        """A download is no idle connection, and takes no core."""
        server = start("--stats", "127.0.0.1:0")
        client = server.http(receive_buffer=4096)
        client.send_request("GET", "/huge")
        client.read_head()

        def shown():
            (worker,) = stats(server)["workers"]
            connections = worker["greenloom"]["connections"]
            return (connections["open"], connections["idle"], worker["status"]) == (1, 0, "idle")

        until(shown, "one connection with a download")
        (worker,) = stats(server)["workers"]
        assert not any(core["in_request"] for core in worker["cores"])
        client.reset()
        until(
            lambda: stats(server)["workers"][0]["greenloom"]["connections"]["open"] == 0,
            "no connection",
        )

    def test_a_server_of_files_is_healthy(self, fresh_native, root):
        server = fresh_native("--check-static", str(root), "--metrics", "127.0.0.1:0")
        assert address(server, METRICS)
        assert ask_http(server, "/healthz").status == 200
        assert ask_http(server, "/readyz").status == 200
