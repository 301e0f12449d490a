"""Applications that go wrong: what they are told, what their client gets, and who survives."""

from __future__ import annotations

import re

import pytest

from tests.harness.http import Malformed, Truncated

NOISE = ["Traceback", r"(?i)\berrors?\b", "Exception ignored", "async queue is full"]
NEVER_RETRIEVED = "Task exception was never retrieved"

# Refused while nothing can have left.
BEFORE = [
    "body-first", "no-type", "other-type", "websocket-type", "no-message", "list", "no-status",
    "status-text", "status-small", "status-large", "status-interim", "status-none",
    "headers-number", "headers-none-pair", "headers-triple", "name-text", "value-text",
    "name-empty", "name-blank", "name-colon", "name-line-break", "value-line-break",
    "value-line-feed", "value-return", "value-null",
]  # fmt: skip
# Refused with the start, or when the head is to leave: no framing could be right.
LENGTHS = ["length-text", "length-negative", "two-lengths"]
# Refused after the start, or after a part.
BEGUN = ["two-starts", "start-in-the-body", "text", "number", "none"]
AFTER = ["after-the-end", "start-after-the-end"]
SAID = r"^caught (RuntimeError|TypeError|ValueError): \S+"


@pytest.fixture
def server(serve_asgi):
    server = serve_asgi("asgi_faults", allow=NOISE, cores=2)
    server.first = server.worker()
    return server


def still_serves(server):
    for _ in range(2):
        assert server.get("/hello").body == b"hello\n"
    assert server.worker() == server.first


def is_500(answer):
    assert answer.status == 500
    assert answer.reason == "Internal Server Error"
    assert answer.body.strip() == b"Internal Server Error"
    assert b"Evil" not in answer.raw_head


def is_500_or_cut(client):
    """Which one depends on what had left; never something that looks whole."""
    try:
        answer = client.read_response()
    except (Truncated, Malformed, ConnectionResetError):
        return
    is_500(answer)


class TestRefused:
    @pytest.mark.parametrize("case", BEFORE)
    def test_before_anything_was_sent(self, server, case):
        is_500(server.get(f"/refused?case={case}"))
        server.wait_for_log(r"exception in the application, .*/refused\?case=" + case)
        server.wait_for_log(r"^(RuntimeError|TypeError|ValueError): ")
        assert server.wait_requests(1)[0].status == 500
        still_serves(server)

    @pytest.mark.parametrize("case", BEFORE)
    def test_caught(self, server, case):
        """An application that handles the exception may answer as if nothing had been."""
        client = server.http()
        answer = client.get(f"/caught?case={case}")
        assert answer.status == 200
        assert b"accepted" not in answer.body
        assert b"Evil" not in answer.raw_head
        server.wait_for_log(SAID)
        assert client.get("/hello").body == b"hello\n"

    @pytest.mark.parametrize("case", LENGTHS)
    def test_lengths(self, server, case):
        is_500(server.get(f"/refused?case={case}"))
        server.wait_for_log(r"^(RuntimeError|TypeError|ValueError): ")
        still_serves(server)

    @pytest.mark.parametrize("case", BEGUN)
    def test_in_the_middle(self, server, case):
        client = server.http()
        client.send_request(target=f"/refused?case={case}")
        is_500_or_cut(client)
        server.wait_for_log(r"exception in the application, .*/refused\?case=" + case)
        still_serves(server)

    @pytest.mark.parametrize("case", BEGUN)
    def test_caught_in_the_middle(self, server, case):
        client = server.http()
        answer = client.get(f"/caught?case={case}")
        assert answer.status == 200
        assert re.search(rb"(RuntimeError|TypeError|ValueError): ", answer.body)
        assert client.get("/hello").body == b"hello\n"

    @pytest.mark.parametrize("case", AFTER)
    @pytest.mark.parametrize("how", ["refused", "caught"])
    def test_after_the_end(self, server, case, how):
        """The response is whole, and nothing comes behind it."""
        client = server.http()
        assert client.get(f"/{how}?case={case}").body == b"last"
        server.wait_for_log(SAID if how == "caught" else "^RuntimeError: ")
        assert client.get("/hello").body == b"hello\n"
        assert server.wait_requests(2)[0].status == 200
        still_serves(server)


WHAT = {
    "error": "ValueError: on purpose",
    "base": "OfItsOwn: on purpose",
    "group": "ExceptionGroup: on purpose",
    "stop": "StopAsyncIteration",
    "exit": "what=exit",
    "interrupt": "KeyboardInterrupt",
    "cancelled": "CancelledError|exception in the application",
}


@pytest.mark.parametrize("pause", ["", "&pause=1"])
@pytest.mark.parametrize("what", WHAT)
class TestRaised:
    """In the first step of its task, and in a later one."""

    def test_before_the_start(self, server, what, pause):
        is_500(server.get(f"/raises?when=before&what={what}{pause}"))
        server.wait_for_log(WHAT[what])
        assert server.wait_requests(1)[0].status == 500
        still_serves(server)

    @pytest.mark.parametrize("when", ["start", "part"])
    def test_after_the_start(self, server, what, pause, when):
        client = server.http()
        client.send_request(target=f"/raises?when={when}&what={what}{pause}")
        is_500_or_cut(client)
        server.wait_for_log(WHAT[what])
        still_serves(server)

    def test_after_the_end(self, server, what, pause):
        client = server.http()
        assert client.get(f"/raises?when=end&what={what}{pause}").body == b"whole"
        server.wait_for_log(WHAT[what])
        assert client.get("/hello").body == b"hello\n"
        still_serves(server)


def test_the_traceback_names_the_application(server):
    server.get("/raises?when=before&what=error")
    server.wait_for_log(r"exception in the application, .*/raises\?when=before&what=error:")
    server.wait_for_log(r"^Traceback \(most recent call last\)")
    server.wait_for_log(r'File ".*tests/apps/asgi_faults/app\.py", line \d+, in raises')
    server.wait_for_log(r"^ValueError: on purpose$")


def test_the_connection_goes_on_after_500(server):
    client = server.http()
    is_500(client.get("/raises?when=before&what=error"))
    assert client.get("/hello").body == b"hello\n"


def test_head(server):
    client = server.http()
    answer = client.request("HEAD", "/raises?when=before&what=error")
    assert (answer.status, answer.body) == (500, b"")
    assert client.get("/hello").body == b"hello\n"


def test_cancels_itself(server):
    is_500(server.get("/cancels_itself"))
    assert server.wait_requests(1)[0].status == 500
    still_serves(server)


class TestIncomplete:
    @pytest.mark.parametrize("when", ["never", "start", "part"])
    def test_returned_too_early(self, server, when):
        client = server.http()
        client.send_request(target=f"/returns?when={when}")
        if when == "never":
            is_500(client.read_response())
        else:
            is_500_or_cut(client)
        server.wait_for_log(r"/returns\?when=")
        still_serves(server)

    def test_less_than_its_length(self, server):
        client = server.http()
        client.send_request(target="/short")
        is_500_or_cut(client)
        still_serves(server)

    def test_more_than_its_length(self, server):
        """The bytes that are too many never become a response of their own."""
        client = server.http()
        client.send_request(target="/long")
        found = b""
        client.send(b"GET /hello HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        try:
            found = client.read_to_end()
        except ConnectionResetError:
            found = b"12345"
        assert b"Evil" not in found
        still_serves(server)

    def test_a_value_is_nothing_to_complain_of(self, server):
        assert server.get("/returns_a_value").body == b"whole"
        still_serves(server)


def test_a_task_of_its_own_that_fails(serve_asgi):
    server = serve_asgi("asgi_faults", allow=[*NOISE, NEVER_RETRIEVED])
    assert server.get("/unretrieved").body == b"whole"
    assert server.get("/hello").body == b"hello\n"


def test_many_at_a_time(server):
    """Those that fail and those that do not, on the same cores."""
    targets = ["/hello", "/raises?when=before&what=error&pause=1", "/returns?when=never"] * 10
    clients = [server.http() for _ in targets]
    for client, target in zip(clients, targets, strict=True):
        client.send_request(target=target)
    found = [client.read_response().status for client in clients]
    assert found == [200, 500, 500] * 10


def test_packets(serve_asgi):
    server = serve_asgi("asgi_faults", allow=NOISE, uwsgi="127.0.0.1:0")
    is_500(server.packets().ask(path="/raises", query="when=before&what=error"))
    answer = server.packets().ask(path="/hello")
    assert answer.body == b"hello\n"
