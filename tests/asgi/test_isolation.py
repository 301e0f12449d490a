"""Requests beside each other: each has its own context and its own task, and nothing of others."""

from __future__ import annotations

import pytest

from tests.harness.asking import ask, notes_of, send

CLASSES = {
    "asyncio": "asyncio.unix_events._UnixSelectorEventLoop",
    "uvloop": "uvloop.Loop",
    "tornado": "asyncio.unix_events._UnixSelectorEventLoop",
}
FULL = r"\[DANGER\] async queue is full !!!$"


@pytest.fixture
def server(serve_asgi):
    return serve_asgi("asgi_isolation")


class TestContext:
    def test_one_after_the_other(self, server):
        client = server.http()
        for name in ("one", "two", "three"):
            found = client.get(f"/context?name={name}").json()
            assert found == {
                "loaded": "at load",
                "before": None,
                "child": name,
                "thread": name,
                "after": name,
            }

    def test_beside_each_other(self, server):
        clients = [send(server, f"/context?name=n{number}") for number in range(8)]
        for number, client in enumerate(clients):
            found = client.read_response().json()
            assert found["before"] is None
            assert {found["child"], found["thread"], found["after"]} == {f"n{number}"}


class TestTasks:
    def test_the_current_one(self, server):
        for name in ("one", "two"):
            found = ask(server, f"/task?name={name}")
            assert all(found.values()), found

    def test_each_request_has_another_one(self, server):
        client = server.http()
        assert client.get("/task?name=first").status == 200
        assert [client.get("/other_task").json() for _ in range(10)] == [True] * 10

    def test_beside_each_other(self, server):
        clients = [send(server, f"/task?name=n{number}") for number in range(8)]
        for client in clients:
            found = client.read_response().json()
            assert all(found.values()), found


class TestKept:
    """What belongs to a request that is over can be called, and does nothing to another one."""

    def test_used_in_the_next_request(self, server):
        client = server.http()
        for _ in range(3):
            assert client.get("/keeps").body == b"kept"
            answer = client.request("POST", "/uses_kept", body=b"my body")
            assert answer.header("x-evil") is None
            disconnected, *refused, body = answer.json()
            assert (disconnected, body) == ("http.disconnect", "my body")
            assert set(refused) <= {"ClientGone", "RuntimeError"}, refused

    def test_used_by_a_task_that_outlives_it(self, server):
        client = server.http()
        assert client.get("/outlived").body == b"answered"
        assert client.get("/waiting").json() == 1
        assert client.get("/go").json() == "gone"
        found = notes_of(server, 2)
        assert "http.disconnect" in found[0] or found[0].endswith("ClientGone")
        assert found[1].endswith("ClientGone")
        assert client.get("/loop").status == 200


def test_the_loop(server, loop):
    found = ask(server, "/loop")
    assert found == {"class": CLASSES[loop], "get_event_loop": True, "runs": True}


def test_primitives(fresh_asgi, loop):
    server = fresh_asgi("asgi_isolation")
    assert ask(server, "/primitives") == [1, 2, 3, 4, 5, 6, True]
    if loop == "uvloop":
        # It opens /dev/null for the first stream and keeps it.
        server.baseline = {}


class TestMany:
    def test_streams_are_not_mixed_up(self, server):
        clients = [send(server, f"/stream?name=client{number}") for number in range(8)]
        for number, client in enumerate(clients):
            expected = "".join(f"client{number}-{part}\n" for part in range(20))
            assert client.read_response().body.decode() == expected

    def test_as_many_as_there_are_cores(self, serve_asgi):
        server = serve_asgi("asgi_isolation", cores=200)
        clients = [send(server, f"/together?wanted=200&name=n{number}") for number in range(200)]
        found = [client.read_response().body for client in clients]
        assert found == [b"n%d" % number for number in range(200)]
        lines = server.wait_requests(200)
        assert {line.core for line in lines} == set(range(200))

    def test_more_than_there_are_cores(self, fresh_asgi, gate):
        """Two at a time; the others are parked, and each is served."""
        server = fresh_asgi("asgi_isolation", cores=2, allow=[FULL], env=gate.env)
        held = [send(server, "/holds") for _ in range(2)]
        heads = [client.read_head() for client in held]
        parked = [send(server, f"/together?wanted=2&name=n{number}") for number in range(20)]
        server.wait_for_log(FULL)
        gate.release(2)
        for client, head in zip(held, heads, strict=True):
            assert client.read_body(head).body == b"held released"
        found = [client.read_response().body for client in parked]
        assert found == [b"n%d" % number for number in range(20)]
        lines = server.wait_requests(22)
        assert {line.core for line in lines} == {0, 1}

    def test_parked_on_connections_that_were_served(self, serve_asgi):
        server = serve_asgi("asgi_isolation", cores=2, allow=[FULL])
        clients = [server.http() for _ in range(10)]
        for _ in range(3):
            for number, client in enumerate(clients):
                client.send_request(target=f"/together?wanted=2&name=n{number}")
            found = [client.read_response().body for client in clients]
            assert found == [b"n%d" % number for number in range(10)]
