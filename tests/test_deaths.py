"""What dies takes only its own requests along: master, generation, workers, in several ways."""

from __future__ import annotations

import os
import signal

import pytest

from tests.harness import procs
from tests.harness.look_around import refused
from tests.harness.on_workers import Begun, one_on_each
from tests.harness.server import Server
from tests.harness.waiting import until

OPTIONS = ("--processes", "2", "--async", "40")
DEATH = ("DAMN ! worker", "(?i)segmentation|fatal python error|traceback|File |Extension modules")


@pytest.fixture
def server(fresh, gate) -> Server:
    return fresh("faults", *OPTIONS, env=gate.env, allow=DEATH)


def generation_of(server: Server) -> int:
    """The process that loaded the application."""
    found = [pid for pid in procs.children(server.pid) if procs.alive(pid)]
    assert len(found) == 1, found
    return found[0]


class TestMaster:
    """SIGKILL to the master: nobody can serve on, and nobody stays."""

    def kill(self, server: Server) -> None:
        server.remember()
        server.process.kill()
        server.process.wait()

    def check_nothing_is_left(self, server: Server) -> None:
        until(lambda: not server.leftovers(), "all processes have left")
        for listener in server.listeners:
            # The threads of a process that leaves end one by one.
            until(lambda at=listener.address: refused(at), f"{listener.address} is free")
        server.process.returncode = 0

    @pytest.mark.parametrize("target", ["/hold", "/block", "/spin", "/regex"])
    def test_with_requests_in_flight(self, server, target):
        """Suspended, blocked in a system call, in Python, and in C with the interpreter's lock."""
        begun = Begun(server, target)
        self.kill(server)
        assert begun.lost()
        self.check_nothing_is_left(server)

    def test_the_next_server_can_have_the_address(self, fresh, gate, tmp_path):
        path = str(tmp_path / "http.sock")
        first = fresh("faults", *OPTIONS, env=gate.env, http=path)
        begun = Begun(first, "/hold")
        self.kill(first)
        assert begun.lost()
        # The socket's name is left over: nobody was there to remove it.
        self.check_nothing_is_left(first)
        assert os.path.exists(path)
        second = fresh("faults", *OPTIONS, env=gate.env, http=path)
        assert second.get("/").status == 200
        second.signal(signal.SIGTERM)
        assert second.wait_exit() == 0

    def test_while_a_generation_is_being_loaded(self, fresh, tmp_path):
        """Somebody who is no worker yet leaves as well."""
        mark = tmp_path / "loading"
        os.mkfifo(mark)
        (tmp_path / "slow.py").write_text(
            "import os\n"
            f"if os.path.exists({str(mark) + '.armed'!r}):\n"
            f"    os.read(os.open({str(mark)!r}, os.O_RDWR), 1)\n"
            "def application(e, s):\n    s('200 OK', [])\n    return [b'ok']\n"
        )
        server = fresh(None, "--chdir", str(tmp_path), "-w", "slow")
        (tmp_path / "loading.armed").touch()
        server.signal(signal.SIGHUP)
        until(
            lambda: any(str(mark) in procs.open_files(pid).values() for pid in server.remember()),
            "the next generation loads",
        )
        self.kill(server)
        self.check_nothing_is_left(server)


class TestGeneration:
    def test_its_requests_finish(self, server, gate):
        """Its workers serve on until those of the next one are ready, and then drain."""
        begun = one_on_each(server)
        idle = server.http()
        first = idle.get("/").json()
        workers = server.workers()
        server.begin()
        os.kill(generation_of(server), signal.SIGKILL)
        server.wait_for_log(r"greenloom is ready \(generation 2, 2 workers\)")
        assert set(workers) <= set(server.workers()), "they hold requests"
        until(lambda: idle.get("/").json()["load"] != first["load"], "a new worker has it")
        second = idle.get("/").json()
        held = [one for requests in begun.values() for one in requests]
        gate.release(len(held))
        assert [one.rest() for one in held] == [b"released\n"] * len(held)
        until(lambda: not set(workers) & set(server.workers()), "the old workers have left")
        assert server.get("/").json()["load"] == second["load"]


class TestWorker:
    @pytest.mark.parametrize("how", ["SIGKILL", "SIGSEGV", "/segfault", "/leave?7"])
    def test_only_its_requests_fail(self, server, gate, how):
        begun = one_on_each(server)
        if how.startswith("/"):
            last = Begun(server, how)
            victim = last.pid
            assert last.lost()
        else:
            victim = server.workers()[0]
            os.kill(victim, signal.Signals[how])
        assert all(one.lost() for one in begun.pop(victim))
        # Its connections end a little before it does.
        until(lambda: victim not in server.workers(), "the end of the victim")
        until(lambda: len(server.workers()) == 2, "a new worker")
        (innocent,) = begun
        assert innocent in server.workers()
        gate.release(len(begun[innocent]))
        assert {one.rest() for one in begun[innocent]} == {b"released\n"}
        assert server.get("/").status == 200
        server.wait_for_log(rf"DAMN ! worker \d \(pid: {victim}\) died")

    def test_more_memory_than_allowed(self, server, gate):
        """The request that wants it fails alone; not even its worker does."""
        begun = one_on_each(server)
        workers = server.workers()
        assert Begun(server, "/limit?512").lost()
        server.wait_for_log("MemoryError")
        held = [one for requests in begun.values() for one in requests]
        gate.release(len(held))
        assert {one.rest() for one in held} == {b"released\n"}
        assert server.workers() == workers

    def test_evil_reload_on_rss(self, fresh, gate):
        """The one that is too large is killed with what it holds; the other one serves on."""
        server = fresh(
            "faults", *OPTIONS, "--evil-reload-on-rss", "200", env=gate.env,
            allow=("DAMN ! worker", "EVIL RELOAD ON WORKER"),
        )  # fmt: skip
        begun = one_on_each(server)
        victim = Begun(server, "/grow?300").pid
        server.wait_for_log(rf"EVIL RELOAD ON WORKER \d.*\(pid: {victim}\)")
        assert all(one.lost() for one in begun.pop(victim))
        until(lambda: victim not in server.workers(), "the end of the victim")
        until(lambda: len(server.workers()) == 2, "a new worker")
        (innocent,) = begun
        assert innocent in server.workers()
        gate.release(len(begun[innocent]))
        assert {one.rest() for one in begun[innocent]} == {b"released\n"}

    def test_reload_on_rss(self, fresh, gate):
        """Nobody loses anything: the worker that is too large makes room when it can."""
        server = fresh("faults", *OPTIONS, "--reload-on-rss", "200", env=gate.env)
        begun = one_on_each(server)
        idle = {}
        while set(idle) != set(begun):
            client = server.http()
            idle[client.get("/").json()["pid"]] = client
        large = Begun(server, "/grow?300")
        assert large.rest() == b"grown\n"
        until(lambda: len(server.workers()) == 3, "its successor")
        # Idle connections go on elsewhere.
        until(lambda: idle[large.pid].get("/").json()["pid"] != large.pid, "handed over")
        held = [one for requests in begun.values() for one in requests]
        gate.release(len(held))
        assert {one.rest() for one in held} == {b"released\n"}
        until(lambda: large.pid not in server.workers(), "it has left")
        assert len(server.workers()) == 2
