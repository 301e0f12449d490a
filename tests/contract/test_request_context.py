"""`uwsgi.request_context()`: calls for a request from green threads of the application's own."""

from __future__ import annotations

import pytest

ENDED = "RuntimeError: the request of this request context has ended"


@pytest.fixture
def server(engine, serve_engine):
    return serve_engine("contract_context", cores=1)


def case(client, name, body=None):
    client.send_request("POST" if body else "GET", f"/?{name}", body=body)
    response = client.read_response()
    assert response.status == 200
    return response.json()


@pytest.mark.engines("greenlet", "gevent")
class TestElsewhere:
    def test_calls_that_belong_to_the_request(self, server):
        found = case(server.http(), "belongs", b"the body")
        fd = found["connection_fd"]
        assert fd > 2
        assert found == {
            "cl": 8,
            "connection_fd": fd,
            "set_logvar": None,
            "get_logvar": "elsewhere",
            "log_this_request": None,
            "chunked_read": "the body",
            "chunked_read_nb": "",
            "set_user_harakiri": None,
            "own": [8, fd, "elsewhere"],
        }

    def test_without_a_context_they_are_refused(self, server):
        for text in case(server.http(), "without"):
            assert text.startswith("RuntimeError: ")
            assert "request_context=uwsgi.request_context()" in text

    def test_a_response_from_elsewhere(self, server):
        client = server.http()
        client.send_request("GET", "/?sends")
        assert client.read_response().body == b"elsewhere"

    @pytest.mark.engines("gevent")
    def test_who_sends_to_a_slow_reader_waits_and_nobody_else_does(self, serve_engine):
        server = serve_engine("contract_context", cores=2)
        slow = server.http(receive_buffer=4096)
        slow.send_request("GET", "/?much")
        for _ in range(3):
            assert case(server.http(), "keep").startswith("<request context of core")
        got = 0
        while data := slow.socket.recv(1 << 20):
            got += len(data)
        assert got >= 512 * 65536
        server.wait_for_log("^much: None$")


class TestAnywhere:
    def test_one_whose_request_has_ended_reaches_no_other(self, server):
        client = server.http()
        assert case(client, "keep") == "<request context of core 0>"
        text, *others = case(client, "use_kept")
        assert text == "<request context of core 0, ended>"
        assert others == [ENDED] * 4

    def test_one_that_a_hook_has_kept_reaches_no_other(self, server):
        client = server.http()
        assert case(client, "keep").startswith("<request context of core 0")
        text, *others = case(client, "from_hook")
        assert text == "<request context of core 0, ended>"
        assert others == [ENDED] * 2
        assert case(client, "use_kept")

    def test_on_a_thread(self, server):
        (text,) = case(server.http(), "thread")
        assert text.startswith("RuntimeError: ")
        assert "thread" in text

    def test_something_else(self, server):
        assert all(text.startswith("TypeError: ") for text in case(server.http(), "no_context"))
