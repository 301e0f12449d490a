"""Streams of greenlets behind nginx: what a reader such as `curl -N` sees, and when."""

from __future__ import annotations

import pytest

from tests.harness.waiting import until


@pytest.fixture
def behind(serve_gevent, nginx, gate):
    """Starts a server and an nginx in front of it."""

    def start(*directives):
        server = serve_gevent("gevent_stream", uwsgi="127.0.0.1:0", env=gate.env)
        return server, nginx(server, *directives)

    return start


@pytest.mark.parametrize(
    ("buffering", "target"), [("off", "/stream"), ("on", "/stream?unbuffered")]
)
def test_each_piece_comes_as_it_is_made(behind, gate, buffering, target):
    _, front = behind(f"uwsgi_buffering {buffering};")
    clients = [front.client() for _ in range(3)]
    for client in clients:
        client.send_request(target=target)
        client.head = client.read_head()
        assert client.read_chunk() == b"held"
    assert front.request().body == b"3"
    gate.release(3)
    for client in clients:
        assert client.read_body(client.head).body == b"released"
        client.close()


def test_with_buffering_nothing_comes_before_the_end(behind, gate):
    server, front = behind("uwsgi_buffering on;")
    with front.client() as client:
        client.send_request(target="/stream")
        until(lambda: server.get("/").body == b"1", "the application waits")
        # Whole requests pass nginx meanwhile, and not this one's first piece.
        for _ in range(20):
            assert front.request().body == b"1"
        client.socket.setblocking(False)
        with pytest.raises(BlockingIOError):
            client.socket.recv(1)
        client.socket.settimeout(10)
        gate.release()
        assert client.read_response().body == b"heldreleased"


def test_a_reader_that_leaves_ends_the_greenlet(behind):
    server, front = behind("uwsgi_buffering off;")
    client = front.client()
    client.send_request(target="/stream")
    client.read_head()
    assert client.read_chunk() == b"held"
    client.reset()
    until(lambda: server.get("/").body == b"0", "the greenlet has ended")
    until(
        lambda: (
            [line.cancelled for line in server.log_requests() if line.uri == "/stream"]
            == ["client gone"]
        ),
        "its line in the log",
    )
