"""Workers that come and go while clients keep their connections, and who gets new ones."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.harness.http import Client
from tests.harness.server import READY, Server
from tests.harness.waiting import until

CONNECTIONS = 1000


def pid(client: Client) -> int:
    return int(client.get("/").body)


class TestSharing:
    """The busier of two workers serves at most 60 %."""

    @pytest.fixture
    def server(self, serve, modes) -> Server:
        return serve("lifecycle", "--processes", "2", "--disable-logging", *modes)

    def check(self, found: Counter[int]) -> None:
        assert sum(found.values()) == CONNECTIONS
        assert max(found.values()) <= CONNECTIONS * 0.6, found

    def test_one_after_the_other(self, server):
        found: Counter[int] = Counter()
        for _ in range(CONNECTIONS):
            found[int(server.get("/").body)] += 1
        self.check(found)

    def test_fifty_at_a_time(self, server):
        with ThreadPoolExecutor(50) as pool:
            found = Counter(pool.map(lambda _: int(server.get("/").body), range(CONNECTIONS)))
        self.check(found)

    def test_connections_that_stay(self, server):
        found: Counter[int] = Counter()
        for _ in range(CONNECTIONS):
            client = server.http()
            found[pid(client)] += 1
        self.check(found)
        server.close_clients()


class TestRecycling:
    @pytest.mark.parametrize("processes", ["1", "2"])
    def test_no_client_notices(self, fresh, modes, processes):
        server = fresh("lifecycle", "--processes", processes, "--max-requests", "10", *modes)
        clients = [server.http() for _ in range(20)]
        found: Counter[int] = Counter()

        def ask_all() -> bool:
            # A connection that was closed would not answer.
            found.update(pid(client) for client in clients)
            return len(found) > 5

        until(ask_all, "processes that come and go", 20)
        server.wait_for_log("served 10 requests")


class TestCalls:
    @pytest.mark.parametrize("thread", ["", "?thread"])
    def test_reload(self, fresh, modes, thread):
        server = fresh("lifecycle", "--processes", "2", *modes)
        client = server.http()
        before = pid(client)
        ready = server.count_log(READY.pattern)
        assert client.get(f"/reload{thread}").body == b"True"
        until(lambda: server.count_log(READY.pattern) > ready, "the next generation", 20)
        until(lambda: pid(client) != before, "the same connection on another worker")

    @pytest.mark.parametrize("thread", ["", "?thread"])
    @pytest.mark.parametrize("master", ["true", "false"])
    def test_stop(self, fresh, modes, master, thread):
        server = fresh("lifecycle", f"--master={master}", *modes)
        assert server.get(f"/stop{thread}").body == b"True"
        assert server.wait_exit() == 0

    def test_no_reload_without_a_master(self, fresh, modes):
        server = fresh("lifecycle", "--master=false", *modes)
        assert server.get("/reload").body == b"None"
        server.wait_for_log(r"uwsgi\.reload\(\): there is no master")
        assert server.get("/").status == 200
