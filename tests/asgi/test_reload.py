"""Reloads and stops with requests in flight: they end properly, or are told to."""

from __future__ import annotations

import contextlib
import signal
import threading

import pytest

from tests.harness.http import Truncated
from tests.harness.waiting import until

MERCY = ["NO MERCY", "(?i)mercy|cancel"]


class Load(threading.Thread):
    """Clients that ask one request after the other until they are told to stop."""

    def __init__(self, server, keep_alive):
        super().__init__()
        self.server, self.keep_alive = server, keep_alive
        self.stop = threading.Event()
        self.done, self.loads, self.wrong = 0, set(), []

    def run(self):
        client = self.server.http() if self.keep_alive else None
        while not self.stop.is_set():
            name = f"n{self.done}"
            try:
                if client is not None:
                    answer = client.get(f"/works?name={name}")
                else:
                    answer = self.server.get(f"/works?name={name}")
                load, _, echoed = answer.body.decode().partition(" ")
                assert (answer.status, echoed) == (200, name), answer
                self.loads.add(load)
            except (AssertionError, OSError) as error:
                self.wrong.append(repr(error))
                return
            self.done += 1


def begun(server, target):
    client = server.http()
    client.send_request(target=target)
    client.head = client.read_head()
    client.first = client.read_chunk()
    return client


def waits(server, target, name):
    client = server.http()
    client.send_request(target=f"{target}?name={name}")
    server.wait_for_log(f"^{name} began$")
    return client


def test_nothing_is_lost_under_load(fresh_asgi):
    """Three reloads; connections with and without an end behind each response."""
    server = fresh_asgi("asgi_reload", "--processes", "2", cores=20)
    clients = [Load(server, keep_alive) for keep_alive in (True, True, True, False)]
    for client in clients:
        client.start()
    try:
        for number in range(1, 4):
            server.reload()
            until(
                lambda n=number: all(len(c.loads) > n or c.wrong for c in clients),
                "everybody is served by the new generation",
            )
    finally:
        for client in clients:
            client.stop.set()
        for client in clients:
            client.join()
    assert [client.wrong for client in clients] == [[]] * 4
    assert all(len(client.loads) == 4 for client in clients)


def test_requests_in_flight_end_in_their_worker(fresh_asgi, gate):
    server = fresh_asgi("asgi_reload", "--processes", "2", env=gate.env, cores=20)
    before = server.workers()
    clients = [begun(server, "/hold") for _ in range(6)]
    assert {int(client.first) for client in clients} <= set(before)
    server.reload()
    for _ in range(3):
        assert server.get("/hello").body == b"hello\n"
    gate.release(6)
    for client in clients:
        assert client.read_body(client.head).body == b" released"
    until(lambda: not set(before) & set(server.workers()), "the old workers have left")
    # The same connections, on workers of the new generation.
    for client in clients:
        if client.head.header("connection") != "close":
            assert client.get("/hello").body == b"hello\n"


def test_a_body_that_comes_during_a_reload(fresh_asgi):
    server = fresh_asgi("asgi_reload")
    before = server.workers()
    client = server.http()
    client.send(b"POST /upload?name=u HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n")
    server.wait_for_log("^u began$")
    server.reload()
    client.send(b"x" * 100_000)
    assert client.read_response().body == b"100000"
    until(lambda: not set(before) & set(server.workers()), "the old workers have left")


class TestStop:
    def test_requests_in_flight_end(self, fresh_asgi, gate):
        server = fresh_asgi("asgi_reload", env=gate.env)
        clients = [begun(server, "/hold") for _ in range(4)]
        server.signal(signal.SIGTERM)
        server.wait_for_log("SIGINT/SIGTERM received")
        gate.release(4)
        for client in clients:
            assert client.read_body(client.head).body == b" released"
        assert server.wait_exit() == 0

    def test_without_a_master(self, fresh_asgi, gate):
        server = fresh_asgi("asgi_reload", "--master=false", env=gate.env, probe=False)
        client = begun(server, "/hold")
        server.signal(signal.SIGTERM)
        gate.release()
        assert client.read_body(client.head).body == b" released"
        assert server.wait_exit() == 0

    def test_a_second_signal_cancels(self, fresh_asgi, gate):
        server = fresh_asgi("asgi_reload", env=gate.env, allow=MERCY)
        client = waits(server, "/hold_unanswered", "one")
        server.signal(signal.SIGINT)
        server.wait_for_log("a second signal ends them at once")
        server.signal(signal.SIGINT)
        assert client.read_response().status == 503
        assert server.wait_exit() == 0
        assert server.count_log("^one CancelledError$") == 1


class TestMercy:
    @pytest.fixture
    def server(self, fresh_asgi, gate):
        return fresh_asgi(
            "asgi_reload", "--worker-reload-mercy", "1", env=gate.env, allow=MERCY, probe=False
        )

    @pytest.mark.parametrize("how", ["reload", "stop"])
    def test_what_is_left_is_cancelled(self, server, how):
        """503 for who had nothing yet, a cut for who had a part."""
        unanswered = waits(server, "/hold_unanswered", "one")
        half = server.http()
        half.send_request(target="/held_begun?name=two")
        head = half.read_head()
        server.wait_for_log("^two began$")
        if how == "reload":
            server.reload()
        else:
            server.signal(signal.SIGTERM)
        assert unanswered.read_response().status == 503
        with pytest.raises((Truncated, ConnectionResetError)):
            half.read_body(head)
        if how == "stop":
            assert server.wait_exit() == 0
        lines = {line.uri: line for line in server.wait_requests(2)}
        assert {line.cancelled for line in lines.values()} == {"stop"}
        assert lines["/hold_unanswered?name=one"].status == 503
        assert server.count_log("^(one|two) CancelledError$") == 2
        if how == "reload":
            assert server.get("/hello").body == b"hello\n"

    def test_one_that_does_not_listen(self, server):
        """It holds up neither the reload nor, in the end, its worker."""
        before = server.workers()
        client = waits(server, "/deaf", "one")
        server.reload()
        assert server.get("/hello").body == b"hello\n"
        # Told so, or cut with its worker.
        with contextlib.suppress(Truncated, ConnectionResetError):
            assert client.read_response().status == 503
        until(lambda: not set(before) & set(server.workers()), "the old worker has left", 30)


def test_nothing_else_is_left_than_one_that_does_not_listen(fresh_asgi):
    """Nobody but the worker can give it up, and its client is told."""
    server = fresh_asgi("asgi_reload", "--worker-reload-mercy", "0.2", cores=1, allow=MERCY)
    client = waits(server, "/deaf", "one")
    server.signal(signal.SIGTERM)
    assert server.wait_exit(30) == 0
    assert client.read_response().status == 503
    (line,) = [line for line in server.log_requests() if line.uri == "/deaf?name=one"]
    assert (line.status, line.cancelled) == (503, "stop")


def test_workers_are_recycled_beside_their_requests(fresh_asgi):
    server = fresh_asgi("asgi_reload", "--max-requests", "20", cores=20, probe=False)
    before = server.workers()
    client = server.http()
    for number in range(60):
        assert client.get(f"/works?name=n{number}").body.endswith(b"n%d" % number)
    until(lambda: not set(before) & set(server.workers()), "another worker serves")
