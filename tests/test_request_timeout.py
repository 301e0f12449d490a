"""`--request-timeout` ends a late request alone, with 504 or a cut; its neighbours go on."""

from __future__ import annotations

import pytest

from tests.harness.http import Truncated

OPTIONS = ["--async", "8", "--request-timeout", "0.15", "--request-timeout", "/slow=0"]


@pytest.fixture
def server(fresh):
    return fresh("deadlines", *OPTIONS, uwsgi="127.0.0.1:0")


def test_nothing_sent(server):
    client = server.http()
    response = client.get("/late")
    assert (response.status, response.body) == (504, b"Gateway Timeout")
    # The connection and the core go on; the iterable was closed.
    assert client.get("/closed").body == b"/late"
    line = server.wait_requests(2)[0]
    assert (line.status, line.cancelled, line.abandoned) == (504, "deadline", False)
    assert line.body_bytes == len(b"Gateway Timeout")


def test_without_a_body_for_head(server):
    client = server.http()
    client.send(b"HEAD /late HTTP/1.1\r\nHost: a\r\n\r\n")
    assert client.read_head().status == 504
    assert client.get("/closed").body == b"/late"


def test_packets(server):
    assert server.packets().ask(path="/late").status == 504
    assert server.wait_requests(1)[0].cancelled == "deadline"


def test_a_response_that_has_begun_is_cut(server):
    client = server.http()
    client.send_request(target="/streams")
    client.read_head()
    assert client.read_chunk() == b"part"
    with pytest.raises(Truncated):
        client.read_chunk()
    assert server.get("/closed").body == b"/streams"
    line = server.wait_requests(2)[0]
    assert (line.status, line.cancelled) == (200, "deadline")


def test_neighbours_notice_nothing(server):
    """Of two requests with the same sleeps, the one below the prefix without a deadline goes on."""
    slow, late = server.http(), server.http()
    slow.send_request(target="/slow/steps")
    late.send_request(target="/%6Cate")
    assert slow.read_response().body == b"0123456789"
    assert late.read_response().status == 504
    lines = {line.uri: line for line in server.wait_requests(2)}
    assert lines["/slow/steps"].cancelled is None
    assert lines["/slow/steps"].msecs >= 300
    assert lines["/%6Cate"].msecs >= 149


def test_the_time_of_a_request_and_not_of_its_waits(server):
    client = server.http()
    client.send_request(target="/steps")
    head = client.read_head()
    with pytest.raises(Truncated):
        client.read_body(head)
    line = server.wait_requests(1)[0]
    assert (line.cancelled, line.body_bytes < 10) == ("deadline", True)


def test_all_cores_come_back(server):
    clients = [server.http() for _ in range(8)]
    for _ in range(3):
        for client in clients:
            client.send_request(target="/late")
        assert {client.read_response().status for client in clients} == {504}
    assert len(server.get("/closed").body.split()) == 24
