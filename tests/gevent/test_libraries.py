"""Libraries that know nothing of the server: what they wait for holds up nobody."""

from __future__ import annotations

import json
import socket

import pytest

from tests.harness.http import Client
from tests.harness.waiting import until

PATCHED = "--gevent-monkey-patch"
SEPARATOR = b"\x1e"


class Upstream:
    """A slow service: it answers nobody before everybody has asked."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.listener.settimeout(10)
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}/"

    def answer(self, count: int) -> None:
        asking = []
        while len(asking) < count:
            connection, _ = self.listener.accept()
            connection.settimeout(10)
            head = b""
            while b"\r\n\r\n" not in head:
                head += connection.recv(65536)
            asking.append((connection, head.split()[1][1:]))
        for connection, name in reversed(asking):
            body = b"hello " + name
            head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
            connection.sendall(head.encode() + body)
            connection.close()

    def close(self) -> None:
        self.listener.close()


@pytest.fixture
def upstream():
    made = Upstream()
    yield made
    made.close()


def test_requests_to_a_slow_upstream_overlap(serve_gevent, upstream):
    server = serve_gevent("gevent_libraries", PATCHED, cores=20)
    clients = [server.http() for _ in range(20)]
    for number, client in enumerate(clients):
        client.send_request(target=f"/upstream?{upstream.url}{number}")
    upstream.answer(20)
    answers = [client.read_response().body for client in clients]
    assert answers == [b"hello %d" % number for number in range(20)]


def test_redis_publishes_through_a_request(serve_gevent, redis):
    server = serve_gevent("gevent_libraries", PATCHED, env=redis.env)
    readers = {name: [server.http() for _ in range(2)] for name in ("a", "b")}
    heads = {}
    for name, clients in readers.items():
        for client in clients:
            client.send_request(target=f"/events/{name}")
            heads[client] = client.read_head()
            assert client.read_chunk() == b"listening\n"
    for text in (b"one", b"two", b"end"):
        for name, clients in readers.items():
            line = text + b" of " + name.encode() if text != b"end" else text
            assert server.request("POST", f"/publish/{name}", body=line).body == b"2"
            # Each piece is here before the next one is published.
            assert [client.read_chunk() for client in clients] == [line + b"\n"] * 2
    for client, head in heads.items():
        assert client.read_body(head).body == b""


def test_a_listener_that_leaves_is_no_subscriber_any_more(serve_gevent, redis):
    server = serve_gevent("gevent_libraries", PATCHED, env=redis.env)
    client = server.http()
    client.send_request(target="/events/left")
    client.read_head()
    assert client.read_chunk() == b"listening\n"
    client.reset()
    until(
        lambda: server.request("POST", "/publish/left", body=b"?").body == b"0",
        "its subscription has ended",
    )


class Poller:
    """A client of Socket.IO that polls, and has no websockets."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.target = "/socket.io/?EIO=4&transport=polling"
        self.waiting: list[bytes] = []
        (opened,) = self.poll()
        self.target += "&sid=" + json.loads(opened[1:])["sid"]
        self.send("40")
        assert self.next().startswith(b"40{")

    def ask(self) -> None:
        self.client.send_request(target=self.target)

    def poll(self) -> list[bytes]:
        self.ask()
        return self.answer()

    def answer(self) -> list[bytes]:
        response = self.client.read_response()
        assert response.status == 200, response
        return response.body.split(SEPARATOR)

    def next(self) -> bytes:
        if not self.waiting:
            self.waiting = self.poll()
        return self.waiting.pop(0)

    def send(self, packet: str) -> None:
        response = self.client.request("POST", self.target, body=packet.encode())
        assert (response.status, response.body) == (200, b"OK")

    def join(self, room: str) -> None:
        self.send(f'421["join","{room}"]')
        assert self.next() == f'431["in {room}"]'.encode()


def test_socketio_polls(serve_gevent):
    server = serve_gevent("gevent_libraries", PATCHED)
    anna, bert, carl = (Poller(server.http()) for _ in range(3))
    for member in (anna, bert):
        member.join("kitchen")
    carl.join("cellar")
    for poller in (anna, bert):
        poller.ask()
    for poller in (anna, bert, carl):
        # Their polls are under way; the one who speaks has another connection, as in a browser.
        carl.send(f'42["say","kitchen","from {poller.target[-4:]}"]')
        said = f'42["said","from {poller.target[-4:]}"]'.encode()
        assert [anna.answer(), bert.answer()] == [[said], [said]]
        anna.ask()
        bert.ask()
    # What was said to the others' room has not reached this one.
    carl.send('42["say","cellar","hello"]')
    assert carl.next() == b'42["said","hello"]'
    assert carl.waiting == []


def test_a_poll_that_waits_holds_up_nobody(serve_gevent):
    server = serve_gevent("gevent_libraries", PATCHED, cores=4)
    pollers = [Poller(server.http()) for _ in range(4)]
    for poller in pollers[1:]:
        poller.join("room")
        poller.ask()
    for text in ("one", "two"):
        pollers[0].send(f'42["say","room","{text}"]')
        for poller in pollers[1:]:
            assert poller.answer() == [f'42["said","{text}"]'.encode()]
            poller.ask()
