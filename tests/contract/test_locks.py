"""User locks: one holder in the whole instance, and waiting that holds up nobody else."""

from __future__ import annotations

import signal

import pytest

from tests.harness.waiting import until

CORES = 8
KILLED = (r"DAMN ! worker \d+ \(pid: \d+\) died", r"\berrors?\b")


@pytest.fixture
def server(serve_engine):
    return serve_engine("contract_locks", cores=CORES)


def ask(server, *targets):
    """Requests at the same time; the bodies of their answers."""
    clients = [server.http() for _ in targets]
    for client, target in zip(clients, targets, strict=True):
        client.send_request(target=target)
    return [client.read_response().body.decode() for client in clients]


class TestAlone:
    def test_calls(self, server):
        assert server.get("/locked").body == b"False"
        assert server.get("/keep").body == b"1"
        # As in uWSGI it stays locked when its request has ended...
        assert server.get("/locked").body == b"True"
        # ... until somebody of the process unlocks it, who may do so twice.
        for _ in range(2):
            assert server.get("/unlock").body == b"unlocked"
            assert server.get("/locked").body == b"False"

    def test_numbers(self, server):
        assert server.get("/calls").body == b"{'Invalid lock number'}"

    def test_more_locks(self, serve_engine):
        server = serve_engine("contract_locks", "--locks", "2", cores=CORES)
        assert b"None" in server.get("/calls").body
        server.get("/unlock?lock=1")

    def test_a_thread(self, server):
        assert server.get("/thread").body == b"[True] False"

    def test_without_a_master(self, serve_engine):
        server = serve_engine("contract_locks", "--master=false", cores=CORES)
        assert server.get("/keep").body == b"1"
        assert server.get("/locked").body == b"True"
        assert server.get("/unlock").body == b"unlocked"


class TestSuspended:
    @pytest.fixture
    def server(self, suspending, serve_engine):
        return serve_engine("contract_locks", cores=CORES)

    def test_one_at_a_time(self, server):
        assert ask(server, *["/hold"] * CORES) == ["1 1"] * CORES
        assert server.get("/locked").body == b"False"

    def test_the_decorator(self, server):
        assert ask(server, *["/alone"] * CORES) == ["1"] * CORES

    def test_others_go_on(self, server):
        assert server.get("/keep").body == b"1"
        waiting = server.http()
        waiting.send_request(target="/again")
        for _ in range(20):
            assert server.get("/hello").body == b"hello"
        assert server.get("/unlock").body == b"unlocked"
        assert waiting.read_response().body == b"locked"
        server.get("/unlock")

    def test_a_thread_gives_it_back(self, server):
        assert server.get("/keep").body == b"1"
        waiting = server.http()
        waiting.send_request(target="/again")
        assert server.get("/unlock_later").body == b"later"
        assert waiting.read_response().body == b"locked"
        server.get("/unlock")

    def test_who_waits_can_be_cancelled(self, suspending, serve_engine):
        server = serve_engine("contract_locks", "--request-timeout", "/again=0.2", cores=CORES)
        assert server.get("/keep").body == b"1"
        clients = [server.http() for _ in range(3)]
        for client in clients:
            client.send_request(target="/again")
        assert [client.read_response().status for client in clients] == [504] * 3
        assert server.get("/unlock").body == b"unlocked"
        assert server.get("/locked").body == b"False"
        assert ask(server, "/hold", "/hold") == ["1 1"] * 2

    def test_without_a_master(self, suspending, serve_engine):
        server = serve_engine("contract_locks", "--master=false", cores=CORES)
        assert ask(server, *["/hold"] * CORES) == ["1 1"] * CORES


@pytest.mark.engines("none")
class TestPlain:
    def test_no_worker_waits_for_itself(self, server):
        assert server.get("/keep").body == b"1"
        assert b"would wait for ever" in server.get("/again").body
        server.get("/unlock")


class TestWorkers:
    """Several processes."""

    @pytest.fixture
    def how(self, engine):
        return "" if engine.suspends else "&blocking=1"

    def test_nobody_is_inside_with_another(self, serve_engine, how, tmp_path):
        # While the others have no CPU one of them may get all requests.
        server = serve_engine("contract_locks", "--processes", "3", cores=12)
        file = tmp_path / "count"
        file.write_text("0")
        answers = ask(server, *[f"/turns?turns=20&file={file}{how}"] * 12)
        assert answers == ["counted"] * 12
        assert int(file.read_text()) == 240

    def test_the_lock_of_a_killed_worker_is_free(self, fresh_engine, how):
        server = fresh_engine("contract_locks", "--processes", "2", cores=CORES, allow=KILLED)
        before = set(server.workers())
        dying = server.http()
        dying.send_request(target="/die")
        assert dying.closed_by_peer()
        answer = ask(server, f"/hold?s=0.01{how}")
        assert answer[0].endswith(" 1")
        until(lambda: before - set(server.workers()), "the end of the worker")
        until(lambda: len(server.workers()) == 2, "its successor")

    def test_generations_share_them(self, fresh_engine, how, tmp_path):
        # Not the first: the application takes that while it is loaded.
        server = fresh_engine("contract_locks", "--locks", "1", cores=CORES)
        file = tmp_path / "end"
        holding = server.http()
        holding.send_request(target=f"/hold_until?file={file}{how}")
        server.wait_for_log("holds the lock")
        server.signal(signal.SIGHUP)
        server.wait_for_log("generation 2,")
        # The old generation's request has it still, and the new one knows.
        assert server.get("/locked?lock=1").body == b"True"
        file.touch()
        assert holding.read_response().body == b"held"
        assert server.get("/locked?lock=1").body == b"False"
