"""Cores serve one request after the other: nothing of an earlier one stays, and nothing grows."""

from __future__ import annotations

import random

import pytest

from tests.harness import procs
from tests.harness.waiting import until

CORES = 8
ROUNDS = 4
MIB = 1 << 20


def nothing_is_left(server):
    said = server.get("/alive").json()
    assert said["alive"] == {}
    return said["made"]


def held(server, style, round_number):
    clients = []
    for number in range(CORES):
        name = f"{style}{round_number}.{number}"
        client = server.http()
        client.send_request(target=f"/{style}?name={name}")
        clients.append((name, client))
    random.Random(round_number).shuffle(clients)
    return clients


class TestObjects:
    """As many rounds as it takes to see a slow leak, each on all cores, ended in another order."""

    @pytest.fixture
    def server(self, fresh_engine):
        # One more for whoever lets the others go.
        return fresh_engine(
            "contract_reuse",
            cores=CORES + 1,
            allow=["^Traceback", "ValueError", "exception in the application"],
        )

    def test_yielding(self, server):
        self.rounds(server, "yielding", 200)

    def test_suspending(self, suspending, server):
        self.rounds(server, "suspending", 200)

    def test_failing(self, server):
        self.rounds(server, "raising", 500)

    def rounds(self, server, style, status):
        for number in range(ROUNDS):
            clients = held(server, style, number)
            for name, client in clients:
                until(lambda name=name: self.is_let(server, name), f"{name} waits")
                answer = client.read_response()
                assert answer.status == status
                if status == 200:
                    assert answer.body == name.encode()
            made = nothing_is_left(server)
            assert min(made.values()) >= CORES * (number + 1)

        def found():
            return [r for r in server.log_requests() if r.uri.startswith(f"/{style}")]

        # The last one's line may come after the answer to who has asked what is alive.
        until(lambda: len(found()) >= CORES * ROUNDS, "a line of each")
        lines = found()
        assert len(lines) == CORES * ROUNDS
        # One core more than these are, for whoever lets them go.
        assert len({line.core for line in lines}) >= CORES

    def is_let(self, server, name):
        """False while that request has not begun to wait."""
        return server.get(f"/let?name={name}").body == b"let\n"

    @pytest.mark.parametrize("ending", ["close", "reset"])
    def test_departures(self, server, ending):
        self.departures(server, "left", ending)

    @pytest.mark.parametrize("ending", ["close", "reset"])
    def test_departures_suspended(self, suspending, server, ending):
        self.departures(server, "left_suspended", ending)

    def departures(self, server, style, ending):
        for number in range(ROUNDS):
            clients = held(server, style, number)
            for _, client in clients:
                client.read_head()
                assert client.read_chunk() == b"part\n"
            for _, client in clients:
                getattr(client, ending)()
            until(
                lambda done=number + 1: (
                    sum(r.cancelled == "client gone" for r in server.log_requests()) == CORES * done
                ),
                "all have ended",
            )
            nothing_is_left(server)


class TestMemory:
    WARM_UP = 6_000
    REQUESTS = 20_000
    PIPELINED = 25

    @pytest.fixture
    def server(self, fresh_engine):
        return fresh_engine("contract_reuse", cores=CORES)

    def test_yielding(self, server):
        self.stays_flat(server, "short")

    def test_suspending(self, suspending, server):
        self.stays_flat(server, "short_suspending")

    def stays_flat(self, server, style):
        """A leak of 100 bytes per request would be 1.4 MB."""
        pid = server.worker()
        clients = [server.http() for _ in range(CORES)]
        order = random.Random(5)
        done = self.serve(clients, style, order, self.WARM_UP)
        fds = len(procs.open_files(pid))
        before = procs.rss_bytes(pid)
        done += self.serve(clients, style, order, self.REQUESTS - self.WARM_UP)
        assert done >= self.REQUESTS
        assert procs.rss_bytes(pid) - before < MIB
        assert len(procs.open_files(pid)) == fds
        server.close_clients()
        lines = server.wait_requests(done)
        assert len(lines) == done
        assert {line.core for line in lines} == set(range(CORES))

    def serve(self, clients, style, order, count):
        done = 0
        while done < count:
            for client in clients:
                # Of different lengths, so that cores are free in another order each time.
                client.send(
                    b"".join(
                        b"GET /%s?name=%d HTTP/1.1\r\nHost: a\r\n\r\n"
                        % (style.encode(), order.randrange(5))
                        for _ in range(self.PIPELINED)
                    )
                )
            for client in clients:
                for _ in range(self.PIPELINED):
                    assert client.read_response().body == b"2|"
            done += self.PIPELINED * len(clients)
        return done
