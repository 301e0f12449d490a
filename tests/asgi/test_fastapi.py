"""FastAPI as it is, on each loop."""

from __future__ import annotations

import json
import signal

import pytest

from tests.harness.asking import ask, notes_of, send

JSON = [("Content-Type", "application/json")]


@pytest.fixture
def server(serve_asgi):
    return serve_asgi("asgi_fastapi")


def post(server, target, value):
    return server.request("POST", target, JSON, json.dumps(value).encode())


def test_hello(server):
    client = server.http()
    for _ in range(3):
        answer = client.get("/hello")
        assert answer.json() == {"hello": "world"}
        assert answer.framing == "length"


class TestModels:
    def test_a_body(self, server):
        answer = post(server, "/items/5?q=a", {"name": "é", "price": 1.5, "tags": ["x"] * 3})
        assert answer.status == 201
        expected = {"number": 5, "q": "a", "name": "é", "price": 1.5, "tags": ["x"] * 3}
        assert answer.json() == expected

    def test_a_large_one(self, server):
        tags = [f"tag {number}" for number in range(20_000)]
        answer = post(server, "/items/5", {"name": "a", "price": 1, "tags": tags})
        assert answer.json()["tags"] == tags

    @pytest.mark.parametrize("value", [{"name": "a"}, {"name": "a", "price": "much"}, []])
    def test_a_wrong_one(self, server, value):
        assert post(server, "/items/5", value).status == 422

    def test_no_json(self, server):
        assert server.request("POST", "/items/5", JSON, b"{").status == 422

    def test_repeated_headers(self, server):
        answer = server.request("GET", "/headers", [("X-Token", "a"), ("X-Token", "b")])
        assert answer.json() == ["a", "b"]


class TestDependencies:
    def test_they_end_behind_the_answer(self, server):
        assert ask(server, "/dependency") == ["session", "sync session"]
        found = notes_of(server, 4)
        assert set(found[:2]) == {"opened", "sync opened"}
        assert set(found[2:]) == {"closed", "sync closed"}

    def test_they_see_what_is_raised(self, server):
        answer = server.get("/dependency_fails")
        assert (answer.status, answer.json()["detail"]) == (409, "as the test asks")
        assert notes_of(server, 3) == ["opened", "rolled back", "closed"]


class TestPlainFunctions:
    def test_in_a_thread(self, server):
        assert ask(server, "/thread") is False

    def test_four_at_a_time(self, server):
        clients = [send(server, "/four_threads") for _ in range(4)]
        assert ask(server, "/hello") == {"hello": "world"}
        assert [client.read_response().json() for client in clients] == ["met"] * 4


def test_background_tasks(server):
    assert ask(server, "/background") == "answered"
    assert notes_of(server, 1) == ["background"]


def test_a_stream(server):
    answer = server.http().get("/stream")
    assert answer.header("content-type").startswith("text/event-stream")
    assert answer.body == b"".join(b"data: %d\n\n" % number for number in range(5))


def test_its_own_documents(server):
    assert "/items/{number}" in ask(server, "/openapi.json")["paths"]
    assert b"swagger" in server.get("/docs").body


def test_mounted_by_the_server(serve_asgi):
    server = serve_asgi(None, "--pythonpath", "tests/apps/asgi_fastapi", "--asgi", "/api=app")
    assert ask(server, "/api/urls") == ["/api", "http://example.org/api/hello", True]
    assert ask(server, "/api/openapi.json")["servers"] == [{"url": "/api"}]


def test_lifespan(fresh_asgi):
    server = fresh_asgi("asgi_fastapi")
    assert ask(server, "/urls") == ["", "http://example.org/hello", True]
    server.signal(signal.SIGTERM)
    assert server.wait_exit() == 0
    assert server.count_log("^fastapi ends in order$") == 1
