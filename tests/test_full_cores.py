"""All cores busy: requests are parked, nothing is lost, and nothing spins."""

from __future__ import annotations

import re

import pytest

from tests.harness import procs
from tests.harness.waiting import until

FULL = r"\[DANGER\] async queue is full !!!"


def hold_all(server, cores):
    clients = [server.http() for _ in range(cores)]
    for client in clients:
        client.send_request(target="/hold")
        client.head = client.read_head()
        assert client.read_chunk() == b"held\n"
    return clients


@pytest.fixture
def server(fresh, gate):
    """A server for one test: an earlier one's line would hold back its own for a second."""
    return fresh("hold", "--async", "2", env=gate.env, allow=[FULL])


def release(gate, clients):
    gate.release(len(clients))
    for client in clients:
        assert client.read_body(client.head).body == b"released\n"


def test_parked_requests_are_served_later(server, gate):
    held = hold_all(server, 2)
    parked = [server.http() for _ in range(50)]
    for client in parked:
        client.send_request()
    server.wait_for_log(FULL)
    release(gate, held)
    assert [c.read_response().body for c in parked] == [b"hello\n"] * 50
    assert len(server.wait_requests(52)) == 52


def test_parked_keep_alive_connections(server, gate):
    """A connection that was served before is parked like a new one."""
    clients = [server.http() for _ in range(10)]
    for client in clients:
        assert client.get("/").body == b"hello\n"
    held = hold_all(server, 2)
    for client in clients:
        client.send_request()
    server.wait_for_log(FULL)
    release(gate, held)
    assert [c.read_response().body for c in clients] == [b"hello\n"] * 10


def test_the_line_comes_at_most_once_a_second(server, gate):
    held = hold_all(server, 2)
    for _ in range(100):
        server.http().send_request()
    server.wait_for_log(FULL)
    release(gate, held)
    server.wait_requests(102)
    stamps = re.findall(r"^(.*?) - " + FULL + "$", server.log_text(), re.MULTILINE)
    assert stamps
    assert len(stamps) == len(set(stamps)), stamps
    assert server.count_log(FULL) == len(stamps), "every such line carries its time"


def test_no_cpu_while_parked(server, gate):
    held = hold_all(server, 2)
    parked = [server.http() for _ in range(50)]
    for client in parked:
        client.send_request()
    server.wait_for_log(FULL)
    pid = server.worker()
    start = procs.cpu_ticks(pid)
    seen = server.count_log(FULL)
    # Another client every now and then, over a stretch in which a spinning worker would
    # collect a hundred ticks; measured by the clock of the kernel's own idle accounting.
    waited = until_uptime(1.0)
    used = procs.cpu_ticks(pid) - start
    assert used < 20, f"{used} ticks in {waited} s; {seen} lines"
    release(gate, held)
    assert [c.read_response().body for c in parked] == [b"hello\n"] * 50


def until_uptime(seconds):
    def uptime():
        with open("/proc/uptime") as found:
            return float(found.read().split()[0])

    start = uptime()
    return until(lambda: uptime() - start >= seconds and uptime() - start, "time has passed")


def test_parked_clients_that_leave(server, gate):
    held = hold_all(server, 2)
    for number in range(50):
        client = server.http()
        client.send_request(target=f"/{number}")
        if number % 2:
            client.reset()
        else:
            client.close()
    last = server.http()
    last.send_request(target="/last")
    release(gate, held)
    assert last.read_response().body == b"hello\n"


def test_sync_is_one_core(serve, gate):
    server = serve("hold", env=gate.env)
    busy = server.http()
    busy.send_request(target="/block")
    others = [server.http() for _ in range(10)]
    for client in others:
        client.send_request()
    gate.release()
    assert busy.read_response().body == b"released\n"
    assert [c.read_response().body for c in others] == [b"hello\n"] * 10


def test_half_heads_while_full(server, gate):
    held = hold_all(server, 2)
    slow = [server.http() for _ in range(20)]
    for client in slow:
        client.send(b"GET / HTTP/1.1\r\nHost:")
    release(gate, held)
    assert server.get("/").body == b"hello\n"
    for client in slow:
        client.send(b" a\r\n\r\n")
    assert [c.read_response().body for c in slow] == [b"hello\n"] * 20
