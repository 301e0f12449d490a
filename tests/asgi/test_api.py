"""The `uwsgi` module in the tasks of requests, and what the request line says of them."""

from __future__ import annotations

import pytest

from tests.harness.asking import ask
from tests.harness.waiting import until


@pytest.fixture
def server(serve_asgi):
    return serve_asgi("asgi_api")


class TestSwitches:
    @pytest.mark.parametrize(
        ("target", "switches"),
        [
            ("/hello", 0),
            ("/sleeps?times=1", 1),
            ("/sleeps?times=1&seconds=0.001", 1),
            ("/sleeps?times=7", 7),
            ("/sleeps?times=5&seconds=0.001", 5),
            ("/does_not_wait", 0),
            ("/child_tasks", 1),
            ("/in_an_async_generator", 5),
        ],
    )
    def test_number(self, server, target, switches):
        """How often the request's task was suspended, on each loop and each CPython."""
        for _ in range(2):
            assert server.get(target).status == 200
        assert [line.switches for line in server.wait_requests(2)] == [switches] * 2

    def test_beside_others(self, server):
        clients = [server.http() for _ in range(8)]
        for client in clients:
            client.send_request(target="/sleeps?times=10&seconds=0.001")
        assert [client.read_response().body for client in clients] == [b"slept"] * 8
        assert {line.switches for line in server.wait_requests(8)} == {10}


def test_request_line(server):
    client = server.http()
    client.send(b"POST /hello?a=b HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc")
    assert client.read_response().status == 200
    (line,) = server.wait_requests(1)
    assert (line.method, line.uri, line.protocol) == ("POST", "/hello?a=b", "HTTP/1.1")
    assert (line.status, line.body_bytes, line.switches) == (200, 6, 0)
    assert line.address == "127.0.0.1"
    assert line.headers >= 2
    assert line.pid == server.worker()
    assert line.cancelled is None


class TestLogVariables:
    FORMAT = ("--log-format", "line %(uri) who=%(who)")

    @pytest.mark.parametrize("target", ["/logvar?name=me", "/logvar_in_helpers?name=me"])
    def test_in_the_line(self, serve_asgi, target):
        server = serve_asgi("asgi_api", *self.FORMAT)
        assert server.get(target).body == b"me"
        server.wait_for_log(rf"^line {target.replace('?', '.')} who=me$")

    def test_each_request_has_its_own(self, serve_asgi):
        server = serve_asgi("asgi_api", *self.FORMAT)
        clients = [server.http() for _ in range(8)]
        for number, client in enumerate(clients):
            client.send_request(target=f"/logvar?name=n{number}")
        for number, client in enumerate(clients):
            assert client.read_response().body == b"n%d" % number
            server.wait_for_log(rf"^line /logvar.name=n{number} who=n{number}$")
        assert server.get("/hello").status == 200
        server.wait_for_log(r"^line /hello who=-?$")

    def test_this_request_alone(self, serve_asgi):
        server = serve_asgi("asgi_api", "--disable-logging")
        assert server.get("/hello").status == 200
        assert server.get("/log_this").status == 200
        until(lambda: server.log_requests(), "a line")
        assert [line.uri for line in server.log_requests()] == ["/log_this"]


def test_connection(server):
    assert ask(server, "/connection") == [True, "socket:"]


def test_facts(server, loop):
    found = ask(server, "/facts")
    assert found[:3] == [1, 1, loop]
    server.wait_for_log("^said with uwsgi.log$")


def test_what_waits_is_refused(server):
    found = ask(server, "/refused")
    assert len(found) == 11
    for name, message in found.items():
        assert name.removesuffix("_nb") in message
        assert "await" in message or "send http.response.start" in message
    # Nothing of it is left behind for the requests that follow on this core.
    for _ in range(3):
        assert server.get("/sleeps?times=2").body == b"slept"
