"""Clients that leave at every stage, by FIN and by RST: no core, fd or byte stays behind."""

from __future__ import annotations

import pytest

from tests.harness.http import Client
from tests.harness.uwsgi import packet, variables

GONE = r"(?i)broken pipe|reset|write error|client"
# More clients at once than cores, those that left and are not seen off yet included.
FULL = r"\[DANGER\] async queue is full !!!$"
HEAD = b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n"

STAGES = {
    "at once": b"",
    "in the request line": b"GET",
    "in the head": b"GET / HTTP/1.1\r\nHost: a\r\nX-",
    "before the body": HEAD,
    "in the body": HEAD + b"x" * 50,
    "in a chunk": b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
    "after the request": b"GET /20?size=100000 HTTP/1.1\r\nHost: a\r\n\r\n",
    "after two requests": b"GET /5 HTTP/1.1\r\nHost: a\r\n\r\n" * 2,
    "after a request and a half": b"GET /5 HTTP/1.1\r\nHost: a\r\n\r\nGET /",
}

PACKET = packet(variables("POST", "/5", length=100))
PACKET_STAGES = {
    "in the header": PACKET[:3],
    "in the variables": PACKET[:50],
    "before the body": PACKET,
    "in the body": PACKET + b"x" * 50,
    "after the request": packet(variables(path="/20", query="size=100000")),
}


@pytest.mark.parametrize("ending", ["close", "reset", "half_close"])
@pytest.mark.parametrize("stage", STAGES)
def test_http(serve, modes, stage, ending):
    server = serve("stream", *modes, allow=[GONE, FULL])
    for _ in range(10):
        client = server.http()
        client.send(STAGES[stage])
        getattr(client, ending)()
    assert server.get("/2").body.count(b"\n") == 2


@pytest.mark.parametrize("ending", ["close", "reset", "half_close"])
@pytest.mark.parametrize("stage", PACKET_STAGES)
def test_packets(serve, modes, stage, ending):
    server = serve("stream", *modes, uwsgi="127.0.0.1:0", allow=[GONE, FULL])
    for _ in range(10):
        client = server.packets()
        client.send(PACKET_STAGES[stage])
        getattr(client, ending)()
    assert server.packets().ask(path="/2").body.count(b"\n") == 2


@pytest.mark.parametrize("ending", ["close", "reset"])
def test_in_the_response(serve, modes, ending):
    server = serve("stream", *modes, allow=[GONE, FULL])
    for _ in range(5):
        client = server.http(receive_buffer=4096)
        client.send_request(target="/1000?size=10000")
        client.read_exactly(20_000)
        getattr(client, ending)()
    assert server.get("/2").body.count(b"\n") == 2


def test_a_half_closed_client_gets_its_answer(serve, modes):
    """FIN after a complete request says that no other follows, not that nobody listens."""
    server = serve("stream", *modes)
    client = server.http()
    client.send_request(target="/100?size=1000")
    client.half_close()
    assert len(client.read_response().body) == 100_000
    assert client.closed_by_peer()


def test_half_closed_with_two_requests(serve, modes):
    server = serve("stream", *modes)
    client = server.http()
    client.send(b"GET /1 HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n")
    client.half_close()
    assert [client.read_response().body.count(b"\n") for _ in range(2)] == [1, 2]
    assert client.closed_by_peer()


@pytest.mark.parametrize("ending", ["close", "reset"])
def test_while_the_application_waits(serve, gate, ending):
    """The core is free again even if the client of a waiting request left long ago."""
    server = serve("hold", "--async", "2", env=gate.env, allow=[GONE, FULL])
    for _ in range(3):
        clients = [server.http() for _ in range(2)]
        for client in clients:
            client.send_request(target="/hold")
            client.read_head()
            assert client.read_chunk() == b"held\n"
            getattr(client, ending)()
        gate.release(2)
    with Client(server.http_address) as other:
        assert other.get("/").body == b"hello\n"
