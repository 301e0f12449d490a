"""Requests that are more than one task: senders that are overtaken or give up, listeners, rings."""

from __future__ import annotations

import pytest

from tests.harness.asking import ask, notes_of, send
from tests.harness.http import chunked

SIZE = 8_000_000
LARGE = bytes(range(256)) * (SIZE // 256)
NOISE = ["Traceback", r"(?i)\berrors?\b"]


@pytest.fixture
def server(serve_asgi):
    return serve_asgi("asgi_beside", "--body-timeout", "1", cores=4, allow=NOISE)


def slow(server, target):
    """A client that reads nothing yet, and takes little."""
    client = server.http(receive_buffer=4096)
    client.send_request(target=target)
    return client


class TestTheLastPart:
    """An application that is done has sent it, however slowly its client reads."""

    def test_it_fails_behind_it(self, server):
        client = slow(server, "/fails_behind_the_last_part")
        assert notes_of(server, 1) == [False]
        assert client.read_response().body == b"begin " + LARGE
        server.wait_for_log("^ValueError: behind the last part$")
        assert client.get("/hello").body == b"hello\n"

    def test_it_gives_up(self, server):
        client = slow(server, "/gives_up")
        assert notes_of(server, 1) == ["gave up"]
        assert client.read_response().body == LARGE
        assert client.get("/hello").body == b"hello\n"


def test_a_sender_that_is_overtaken_by_the_end(server):
    client = slow(server, "/two_senders")
    assert client.read_response().body == LARGE + b" end"
    assert notes_of(server, 1) == ["both sent"]
    assert client.get("/hello").body == b"hello\n"


def test_the_connection_goes_on_while_the_own_task_rests(server):
    client = server.http()
    for _ in range(3):
        assert client.get("/answered_by_another").body == b"answered"
    assert client.get("/go").json() == "gone"
    assert notes_of(server, 3) == ["rested"] * 3


def test_waits_that_were_given_up_are_forgotten(server):
    client = slow(server, "/gives_up_often")
    (kept,) = notes_of(server, 1)
    assert kept < 10
    assert client.read_response().body == LARGE + b"x" * 200


def test_a_task_in_its_own_scope_is_no_leak(server):
    client = server.http()
    for _ in range(20):
        assert client.get("/keeps_its_task").body == b"kept"
    assert client.get("/kept").json() == 0


def test_who_gives_up_waiting_gives_the_client_its_time_back(server):
    client = server.http()
    client.send(
        b"POST /looks_for_its_body HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    assert notes_of(server, 1) == ["gave up"]
    # Longer than a client may take for a body that somebody waits for.
    other = send(server, "/sleeps?seconds=1.5")
    assert other.read_response().body == b"slept"
    assert ask(server, "/go") == "gone"
    client.send(chunked(b"the body"))
    assert client.read_response().body == b"the body"


def test_a_fifo_is_no_file(server, tmp_path):
    answer = server.get(f"/fifo?path={tmp_path}/fifo")
    assert answer.body == b"IsADirectoryError"
    assert server.get("/hello").body == b"hello\n"
