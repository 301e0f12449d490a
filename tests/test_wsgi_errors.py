"""Applications that go wrong: what the client gets, what the log says, and who survives."""

from __future__ import annotations

import pytest

from tests.harness.http import Truncated

NOISE = [
    r"apps/errors/app\.py",
    "Traceback",
    r"\w*Error\b",
    r"SystemExit",
    r"(?i)\[error\]",
    r"(?i)\berror\b",
]


@pytest.fixture
def server(serve, modes):
    return serve("errors", *modes, allow=NOISE)


def still_serves(server):
    assert server.get("/").body == b"hello\n"


BEFORE = {
    "before": "boom before",
    "after": "boom after",
    "first": "boom first",
    "system-exit": "SystemExit|exit",
    "none": "None",
    "no-start": "start_response",
    "text": "(?i)str|bytes",
    "number": "(?i)int|bytes",
    "twice": "(?i)start_response|already",
    "status-not-text": "(?i)status",
    "status-short": "(?i)status",
    "status-line-break": "(?i)status",
    "headers-not-list": "(?i)list",
    "header-not-tuple": "(?i)tuple",
    "header-bytes": "(?i)header",
    "header-not-latin": "(?i)latin",
    "value-line-break": "(?i)header",
    "value-line-feed": "(?i)header",
    "value-null": "(?i)header",
    "name-line-break": "(?i)header",
    "name-with-colon": "(?i)header",
    "write-text": "(?i)bytes",
    "length-not-a-number": "(?i)content-length",
}


@pytest.mark.parametrize("path", BEFORE)
def test_500_while_nothing_is_sent(server, path):
    answer = server.get("/" + path)
    assert answer.status == 500
    assert answer.header("content-type") == "text/plain"
    assert answer.body.strip() == b"Internal Server Error"
    assert b"Evil" not in answer.raw_head
    server.wait_for_log(BEFORE[path])
    assert server.wait_requests(1)[0].status == 500
    still_serves(server)


@pytest.mark.parametrize("path", ["before", "after", "first"])
def test_the_traceback_names_the_application(server, path):
    server.get("/" + path)
    server.wait_for_log(r"Traceback \(most recent call last\)")
    server.wait_for_log(r'File ".*tests/apps/errors/app\.py", line \d+')
    server.wait_for_log(rf"ValueError: boom {path}")


@pytest.mark.parametrize("path", ["before", "system-exit", "text", "twice"])
def test_the_connection_survives_an_error_before_the_head(server, path):
    client = server.http()
    assert client.get("/" + path).status == 500
    if client.buffer or path:
        # Kept or closed; if kept, then in order.
        try:
            assert client.get("/").body == b"hello\n"
        except (Truncated, ConnectionError):
            still_serves(server)


@pytest.mark.parametrize("path", ["midstream", "system-exit-midstream", "text-later", "info-after"])
def test_a_cut_chunked_body_is_incomplete(server, path):
    client = server.http()
    client.send_request(target="/" + path)
    head = client.read_head()
    assert head.status == 200
    assert client.read_chunk() == b"part"
    with pytest.raises((Truncated, ConnectionResetError)):
        client.read_chunk()
    still_serves(server)


def test_a_cut_body_with_a_length_is_incomplete(server):
    client = server.http()
    client.send_request(target="/midstream-with-length")
    assert client.read_head().header("content-length") == "100"
    assert client.read_exactly(4) == b"part"
    assert client.closed_by_peer()
    still_serves(server)


def test_an_exception_in_close(server):
    answer = server.get("/close")
    assert answer.status == 200
    assert answer.body == b"whole"
    server.wait_for_log("ValueError: boom close")
    still_serves(server)


def test_empty_text_is_a_pure_yield(server):
    answer = server.get("/empty-text")
    assert answer.status == 200
    assert answer.body == b"ok"


def test_exc_info_replaces_the_head(server):
    answer = server.get("/info-before")
    assert answer.status == 503
    assert answer.body == b"replaced"
    assert answer.header("x-first") is None


def test_exc_info_is_raised_again_after_the_head(server):
    client = server.http()
    client.send_request(target="/info-caught")
    answer = client.read_response()
    assert answer.status == 200
    assert answer.body == b"part,KeyError('mine')"


def test_a_body_longer_than_its_length_is_cut(server):
    client = server.http()
    assert client.get("/too-long").body == b"1234"
    server.wait_for_log("(?i)content-length")
    try:
        assert client.get("/").body == b"hello\n"
    except (Truncated, ConnectionError):
        still_serves(server)


def test_a_body_shorter_than_its_length_closes(server):
    client = server.http()
    client.send_request(target="/too-short")
    assert client.read_head().header("content-length") == "8"
    assert client.read_exactly(4) == b"1234"
    assert client.closed_by_peer()
    still_serves(server)


def test_many_failures_lose_no_core(serve):
    server = serve("errors", "--async", "2", allow=NOISE)
    for path in ["before", "midstream", "system-exit", "text-later", "close", "none"] * 5:
        with server.http() as client:
            client.send_request(target="/" + path)
            client.read_head()
    still_serves(server)
