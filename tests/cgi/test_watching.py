"""What the log, the statistics and the metrics say of scripts."""

from __future__ import annotations

import contextlib
import json
import re

from tests.cgi.scripts import HEAD, MOUNT, do, says
from tests.harness.http import Truncated
from tests.harness.status import ask_http, stats
from tests.harness.waiting import until

STATS = ("--stats", "127.0.0.1:0")


def of_scripts(server):
    return sum(worker["greenloom"]["scripts"] for worker in stats(server)["workers"])


def test_the_request_line(server):
    do(server, HEAD + "printf 12345", path="/cgi-bin/do/more?a=1")
    (line,) = server.wait_requests(1)
    assert (line.app, line.core, line.status, line.body_bytes) == (-1, -1, 200, 5)
    assert (line.method, line.uri, line.via) == ("GET", "/cgi-bin/do/more?a=1", None)
    assert line.switches == 0
    assert line.headers >= 1


def test_the_time_is_the_scripts(server):
    do(server, HEAD + "sleep 0.3")
    assert server.wait_requests(1)[0].msecs >= 300


def test_bytes_that_were_cut_do_not_count(server):
    says(server, r"Content-Length: 4\n\nbody and more")
    says(server, r"X-A: 1\n\nbody", method="HEAD")
    assert [line.body_bytes for line in server.wait_requests(2)] == [4, 0]


def test_errors_have_lines_too(server):
    says(server, "")
    server.get("/cgi-bin/missing")
    client = server.http()
    client.send_request(
        target="/cgi-bin/do", headers=[("X-Do", r"printf 'Content-Length: 9\n\nx'")]
    )
    with contextlib.suppress(Truncated):
        client.read_response()
    lines = server.wait_requests(3)
    assert [(line.status, line.app) for line in lines] == [(502, -1), (404, -1), (200, -1)]
    assert lines[2].body_bytes == 1


def test_what_a_client_sends_is_escaped_in_the_log(server):
    with server.http() as client:
        client.send(
            "GET /cgi-bin/do?%0a%1b[31m\xff HTTP/1.1\r\nHost: a\r\nX-Do: echo bad head\r\n\r\n"
        )
        assert client.read_response().status in (400, 502)
    server.wait_requests(1)
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", "\n".join(server.lines_after_ready()))


def test_json(scripts):
    server = scripts("--log-json")
    do(server, HEAD + "printf 12345")
    (line,) = server.wait_for_lines(1)[:1]
    found = json.loads(line)
    assert found["status"] == 200
    assert found["uri"] == "/cgi-bin/do"
    assert found["core"] == -1


def test_a_format_of_ones_own(scripts):
    server = scripts("--log-format", "%(method) %(uri) %(status) %(rsize) %(core) %(var.HTTP_X_A)")
    do(server, HEAD + "printf 12345", headers=[("X-A", "mine")])
    assert server.wait_for_lines(1)[0].startswith("GET /cgi-bin/do 200 ")
    assert server.wait_for_lines(1)[0].endswith(" -1 mine")


def test_statistics_count_them(beside):
    server = beside("hello", *MOUNT, *STATS)
    for _ in range(3):
        do(server, HEAD)
    says(server, "")
    server.get("/")
    until(lambda: of_scripts(server) == 4, "four scripts")
    (worker,) = stats(server)["workers"]
    assert worker["requests"] == 5
    assert sum(core["requests"] for core in worker["cores"]) == 1
    assert all(core["in_request"] == 0 for core in worker["cores"])


def test_one_that_runs_holds_no_core(beside, gate):
    server = beside("hello", *MOUNT, *STATS)
    client = server.http()
    code = f"head -c 1 {gate.path} >/dev/null; {HEAD}"
    client.send_request(target="/cgi-bin/do", headers=[("X-Do", code)])
    # The only core is free.
    assert server.get("/").body == b"hello\n"
    assert not [c for w in stats(server)["workers"] for c in w["cores"] if c["in_request"]]
    gate.release()
    assert client.read_response().status == 200


def test_metrics_count_them(scripts):
    server = scripts("--metrics", "127.0.0.1:0")
    do(server, HEAD)
    do(server, HEAD)
    pattern = re.compile(r"^greenloom_scripts_total\S* 2", re.MULTILINE)
    until(lambda: pattern.search(ask_http(server, "/metrics").body.decode()), "two scripts")


def test_no_lines_where_none_are_wanted(scripts):
    server = scripts("--disable-logging", "--log-5xx")
    do(server, HEAD)
    says(server, "")
    server.wait_for_log(r"=> generated \d+ bytes .* 502\)")
    assert server.count_log("=> generated") == 1


def test_workers_are_recycled_after_scripts(scripts):
    server = scripts("--max-requests", "3")
    first = server.worker()
    for _ in range(10):
        assert do(server, HEAD + "echo x").body == b"x\n"
    until(lambda: first not in server.workers(), "another worker")
