"""Connections hold no core: half heads, dripped bodies and idle ones disturb nobody."""

from __future__ import annotations

import hashlib

import pytest

from tests.harness import procs
from tests.harness.http import Malformed, Truncated
from tests.harness.waiting import until

MANY = 100


def ended(client, statuses=(408,)):
    """The server gave up on this client: with a proper answer, or by closing."""
    try:
        answer = client.read_response()
    except (Truncated, ConnectionResetError):
        return True
    assert answer.status in statuses
    return client.closed_by_peer()


def dripped_out(client):
    """Sends one more byte; true when the server has answered or left."""
    try:
        client.send(b"d")
        client.socket.setblocking(False)
        return client.fill() or True
    except BlockingIOError:
        return False
    except (BrokenPipeError, ConnectionResetError):
        return True
    finally:
        client.socket.settimeout(10)


def ordinary(server, count=20):
    for _ in range(count):
        assert server.get("/").status == 200


class TestHeldOpen:
    def test_half_heads(self, serve, modes):
        server = serve("echo", *modes)
        clients = [server.http() for _ in range(MANY)]
        for client in clients:
            client.send(b"GET / HTTP/1.1\r\nHost:")
        ordinary(server)
        for client in clients:
            client.send(b" a\r\n\r\n")
        assert all(c.read_response().status == 200 for c in clients)

    @pytest.mark.parametrize("limit", ["1000000", "10"], ids=["memory", "spooled"])
    def test_dripped_bodies(self, serve, modes, limit):
        server = serve("echo", "--post-buffering", limit, *modes)
        clients = [server.http() for _ in range(MANY)]
        for client in clients:
            client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 50\r\n\r\n")
        for _ in range(49):
            for client in clients:
                client.send(b"d")
        ordinary(server)
        for client in clients:
            client.send(b"d")
        expected = hashlib.sha256(b"d" * 50).hexdigest()
        assert {c.read_response().json()["sha256"] for c in clients} == {expected}

    def test_idle_keep_alive(self, serve, modes):
        server = serve("echo", *modes)
        clients = [server.http() for _ in range(MANY)]
        for client in clients:
            assert client.get("/").status == 200
        ordinary(server)
        for client in clients:
            assert client.get("/").status == 200

    def test_half_packets(self, serve, modes):
        from tests.harness.uwsgi import packet, variables

        server = serve("echo", *modes, uwsgi="127.0.0.1:0")
        clients = [server.packets() for _ in range(MANY)]
        whole = packet(variables("POST", length=4)) + b"body"
        for number, client in enumerate(clients):
            client.send(whole[: number % (len(whole) - 1) + 1])
        ordinary(server)
        for number, client in enumerate(clients):
            client.send(whole[number % (len(whole) - 1) + 1 :])
        assert all(c.read_answer().json()["length"] == 4 for c in clients)

    def test_slow_readers(self, serve):
        """Output that nobody fetches drains outside the cores, up to the high-water mark."""
        server = serve("stream", "--async", "2")
        clients = [server.http() for _ in range(20)]
        for client in clients:
            client.send_request(target="/list/1?size=20000")
        ordinary_targets = [server.get("/1").status for _ in range(10)]
        assert ordinary_targets == [200] * 10
        for client in clients:
            assert len(client.read_response().body) == 20000


class TestDisconnected:
    """What is too slow is gone when its time is up."""

    OPTIONS = ("--head-timeout", "1", "--body-timeout", "1")

    def test_half_heads(self, serve, modes):
        server = serve("echo", *self.OPTIONS, *modes)
        clients = [server.http() for _ in range(10)]
        for client in clients:
            client.send(b"GET / HTTP/1.1\r\nHost:")
        assert all(ended(c) for c in clients)
        ordinary(server, 3)

    def test_a_dripped_head_has_a_total(self, serve):
        """A byte now and then buys no time: the limit is for the whole head."""
        server = serve("echo", *self.OPTIONS)
        client = server.http()
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\nX-Drip: ")

        until(lambda: dripped_out(client), "the server gives up on a dripped head")

    def test_bodies(self, serve, modes):
        server = serve("echo", *self.OPTIONS, "--post-buffering", "10", *modes)
        clients = []
        for framing in (
            b"Content-Length: 100",
            b"Content-Length: 5",
            b"Transfer-Encoding: chunked",
        ):
            for _ in range(4):
                client = server.http()
                client.send(b"POST / HTTP/1.1\r\nHost: a\r\n" + framing + b"\r\n\r\n3\r\n")
                clients.append(client)
        assert all(ended(c) for c in clients)
        ordinary(server, 3)
        assert {r.method for r in server.wait_requests(3) if r.status == 200} == {"GET"}

    def test_nothing_at_all(self, serve):
        server = serve("echo", *self.OPTIONS)
        # Deferred accept lets the kernel keep such a connection to itself for some seconds.
        client = server.http(timeout_s=30)
        try:
            assert ended(client)
        except Malformed as error:
            raise AssertionError("a client that said nothing got rubbish") from error

    def test_packets(self, serve):
        server = serve("echo", *self.OPTIONS, uwsgi="127.0.0.1:0")
        clients = [server.packets() for _ in range(5)]
        for client in clients[1:]:
            client.send(b"\x00\x10\x00\x00\x03")
        assert all(c.closed_by_peer() for c in clients)
        assert server.packets().ask().status == 200

    def test_a_dripped_body_without_minimum_rate_has_a_total(self, serve):
        server = serve("echo", *self.OPTIONS, "--body-min-rate", "0")
        client = server.http()
        client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n")
        until(lambda: dripped_out(client), "the server gives up on a dripped body")

    def test_idle_keep_alive(self, serve, modes):
        server = serve("echo", "--keep-alive-timeout", "1", *modes)
        clients = [server.http() for _ in range(5)]
        for client in clients:
            assert client.get("/").status == 200
        assert all(c.closed_by_peer() for c in clients)

    def test_keep_alive_of_no_time(self, serve):
        client = serve("echo", "--keep-alive-timeout", "0").http()
        assert client.get("/").header("connection").lower() == "close"
        assert client.closed_by_peer()

    def test_stalled_reader(self, serve, counter):
        server = serve(
            "endless", "--async", "2", "--socket-timeout", "1", env=counter.env,
            allow=[r"(?i)timeout|write error"],
        )  # fmt: skip
        client = server.http(receive_buffer=4096)
        client.send_request(target="/endless")
        client.read_head()
        server.wait_for_log("endless closed")
        assert server.get("/").body == b"hello\n"


def test_idle_connections_cost_no_cpu(serve):
    server = serve("waits", "--async", "2")
    clients = [server.http() for _ in range(200)]
    for client in clients:
        assert client.get("/results").status == 200
    pid = server.worker()
    before = procs.cpu_ticks(pid)
    assert server.get("/sleep?seconds=1").body == b"waiting\nslept"
    assert procs.cpu_ticks(pid) - before < 20
