"""Slow readers: send() waits for them, memory does not grow, others are served meanwhile."""

from __future__ import annotations

import hashlib

import pytest

from tests.harness import procs
from tests.harness.asking import ask
from tests.harness.waiting import until

PART = hashlib.sha256(b"part").digest() * 2048
PARTS = 320
SIZE = PARTS * len(PART)
HELD = 8 << 20
"""What the kernel's buffers of both sides and the server's own hold at most, generously."""


@pytest.fixture
def server(serve_asgi):
    return serve_asgi("asgi_stream", cores=4)


def slow(server, target):
    client = server.http(receive_buffer=16_384)
    client.send_request(target=target)
    client.head = client.read_head()
    assert client.head.status == 200
    return client


def standstill(server, name):
    """What the application has sent once it sends no more."""
    found = []

    def same():
        found.append(ask(server, f"/counted?name={name}"))
        return len(found) > 40 and len(set(found[-40:])) == 1

    until(same, "the sender stands still")
    return found[-1]


def test_send_waits(server):
    client = slow(server, f"/large?name=one&parts={PARTS}")
    sent = standstill(server, "one")
    assert 0 < sent < HELD
    assert server.get("/hello").body == b"hello\n"
    assert client.read_body(client.head).body == PART * PARTS
    assert ask(server, "/counted?name=one") == SIZE
    assert server.wait_requests(1)


def test_it_goes_on_as_the_reader_does(server):
    client = slow(server, f"/large?name=two&parts={PARTS}")
    first = standstill(server, "two")
    taken = 0
    while taken < HELD:
        taken += len(client.read_chunk())
    second = standstill(server, "two")
    assert first < second <= taken + HELD
    client.close()


def test_several_of_them(serve_asgi):
    server = serve_asgi("asgi_stream", cores=8)
    before = procs.rss_bytes(server.worker())
    clients = [slow(server, f"/large?name=n{number}&parts={PARTS}") for number in range(6)]
    for number in range(6):
        assert standstill(server, f"n{number}") < HELD
    assert procs.rss_bytes(server.worker()) - before < SIZE
    for client in clients:
        assert client.read_body(client.head).body == PART * PARTS


def test_one_message_of_twenty_megabytes(server):
    client = slow(server, "/at_once?name=whole")
    for _ in range(10):
        assert server.get("/hello").body == b"hello\n"
    assert ask(server, "/counted?name=whole") == 0
    assert client.read_body(client.head).body == PART * PARTS
    until(lambda: ask(server, "/counted?name=whole") == SIZE, "send() has come back")


def test_many_small_parts(server):
    expected = b"".join(b"%06d\n" % number * 1000 for number in range(2000))
    client = slow(server, "/drops")
    assert client.read_body(client.head).body == expected
    assert client.get("/hello").body == b"hello\n"


def test_two_senders(server):
    client = slow(server, "/two_senders")
    body = client.read_body(client.head).body
    assert (body.count(b"a"), body.count(b"b")) == (1_000_000, 1_000_000)
    runs = [body[at : at + 20_000] for at in range(0, len(body), 20_000)]
    assert {len(set(run)) for run in runs} == {1}
