"""Metrics, health and readiness: what a scraper and a load balancer see."""

from __future__ import annotations

import os
import signal
import socket

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_metrics
from prometheus_client.parser import text_string_to_metric_families as prometheus

from tests.harness.status import METRICS, address, ask_http, connect, ctl
from tests.harness.waiting import until

DOOR = ("--metrics", "127.0.0.1:0")
OPEN = ("Accept", "application/openmetrics-text; version=1.0.0")


def scrape(server) -> dict:
    """Families by name, by the strict parser."""
    answer = ask_http(server, "/metrics", OPEN)
    assert answer.status == 200
    assert answer.header("Content-Type").startswith("application/openmetrics-text; version=1.0.0")
    return {family.name: family for family in open_metrics(answer.body.decode())}


def value(families: dict, name: str, **labels: str) -> float:
    """The sum of the samples with these labels."""
    family = next(f for f in families.values() if any(s.name == name for s in f.samples))
    found = [s for s in family.samples if s.name == name and labels.items() <= s.labels.items()]
    assert found, f"no {name} with {labels}"
    return sum(sample.value for sample in found)


class TestMetrics:
    def test_requests_and_their_times(self, fresh):
        server = fresh(
            "errors", "--processes", "2", *DOOR, allow=["boom", "Traceback", "tests/apps/errors"]
        )
        for target in ["/before"] * 3:
            server.get(target)
        server.wait_requests(3)
        families = scrape(server)
        assert value(families, "greenloom_requests_total", status="5xx") == 3
        assert value(families, "greenloom_requests_total") == 3
        assert value(families, "greenloom_exceptions_total") == 3
        assert value(families, "greenloom_request_duration_seconds_count") == 3
        assert value(families, "greenloom_request_duration_seconds_bucket", le="+Inf") == 3
        assert value(families, "greenloom_request_duration_seconds_sum") > 0
        assert value(families, "greenloom_sent_bytes_total") > 0
        assert value(families, "greenloom_ready") == 1
        assert value(families, "greenloom_processes", state="accepting") == 2
        until(
            lambda: value(scrape(server), "greenloom_connections_accepted_total") >= 3,
            "the connections",
        )

    def test_both_formats_say_the_same(self, fresh):
        server = fresh("hello", "--processes", "2", *DOOR)
        server.get("/")
        server.wait_requests(1)
        answer = ask_http(server, "/metrics")
        assert answer.header("Content-Type") == "text/plain; version=0.0.4; charset=utf-8"
        older = {f.name: f for f in prometheus(answer.body.decode())}
        newer = scrape(server)
        assert {s.name for f in older.values() for s in f.samples} == {
            s.name for f in newer.values() for s in f.samples
        }
        assert {f.type for f in older.values()} == {"counter", "gauge", "histogram"}
        assert value(older, "greenloom_requests_total", status="2xx") == 1

    def test_cores_and_the_queue(self, fresh, gate):
        server = fresh("hold", "--async", "2", *DOOR, env=gate.env, allow=["async queue is full"])
        clients = [server.http() for _ in range(3)]
        for client in clients:
            client.send_request("GET", "/hold")

        def queued():
            families = scrape(server)
            return (
                value(families, "greenloom_cores", state="suspended") == 2
                and value(families, "greenloom_cores", state="idle") == 0
                and value(families, "greenloom_connections", state="busy") == 2
                and value(families, "greenloom_connections", state="parked") == 1
                and value(families, "greenloom_queue_age_seconds") > 0
                and value(families, "greenloom_queue_full_total") == 1
            )

        until(queued, "two suspended cores and one request in the queue")
        gate.release(3)
        for client in clients:
            client.read_response()
        until(lambda: value(scrape(server), "greenloom_cores", state="idle") == 2, "idle cores")
        until(lambda: value(scrape(server), "greenloom_queue_age_seconds") == 0, "an empty queue")
        assert value(scrape(server), "greenloom_switches_total") >= 3

    def test_nothing_goes_back(self, fresh):
        server = fresh("hello", "--processes", "2", *DOOR, allow=["(?i)signal|died|killed"])
        for _ in range(5):
            server.get("/")
        server.wait_requests(5)
        counters = lambda: {  # noqa: E731
            (s.name, *sorted(s.labels.items())): s.value
            for f in scrape(server).values()
            if f.type in ("counter", "histogram")
            for s in f.samples
        }
        seen = counters()
        for number in (signal.SIGHUP, signal.SIGKILL, signal.SIGHUP):
            if number == signal.SIGHUP:
                server.reload()
            else:
                os.kill(server.workers()[0], number)
                until(lambda: len(server.workers()) == 2, "a new worker")
            server.get("/")
            now = counters()
            assert {
                name: (seen[name], now.get(name)) for name in seen if now[name] < seen[name]
            } == {}
            seen = now
        assert value(scrape(server), "greenloom_reloads_total", result="done") == 2
        until(lambda: value(scrape(server), "greenloom_requests_total") == 8, "all requests")


class TestHealth:
    def test_in_the_middle_of_life(self, fresh):
        server = fresh("hello", *DOOR)
        assert ask_http(server, "/healthz").status == 200
        assert ask_http(server, "/readyz").status == 200
        assert ask_http(server, "/").status == 404
        with_body = ask_http(server, "/healthz")
        assert with_body.body == b"ok\n"

    def test_drained(self, fresh, tmp_path):
        where = tmp_path / "ctl"
        server = fresh("hello", *DOOR, "--control-socket", str(where))
        ctl(where, "drain")
        answer = ask_http(server, "/readyz")
        assert (answer.status, answer.body) == (503, b"drained\n")
        assert ask_http(server, "/healthz").status == 200
        assert server.get("/").status == 200

    def test_before_a_stop(self, fresh):
        server = fresh("hello", *DOOR, "--shutdown-delay", "600")
        server.signal(signal.SIGTERM)
        until(lambda: ask_http(server, "/readyz").status == 503, "readiness to say no")
        assert ask_http(server, "/readyz").body == b"leaving\n"
        assert ask_http(server, "/healthz").status == 200
        assert server.get("/").status == 200
        # A second one begins the stop.
        server.signal(signal.SIGTERM)
        assert server.wait_exit() == 0

    def test_while_requests_end(self, fresh, gate):
        server = fresh("hold", "--async", "2", *DOOR, env=gate.env)
        client = server.http()
        client.send_request("GET", "/hold")
        until(lambda: value(scrape(server), "greenloom_cores", state="suspended") == 1, "it")
        server.signal(signal.SIGTERM)
        until(lambda: ask_http(server, "/healthz").status == 503, "nobody to accept")
        assert ask_http(server, "/readyz").body == b"stopping\n"
        gate.release()
        client.read_response()
        assert server.wait_exit() == 0


class TestClientsThatAreNoHelp:
    @pytest.mark.parametrize("said", [b"", b"GET /metrics HT", b"\x16\x03\x01\x02\x00\x01"])
    def test_many(self, fresh, said):
        server = fresh("hello", *DOOR)
        clients = [connect(address(server, METRICS)) for _ in range(100)]
        try:
            for client in clients:
                client.sendall(said)
            assert ask_http(server, "/healthz").status == 200
        finally:
            for client in clients:
                client.close()

    def test_what_is_no_http(self, fresh):
        server = fresh("hello", *DOOR)
        with connect(address(server, METRICS)) as client:
            client.sendall(b"\x16\x03\x01\r\n\r\n")
            assert client.recv(4096).startswith(b"HTTP/1.1 400 ")

    def test_a_head_without_end(self, fresh):
        server = fresh("hello", *DOOR)
        with connect(address(server, METRICS)) as client:
            client.sendall(b"GET / HTTP/1.1\r\n")
            try:
                for _ in range(1000):
                    client.sendall(b"X: " + b"y" * 1000 + b"\r\n")
                answer = client.recv(4096)
            except OSError:
                answer = b""
            assert answer == b"" or answer.startswith(b"HTTP/1.1 4")

    def test_ipv6(self, fresh):
        try:
            socket.create_server(("::1", 0), family=socket.AF_INET6).close()
        except OSError:
            pytest.skip("this machine has no IPv6")
        server = fresh("hello", "--metrics", "[::1]:0")
        found = address(server, METRICS)
        with connect((found[0].strip("[]"), found[1])) as client:
            client.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            assert client.recv(4096).startswith(b"HTTP/1.1 200 ")
