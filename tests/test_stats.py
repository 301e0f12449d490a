"""The stats server: uWSGI's document, read by uWSGI's tools; and what must not disturb it."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import sys
import termios
import time
import urllib.request
from pathlib import Path

import pytest
from uwsgi_exporter import build_prometheus_stats

from tests.harness.status import STATS, address, busy_cores, connect, read_all, stats
from tests.harness.uwsgi import packet, variables
from tests.harness.waiting import until

TCP = ("--stats", "127.0.0.1:0")

TOP = {
    "version": str,
    "listen_queue": int,
    "listen_queue_errors": int,
    "signal_queue": int,
    "load": int,
    "pid": int,
    "uid": int,
    "gid": int,
    "cwd": str,
    "locks": list,
    "caches": list,
    "metrics": dict,
    "sockets": list,
    "workers": list,
    "spoolers": list,
    "crons": list,
}
SOCKET = {
    "name": str,
    "proto": str,
    "queue": int,
    "max_queue": int,
    "shared": int,
    "can_offload": int,
}
WORKER = {
    "id": int,
    "pid": int,
    "accepting": int,
    "requests": int,
    "delta_requests": int,
    "exceptions": int,
    "harakiri_count": int,
    "signals": int,
    "signal_queue": int,
    "status": str,
    "rss": int,
    "vsz": int,
    "running_time": int,
    "last_spawn": int,
    "respawn_count": int,
    "tx": int,
    "avg_rt": int,
    "apps": list,
    "cores": list,
}
APP = {
    "id": int,
    "modifier1": int,
    "mountpoint": str,
    "startup_time": int,
    "requests": int,
    "exceptions": int,
    "chdir": str,
}
CORE = {
    "id": int,
    "requests": int,
    "static_requests": int,
    "routed_requests": int,
    "offloaded_requests": int,
    "write_errors": int,
    "read_errors": int,
    "in_request": int,
    "vars": list,
    "req_info": dict,
}


def missing(shown: dict, keys: dict[str, type]) -> list[str]:
    """Keys that are not there, or of another type; a bool is no int here."""
    return [key for key, kind in keys.items() if type(shown.get(key)) is not kind]


def total(server, key: str) -> int:
    return sum(worker[key] for worker in stats(server)["workers"])


class TestDocument:
    def test_every_key_is_there_with_its_type(self, fresh):
        server = fresh("hello", "--processes", "2", "--async", "3", *TCP)
        server.get("/")
        shown = stats(server)
        assert missing(shown, TOP) == []
        assert [missing(s, SOCKET) for s in shown["sockets"]] == [[]]
        assert [missing(w, WORKER) for w in shown["workers"]] == [[], []]
        for worker in shown["workers"]:
            assert [missing(a, APP) for a in worker["apps"]] == [[]] * 2
            assert [missing(c, CORE) for c in worker["cores"]] == [[]] * 3
            assert [c["id"] for c in worker["cores"]] == [0, 1, 2]
        locks = [next(iter(lock)) for lock in shown["locks"]]
        assert locks == [
            *["user 0", "signal", "filemon", "timer", "rbtimer", "cron", "rpc", "snmp"],
        ]
        assert shown["pid"] == server.pid
        assert sorted(w["pid"] for w in shown["workers"]) == server.workers()
        assert shown["sockets"][0]["max_queue"] == 100

    def test_who_has_a_lock(self, fresh):
        server = fresh("contract_locks", "--locks", "1", *TCP)
        assert server.get("/keep").status == 200
        held, free = stats(server)["locks"][:2]
        assert (held, free) == ({"user 0": server.worker()}, {"user 1": 0})
        assert server.get("/unlock").status == 200
        assert stats(server)["locks"][0] == {"user 0": 0}

    def test_requests_are_counted(self, fresh):
        server = fresh("errors", *TCP, allow=["boom", "Traceback", "tests/apps/errors"])
        before = stats(server)["workers"][0]
        server.get("/before")
        server.wait_requests(1)
        worker = stats(server)["workers"][0]
        assert worker["requests"] - before["requests"] == 1
        assert worker["exceptions"] - before["exceptions"] == 1
        assert worker["apps"][0]["exceptions"] == 1
        assert worker["tx"] > before["tx"]
        assert worker["running_time"] > 0
        assert worker["rss"] > 1 << 20

    def test_a_request_is_shown_while_it_runs(self, fresh, gate):
        server = fresh("hold", "--async", "2", *TCP, env=gate.env)
        client = server.http()
        secret = [("Authorization", "Basic c2VjcmV0"), ("Cookie", "session=c2VjcmV0")]
        client.send_request("GET", "/hold?a=1", secret)
        (core,) = until(lambda: busy_cores(server), "the request")
        assert core["vars"] == [
            "REQUEST_METHOD=GET",
            "REQUEST_URI=/hold?a=1",
            "PATH_INFO=/hold",
            "REMOTE_ADDR=127.0.0.1",
            core["vars"][4],
            "",
        ]
        assert core["vars"][4].startswith("HTTP_HOST=")
        assert abs(core["req_info"]["request_start"] - time.time()) < 60
        assert stats(server)["workers"][0]["status"] == "busy"
        assert b"c2VjcmV0" not in read_all(address(server, STATS))
        gate.release()
        client.read_response()
        until(lambda: not busy_cores(server), "the end of the request")
        assert stats(server)["workers"][0]["status"] == "idle"

    def test_over_uwsgi_the_web_servers_word_counts(self, fresh, gate):
        server = fresh("hold", "--async", "2", *TCP, uwsgi="127.0.0.1:0", env=gate.env)
        packets = server.packets()
        packets.send(packet(variables("GET", "/hold")))
        (core,) = until(lambda: busy_cores(server), "the request")
        assert core["vars"][3:5] == ["REMOTE_ADDR=192.0.2.7", "HTTP_HOST=example.org"]
        gate.release()
        assert packets.read_answer().body.endswith(b"released\n")

    def test_sums_never_go_back(self, fresh):
        server = fresh("hello", "--processes", "2", *TCP, allow=["(?i)signal|died|killed"])
        for _ in range(10):
            server.get("/")
        server.wait_requests(10)
        before = total(server, "requests"), total(server, "tx")
        assert before[0] >= 10
        server.reload()
        assert total(server, "requests") >= before[0]
        assert total(server, "tx") >= before[1]
        old = server.workers()
        os.kill(old[-1], signal.SIGKILL)
        until(lambda: len(server.workers()) == 2 and old[-1] not in server.workers(), "a respawn")
        assert total(server, "requests") >= before[0]
        until(lambda: total(server, "respawn_count") == 5, "five processes")

    def test_a_worker_that_hangs_hides_nothing(self, fresh, gate):
        server = fresh("hold", *TCP, env=gate.env)
        client = server.http()
        client.send_request("GET", "/block")
        (core,) = until(lambda: busy_cores(server), "the request")
        assert core["vars"][1] == "REQUEST_URI=/block"
        lag = lambda: stats(server)["workers"][0]["greenloom"]["loop_lag_us"]  # noqa: E731
        until(lambda: lag() > 200_000, "the lag of a blocked loop")
        gate.release()
        client.read_response()

    def test_nothing_lags_in_a_server_at_rest(self, fresh):
        server = fresh("hello", *TCP)
        server.get("/")
        extras = stats(server)["workers"][0]["greenloom"]
        assert extras["loop_lag_us"] < 5_000_000
        assert extras["connections"]["open"] <= 1


class TestForms:
    def test_http_minified_without_cores(self, fresh):
        server = fresh("hello", *TCP, "--stats-http", "--stats-minified", "--stats-no-cores")
        host, port = address(server, STATS)
        with urllib.request.urlopen(f"http://{host}:{port}/", timeout=10) as answer:
            assert answer.headers["Content-Type"] == "application/json"
            assert answer.headers["Access-Control-Allow-Origin"] == "*"
            text = answer.read()
        assert text.count(b"\n") == 1
        assert "cores" not in json.loads(text)["workers"][0]

    def test_people_get_tabs(self, fresh):
        server = fresh("hello", *TCP)
        assert read_all(address(server, STATS)).startswith(b"{\n\t")

    @pytest.mark.parametrize("kind", ["file", "abstract"])
    def test_unix(self, fresh, tmp_path, kind):
        where = str(tmp_path / "s.sock") if kind == "file" else f"@greenloom-{os.getpid()}"
        server = fresh("hello", "--stats", where)
        assert missing(stats(server), TOP) == []
        if kind == "file":
            server.signal(signal.SIGTERM)
            server.wait_exit()
            assert not Path(where).exists()


class TestTools:
    def test_uwsgitop(self, fresh):
        server = fresh("hello", "--processes", "2", *TCP)
        server.get("/")
        host, port = address(server, STATS)
        screen = watch(
            [sys.executable, str(Path(sys.executable).parent / "uwsgitop"), f"{host}:{port}"],
            lambda text: all(str(pid) in text for pid in server.workers()),
        )
        assert f"masterpid: {server.pid}" in screen
        assert "STATUS" in screen
        assert "idle" in screen

    def test_uwsgi_exporter(self, fresh):
        server = fresh("hello", "--processes", "2", "--async", "2", *TCP, "--stats-http")
        server.get("/")
        server.wait_requests(1)
        host, port = address(server, STATS)
        families = {f.name: f for f in build_prometheus_stats(f"http://{host}:{port}/")}
        requests = families["uwsgi_workers_requests"].samples
        assert sorted(sample.labels["worker"] for sample in requests) == ["1", "2"]
        assert sum(sample.value for sample in requests) == 1
        assert len(families["uwsgi_workers_cores_requests"].samples) == 4
        assert families["uwsgi_listen_queue"].samples[0].value == 0


class TestClientsThatAreNoHelp:
    def test_many_that_read_nothing(self, fresh):
        server = fresh("hello", "--processes", "2", "--async", "1000", *TCP)
        where = address(server, STATS)
        idle = [connect(where) for _ in range(100)]
        try:
            assert missing(stats(server), TOP) == []
            assert server.get("/").status == 200
        finally:
            for client in idle:
                client.close()

    def test_bytes_nobody_asked_for(self, fresh):
        server = fresh("hello", *TCP)
        with connect(address(server, STATS)) as client:
            client.sendall(os.urandom(4096))
            text = b"".join(iter(lambda: client.recv(65536), b""))
        assert missing(json.loads(text), TOP) == []

    def test_one_that_resets(self, fresh):
        server = fresh("hello", *TCP)
        for _ in range(50):
            client = connect(address(server, STATS))
            client.setsockopt(6, 1, 1)  # TCP_NODELAY, to be sure that it is a TCP socket
            linger = struct.pack("ii", 1, 0)
            client.setsockopt(1, 13, linger)  # SO_LINGER
            client.close()
        assert missing(stats(server), TOP) == []


def test_workers_of_the_module(fresh):
    server = fresh("workers", "--processes", "2")
    shown = server.get("/").json()
    assert [worker["id"] for worker in shown] == [1, 2]
    assert sorted(worker["pid"] for worker in shown) == server.workers()
    assert sorted(worker["status"] for worker in shown) == ["busy", "idle"]
    assert {app["mountpoint"] for app in shown[0]["apps"]} == {"", "/__probe"}
    server.wait_requests(1)
    again = server.get("/").json()
    assert sum(worker["requests"] for worker in again) == 1
    assert all(worker["rss"] > 1 << 20 for worker in again)


def watch(command: list[str], seen) -> str:
    """Runs a program of the terminal until its screen shows what is wanted; the screen."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.environ["TERM"] = "xterm"
        os.execv(command[0], command)
    shown = b""
    try:
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 200, 0, 0))
        end = time.monotonic() + 20
        while not seen(plain(shown)):
            assert time.monotonic() < end, plain(shown)
            if select.select([terminal], [], [], 0.2)[0]:
                try:
                    shown += os.read(terminal, 65536)
                except OSError:
                    raise AssertionError(f"it has ended:\n{plain(shown)}") from None
        os.write(terminal, b"q")
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(terminal)
    return plain(shown)


def plain(screen: bytes) -> str:
    return re.sub(r"\x1b[\[(][0-9;?]*[A-Za-z]", " ", screen.decode("utf-8", "replace"))
