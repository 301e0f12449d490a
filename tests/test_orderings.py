"""What must not come too early, too late or twice: parts, waits, clients and their variables."""

from __future__ import annotations

import socket
import time

import pytest

from tests.harness.uwsgi import packet, variables
from tests.harness.waiting import until

MIB = 1 << 20
GONE = r"(?i)broken pipe|reset|write error|client"


@pytest.fixture
def start(fresh, counter, gate, tmp_path):
    """Starts the application; `unix=True` listens where the kernel's buffers are small."""

    def started(*options, unix=False, **how):
        if unix:
            how["http"] = str(tmp_path / "s")
        return fresh("orderings", *options, env={**counter.env, **gate.env}, **how)

    return started


def part(number):
    return (b"%07d\n" % number) * (100 if number % 2 else 5000)


class TestParts:
    @pytest.mark.parametrize(("unix", "parts"), [(False, 1500), (True, 500)], ids=["tcp", "unix"])
    def test_no_part_overtakes_another(self, start, counter, unix, parts):
        """The rest of a large part waits in the connection while a small one comes behind it."""
        client = start("--async", "2", unix=unix).http(receive_buffer=65536)
        client.send_request(target=f"/computing?parts={parts}", version="HTTP/1.0")
        client.read_head()
        # From here on every buffer is full, and what the client reads makes room for a moment.
        assert counter.standstill() < parts - 1
        received = [client.buffer]
        while data := client.socket.recv(16384):
            received.append(data)
            # The pace of the reader, a little behind that of the application.
            time.sleep(0.0012)
        body = b"".join(received)
        offset = 0
        for number in range(parts):
            expected = part(number)
            found = body[offset : offset + len(expected)]
            assert found == expected, f"part {number}: {found[:24]!r}..."
            offset += len(expected)
        assert offset == len(body)

    def test_a_generator_waits_for_all_that_was_written(self, start, counter):
        """Output in the spool file counts, however little of it is in memory."""
        server = start("--async", "2", "--output-buffer", "256k", unix=True, allow=[GONE])
        client = server.http()
        client.send_request(target=f"/write_then_endless?size={8 * MIB}", version="HTTP/1.0")
        client.read_head()
        for _ in range(4):
            # The first step may have been taken to find out whether there is one.
            assert counter.standstill() <= 1
            assert client.read_exactly(MIB) == b"w" * MIB
        assert counter.standstill() <= 1
        assert client.read_exactly(4 * MIB) == b"w" * (4 * MIB)
        assert client.read_exactly(MIB) == b"e" * MIB
        assert counter.value() > 100
        client.close()


class TestWaitsAndStalledParts:
    SIZE = 600_000

    def stalled(self, server, early=""):
        """A client whose response is stuck in the part behind the registered wait."""
        client = server.http()
        client.send_request(target=f"/wait_then_part?size={self.SIZE}{early}", version="HTTP/1.0")
        # Readable: the part is on its way; the next request's answer: it could not leave whole.
        client.socket.recv(1, socket.MSG_PEEK)
        assert server.get("/").status == 200
        return client

    def test_ready_before(self, start):
        server = start("--async", "2", unix=True)
        client = self.stalled(server, "&early")
        client.read_head()
        assert client.read_exactly(self.SIZE) == b"x" * self.SIZE
        assert client.read_to_end() == b"ready"

    def test_ready_while_stalled(self, start):
        server = start("--async", "2", unix=True)
        client = self.stalled(server)
        assert server.get("/poke").body == b"poked"
        client.read_head()
        assert client.read_exactly(self.SIZE) == b"x" * self.SIZE
        assert client.read_to_end() == b"ready"

    def test_ready_afterwards(self, start):
        server = start("--async", "2", unix=True)
        client = self.stalled(server)
        client.read_head()
        assert client.read_exactly(self.SIZE) == b"x" * self.SIZE
        # The part has left, so the yield goes on waiting: for this.
        assert server.get("/poke").body == b"poked"
        assert client.read_to_end() == b"ready"

    @pytest.mark.parametrize("unix", [False, True], ids=["tcp", "unix"])
    def test_a_part_leaves_before_the_sleep(self, start, counter, unix):
        """More than the buffers hold: all of it arrives while the application still sleeps."""
        server = start("--async", "2", unix=unix, allow=[GONE])
        client = server.http()
        # Longer than any client waits for the next bytes.
        client.send_request(
            target=f"/sleep_then_part?seconds=60&size={3 * MIB}", version="HTTP/1.0"
        )
        client.read_head()
        assert client.read_exactly(3 * MIB) == b"x" * (3 * MIB)
        assert counter.value() == 0
        client.close()
        server.wait_for_log("sleeper closed$")
        assert counter.value() == 0

    # The latter two end with the write after which others would get their turn.
    @pytest.mark.parametrize("size", [3 * MIB, 17 * 65_536, 34 * 65_536])
    def test_the_sleep_lasts_beyond_the_part(self, start, size):
        client = start("--async", "2").http()
        client.send_request(target=f"/sleep_then_part?seconds=0.3&size={size}")
        assert client.read_response().body == b"x" * size + b"slept"


@pytest.mark.parametrize("unix", [False, True], ids=["tcp", "unix"])
def test_a_wait_for_the_own_connection(start, modes, unix):
    """It ends by its timeout, and the server hears the client as before."""
    client = start(*modes, unix=unix).http()
    for _ in range(3):
        answer = client.get("/own_connection?timeout=0.1")
        assert answer.framing == "chunked"
        assert answer.body == b"a\nb\nready_fd -1\n"
        assert client.get("/").status == 200


def test_a_busy_worker_leaves_new_clients_to_the_other(start, gate):
    server = start("--processes", "2", "--async", "2")

    def connect():
        client = server.http()
        return int(client.get("/").body), client

    # Of three connections, one worker has two.
    known = {}
    for _ in range(3):
        pid, client = connect()
        known.setdefault(pid, []).append(client)
    busy = max(known, key=lambda pid: len(known[pid]))
    (other,) = set(server.workers()) - {busy}
    for _ in range(4):
        held = known[busy][:2]
        for client in held:
            client.send_request(target="/hold")
            client.head = client.read_head()
            assert client.read_chunk() == b"held\n"
        # Each on a connection of its own; they stay open and occupy the other worker next.
        found = [connect() for _ in range(4)]
        assert [pid for pid, _ in found] == [other] * 4
        gate.release(2)
        for client in held:
            assert client.read_body(client.head).body == b"released\n"
        known[other] = [client for _, client in found]
        busy, other = other, busy


def test_the_time_of_a_blocking_call_is_not_the_clients(start):
    """--socket-timeout counts from the moment that the client has something to read."""
    size = 20_000_000
    server = start("--async", "2", "--socket-timeout", "1", unix=True)
    client = server.http()
    client.send_request(target=f"/blocked?seconds=1.5&size={size}")
    client.socket.recv(1, socket.MSG_PEEK)
    # The worker looks at its clock and its timers before the client reads anything.
    assert server.get("/").status == 200
    body = client.read_response().body
    assert len(body) == size
    assert body.count(b"x") == size


def test_disconnect(start, modes, counter, gate):
    """The response ends as a whole one; the application goes on and its core is free later."""
    server = start(*modes)
    client = server.http()
    client.send_request(target="/alone")
    answer = client.read_response()
    assert answer.framing == "chunked"
    assert answer.body == b"first\n"
    assert client.closed_by_peer()
    until(lambda: counter.value() == 1, "the application goes on")
    gate.release()
    until(lambda: counter.value() == 3, "the application goes on to its end")
    server.wait_for_log("disconnected one closed$")
    assert server.get("/").status == 200


def test_the_user_of_a_packet_is_not_the_next_requests(start, modes):
    """Not even for a head that has the same bytes at the same place."""
    server = start(*modes, uwsgi="127.0.0.1:0")
    sent = packet(variables(extra=[("REMOTE_USER", "ann")]))
    begin = b"GET / HTTP/1.1\r\nHost: a\r\nX-Name: "
    head = begin.ljust(sent.index(b"REMOTE_USER"), b"x") + b"REMOTE_USER: ann\r\n\r\n"
    client = server.packets()
    client.send(sent)
    assert client.read_answer().status == 200
    # More than one, as the server may keep what it read requests into for the next but one.
    for number in range(1, 5):
        # Logged, so the core is free for the next one.
        server.wait_requests(number)
        client = server.http()
        client.send(head)
        assert client.read_response().status == 200
    lines = server.wait_requests(5)
    assert [line.user for line in lines] == ["ann", "", "", "", ""]
    assert len({line.core for line in lines}) == 1
