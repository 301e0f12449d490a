"""A reload reads the configuration anew, keeps what serves when the new fails, ends what stays."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from tests.harness import procs
from tests.harness.http import Client, Truncated
from tests.harness.look_around import refused
from tests.harness.on_workers import Begun, one_on_each
from tests.harness.server import Server
from tests.harness.waiting import until

KEPT = r"(?i)generation \d+ .*(goes on|stays|keeps|serves on)"
"""What the log says of a reload that has failed."""

SOURCE = """\
import os
import at_gate

VERSION = {version!r}
LOAD = os.urandom(4).hex()


def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    if environ["PATH_INFO"] == "/hold":
        yield b"%d" % os.getpid()
        yield from at_gate.wait()
    yield VERSION
"""


class Site:
    """An application and an ini file that tests rewrite."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ini = folder / "site.ini"
        self.application(1)
        self.configure(processes=2)

    def application(self, version: int, text: str | None = None) -> None:
        source = SOURCE.format(version=b"version %d" % version) if text is None else text
        (self.folder / "site_app.py").write_text(source)

    def configure(self, *lines: str, processes: int = 2, cores: int = 20) -> None:
        self.ini.write_text(
            "\n".join(
                [
                    "[greenloom]",
                    f"chdir = {self.folder}",
                    "module = site_app",
                    f"processes = {processes}",
                    f"async = {cores}",
                    *lines,
                    "",
                ]
            )
        )


@pytest.fixture
def site(tmp_path) -> Site:
    return Site(tmp_path)


@pytest.fixture
def served(fresh, site, gate) -> Server:
    return fresh(
        None, "--ini", str(site.ini), env=gate.env, probe=False,
        allow=["(?i)error|traceback|File "],
    )  # fmt: skip


def version(server: Server) -> bytes:
    return server.get("/").body


def wait_version(server: Server, number: int, idle: Client | None = None) -> None:
    """The old workers hear of their successors only after the log has."""
    wanted = b"version %d" % number
    until(lambda: version(server) == wanted, f"version {number} is served")
    if idle is not None:
        # The same connection, on another worker.
        until(lambda: idle.get("/").body == wanted, f"version {number} on an old connection")


class TestTheNewOne:
    def test_code_and_workers(self, served, site):
        before = served.workers()
        idle = served.http()
        assert idle.get("/").body == b"version 1"
        site.application(2)
        served.reload()
        wait_version(served, 2, idle)
        until(lambda: not set(before) & set(served.workers()), "the old workers have left")
        assert len(served.workers()) == 2
        assert served.process.poll() is None

    @pytest.mark.parametrize("processes", [1, 4])
    def test_processes(self, served, site, processes):
        site.configure(processes=processes)
        served.reload()
        served.wait_for_log(rf"greenloom is ready \(generation 2, {processes} workers?\)")
        until(lambda: len(served.workers()) == processes, f"{processes} workers")
        assert version(served) == b"version 1"

    def test_cores(self, served, site, gate):
        """More requests at once than there were cores."""
        site.configure(processes=1, cores=30)
        served.reload()
        until(lambda: len(served.workers()) == 1, "the old workers have left")
        held = [served.http() for _ in range(30)]
        for client in held:
            client.send_request(target="/hold")
        heads = [client.read_head() for client in held]
        assert len({client.read_chunk() for client in held}) == 1
        gate.release(30)
        for client, head in zip(held, heads, strict=True):
            assert client.read_body(head).body == b"version 1"

    def test_a_listener_more(self, served, site, tmp_path):
        path = str(tmp_path / "second.sock")
        site.configure(f"http-socket = {path}")
        served.reload()
        with Client(path) as client:
            assert client.get("/").body == b"version 1"
        assert version(served) == b"version 1"

    def test_a_listener_less(self, fresh, site, gate, tmp_path):
        path = str(tmp_path / "second.sock")
        site.configure(f"http-socket = {path}")
        server = fresh(None, "--ini", str(site.ini), env=gate.env, probe=False)
        with Client(path) as client:
            client.send_request(target="/hold")
            head = client.read_head()
            assert client.read_chunk()
            site.configure()
            server.reload()
            until(lambda: refused(path), "nobody listens there")
            # What was accepted is answered.
            gate.release()
            assert client.read_body(head).body == b"version 1"
        assert version(server) == b"version 1"
        until(lambda: not os.path.exists(path), "its name is gone")

    def test_lazily_loaded(self, fresh, site, gate):
        server = fresh(None, "--ini", str(site.ini), "--lazy-apps", env=gate.env, probe=False)
        idle = server.http()
        assert idle.get("/").body == b"version 1"
        site.application(2)
        server.reload()
        wait_version(server, 2, idle)


BROKEN = {
    "syntax": "def application(:\n",
    "exception": "raise RuntimeError('broken on purpose')\n",
    "exit": "import os\nos._exit(9)\n",
    "nothing": "x = 1\n",
}


class TestFailures:
    """The old generation serves on, and the log says so; a repaired one takes over."""

    def check(self, server: Server, site: Site, before: list[int], idle: Client) -> None:
        server.wait_for_log(KEPT, 20)
        until(
            lambda: len(generations(server)) == 1 and server.workers() == before,
            "what failed has gone",
        )
        assert version(server) == b"version 1"
        assert idle.get("/").body == b"version 1"
        site.application(2)
        site.configure()
        server.reload()
        wait_version(server, 2, idle)

    @pytest.mark.parametrize("how", BROKEN)
    def test_application(self, served, site, how):
        before, idle = served.workers(), served.http()
        assert idle.get("/").body == b"version 1"
        site.application(2, BROKEN[how])
        served.signal(signal.SIGHUP)
        self.check(served, site, before, idle)

    def test_lazily_loaded(self, fresh, site, gate):
        server = fresh(
            None, "--ini", str(site.ini), "--lazy-apps", env=gate.env, probe=False,
            allow=["(?i)error|traceback|File "],
        )  # fmt: skip
        before, idle = server.workers(), server.http()
        assert idle.get("/").body == b"version 1"
        site.application(2, BROKEN["exception"])
        server.signal(signal.SIGHUP)
        self.check(server, site, before, idle)

    @pytest.mark.parametrize(
        "line", ["no-such-option = 1", "processes = many", "http-socket = 192.0.2.1:1"]
    )
    def test_configuration(self, served, site, line):
        """Unknown, senseless, and impossible (an address that this machine does not have)."""
        before, idle = served.workers(), served.http()
        assert idle.get("/").body == b"version 1"
        site.configure(line)
        served.signal(signal.SIGHUP)
        self.check(served, site, before, idle)

    def test_no_configuration_at_all(self, served, site):
        before, idle = served.workers(), served.http()
        assert idle.get("/").body == b"version 1"
        site.ini.unlink()
        served.signal(signal.SIGHUP)
        self.check(served, site, before, idle)


def generations(server: Server) -> list[int]:
    """The master's living children."""
    return [pid for pid in procs.children(server.pid) if procs.alive(pid)]


def test_a_storm_of_reloads(served, site, gate):
    """Fifty in five seconds: few generations at any time, and the last word counts."""
    resident = sum(procs.rss_bytes(pid) for pid in (served.pid, *served.remember()))
    held = [served.http() for _ in range(6)]
    most, largest = 0, 0
    for number in range(50):
        site.application(number + 2)
        served.signal(signal.SIGHUP)
        if number % 10 == 0:
            held[number // 10].send_request(target="/hold")
        end = time.monotonic() + 0.1
        while time.monotonic() < end:
            most = max(most, len(generations(served)))
            largest = max(largest, memory(served))
    # One serves, two leave, one is being made ready, and the oldest is just being ended.
    assert most <= 5
    assert largest < resident * 5
    wait_version(served, 51)
    gate.release(50)
    until(lambda: len(generations(served)) == 1, "the others have left", 20)
    assert len(served.workers()) == 2
    assert version(served) == b"version 51"


def memory(server: Server) -> int:
    total = 0
    for pid in (server.pid, *server.remember()):
        try:
            total += procs.rss_bytes(pid)
        except (FileNotFoundError, ProcessLookupError):
            continue
    return total


class TestMercy:
    @pytest.fixture
    def merciless(self, fresh, gate) -> Server:
        return fresh(
            "faults", "--processes", "2", "--async", "20", "--worker-reload-mercy", "1",
            env=gate.env, probe=False, allow=["NO MERCY", "(?i)mercy|cancel"],
        )  # fmt: skip

    def test_what_is_left_is_cut(self, merciless):
        """So that the client can see it, and the log says it."""
        begun = one_on_each(merciless)
        before = merciless.workers()
        merciless.reload()
        for requests in begun.values():
            for one in requests:
                with pytest.raises(Truncated):
                    one.rest()
        until(lambda: not set(before) & set(merciless.workers()), "the old workers have left")
        lines = [line for line in merciless.log_requests() if line.uri == "/hold"]
        assert len(lines) == sum(map(len, begun.values()))
        assert all(line.cancelled for line in lines), lines
        assert merciless.get("/").status == 200

    def test_a_blocked_worker_is_killed(self, merciless, gate):
        stuck = Begun(merciless, "/spin")
        merciless.reload()
        assert stuck.lost()
        until(lambda: stuck.pid not in merciless.workers(), "the blocked worker is gone")
        until(lambda: len(merciless.workers()) == 2, "two workers")
        assert merciless.get("/").status == 200


class TestOtherWays:
    def test_the_application_asks(self, fresh, gate):
        server = fresh("faults", "--processes", "2", "--async", "20", env=gate.env)
        before = server.get("/").json()["load"]
        begun = Begun(server, "/reload")
        assert begun.rest() == b"asked\n"
        server.wait_for_log(r"greenloom is ready \(generation 2, 2 workers\)", 20)
        until(lambda: server.get("/").json()["load"] != before, "the new one serves")

    def test_a_file_is_touched(self, fresh, gate, tmp_path):
        mark = tmp_path / "reload"
        mark.touch()
        server = fresh(
            "faults", "--processes", "2", "--async", "20", "--touch-reload", str(mark), env=gate.env
        )
        for number in (2, 3):
            before = server.get("/").json()["load"]
            os.utime(mark, (number, number))
            server.wait_for_log(rf"greenloom is ready \(generation {number}, 2 workers\)", 20)
            until(lambda old=before: server.get("/").json()["load"] != old, "the new one serves")

    def test_a_file_is_replaced(self, fresh, gate, tmp_path):
        """As editors and deployments do."""
        mark = tmp_path / "reload"
        mark.write_text("1")
        server = fresh(
            "faults", "--processes", "2", "--async", "20", "--touch-reload", str(mark), env=gate.env
        )
        (tmp_path / "new").write_text("2")
        os.replace(tmp_path / "new", mark)
        server.wait_for_log(r"greenloom is ready \(generation 2, 2 workers\)", 20)

    def test_exit_on_reload(self, fresh, gate):
        server = fresh("faults", "--async", "20", "--exit-on-reload", env=gate.env)
        server.signal(signal.SIGHUP)
        assert server.wait_exit() == 0

    def test_sigterm_may_reload(self, fresh, gate):
        server = fresh("faults", "--async", "20", "--sigterm-reload", env=gate.env, probe=False)
        server.signal(signal.SIGTERM)
        server.wait_for_log(r"greenloom is ready \(generation 2, 1 worker\)", 20)
        server.signal(signal.SIGINT)
        assert server.wait_exit() == 0


class TestStop:
    def test_shutdown_delay(self, fresh, gate, tmp_path):
        """Balancers are told first, and everybody is served meanwhile."""
        path = str(tmp_path / "metrics.sock")
        server = fresh(
            "faults", "--processes", "2", "--async", "20", "--shutdown-delay", "2",
            "--metrics", path, env=gate.env, probe=False,
        )  # fmt: skip
        idle = server.http()
        assert idle.get("/").status == 200

        def ready() -> int:
            with Client(path) as client:
                return client.get("/readyz").status

        assert ready() == 200
        server.signal(signal.SIGTERM)
        until(lambda: ready() == 503, "readiness says no")
        assert server.get("/").status == 200
        assert idle.get("/").status == 200
        assert server.wait_exit() == 0

    def test_a_second_signal_does_not_wait(self, fresh, gate):
        server = fresh(
            "faults", "--async", "20", "--shutdown-delay", "1000", env=gate.env, probe=False
        )
        server.signal(signal.SIGTERM)
        server.wait_for_log("SIGINT/SIGTERM received")
        server.signal(signal.SIGTERM)
        assert server.wait_exit() == 0

    def test_in_the_middle_of_a_reload(self, served, site, gate):
        """Three generations at once: one leaves, one serves, one loads; all end."""
        clients = [served.http() for _ in range(2)]
        for number, client in enumerate(clients):
            client.send_request(target="/hold")
            client.read_head()
            assert client.read_chunk()
            site.application(number + 2)
            if number == 0:
                served.reload()
            else:
                served.signal(signal.SIGHUP)
        served.signal(signal.SIGTERM)
        gate.release(2)
        assert served.wait_exit() == 0
