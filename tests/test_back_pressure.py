"""Output that nobody reads: generators stop, memory stays bounded, the worker goes on."""

from __future__ import annotations

import hashlib

import pytest

from tests.harness import procs
from tests.harness.waiting import until

MIB = 1 << 20


GONE = r"(?i)broken pipe|reset|write error|client"


def stalled(server, size=65536):
    client = server.http(receive_buffer=4096)
    client.send_request(target=f"/endless?{size}")
    client.read_head()
    return client


@pytest.mark.parametrize("size", [100, 65536, 5 * MIB])
def test_an_endless_generator_stands_still(serve, modes, counter, size):
    server = serve("endless", *modes, env=counter.env, allow=[GONE])
    before = procs.rss_bytes(server.worker())
    client = stalled(server, size)
    made = counter.standstill()
    # The kernel's buffers hold some MiB; ours one chunk beyond the high-water mark.
    assert made * size < 32 * MIB + 2 * size
    assert procs.rss_bytes(server.worker()) - before < 40 * MIB
    # A reader that comes back gets more.
    client.read_exactly(8 * MIB)
    until(lambda: counter.value() > made, "the generator goes on")
    client.close()
    server.wait_for_log("endless closed$")


@pytest.mark.parametrize("ending", ["close", "reset"])
def test_the_client_of_a_stalled_generator_leaves(serve, modes, counter, ending):
    server = serve("endless", *modes, env=counter.env, allow=[GONE])
    client = stalled(server)
    counter.standstill()
    getattr(client, ending)()
    server.wait_for_log("endless closed$")
    assert server.get("/").body == b"hello\n"


def test_no_cpu_while_stalled(serve, counter):
    server = serve("endless", "--async", "4", env=counter.env, allow=[GONE])
    clients = [stalled(server) for _ in range(3)]
    counter.standstill()
    pid = server.worker()
    before = procs.cpu_ticks(pid)
    counter.standstill()
    assert procs.cpu_ticks(pid) - before < 10
    for _ in range(5):
        assert server.get("/").body == b"hello\n"
    for client in clients:
        client.close()
    until(lambda: server.count_log("endless closed$") == 3, "all three are closed")


def test_64_mib_of_write_block_nobody(serve):
    server = serve("write_callable", "--async", "2")
    before = procs.rss_bytes(server.worker())
    client = server.http(receive_buffer=4096)
    client.send_request(target=f"/64?size={MIB}")
    head = client.read_head()
    for _ in range(10):
        assert server.get("/").body == b"hello\n"
    assert procs.rss_bytes(server.worker()) - before < 24 * MIB
    body = client.read_body(head).body
    expected = hashlib.sha256()
    for number in range(64):
        expected.update((b"%d\n" % number).rjust(MIB, b"w"))
    expected.update(b"end")
    assert len(body) == 64 * MIB + 3
    assert hashlib.sha256(body).hexdigest() == expected.hexdigest()


def test_a_stalled_writer_that_leaves(serve, modes):
    server = serve("write_callable", *modes, allow=[GONE, "Traceback", "OSError"])
    for ending in ("close", "reset"):
        client = server.http(receive_buffer=4096)
        client.send_request(target=f"/64?size={MIB}")
        client.read_head()
        getattr(client, ending)()
    assert server.get("/").body == b"hello\n"


def test_a_large_list_to_a_stalled_reader(serve):
    server = serve("stream", "--async", "2")
    client = server.http(receive_buffer=4096)
    client.send_request(target=f"/list/20?size={MIB}")
    head = client.read_head()
    for _ in range(5):
        assert server.get("/1").status == 200
    assert len(client.read_body(head).body) == 20 * MIB


def test_requests_without_end_and_no_reader(serve):
    """Whoever pipelines and reads nothing is not read from any more."""
    server = serve("stream", "--async", "2")
    before = procs.rss_bytes(server.worker())
    client = server.http(receive_buffer=4096)
    client.socket.setblocking(False)
    requests = b"GET /10?size=1000 HTTP/1.1\r\nHost: a\r\n\r\n" * 1000
    sent = 0

    def blocked():
        nonlocal sent
        try:
            sent += client.socket.send(requests)
        except BlockingIOError:
            return True
        assert sent < 64 * MIB
        return False

    # Blocked for as long as many other requests take: not only for the moment.
    for _ in range(20):
        until(blocked, "the server stops reading")
        assert server.get("/1").status == 200
    assert sent < 64 * MIB
    assert procs.rss_bytes(server.worker()) - before < 24 * MIB
