"""What systemd sees of a service: readiness, reloads, stops, watchdog, sockets it has opened."""

from __future__ import annotations

import os
import signal
import socket
import time

import pytest

from tests.harness import procs
from tests.harness.http import Client
from tests.harness.server import BOUND, Listener
from tests.harness.service_manager import Listening, activation, environment_of
from tests.harness.waiting import until

APP = (
    "import os\n"
    "def application(environ, start_response):\n"
    "    start_response('200 OK', [])\n"
    "    names = ('NOTIFY_SOCKET', 'WATCHDOG_USEC', 'LISTEN_FDS', 'LISTEN_PID', 'LISTEN_FDNAMES')\n"
    "    found = [name for name in names if name in os.environ or os.getenv(name)]\n"
    "    return [repr(found).encode()]\n"
)


@pytest.fixture
def manager(tmp_path):
    with Listening(tmp_path / "notify") as listening:
        yield listening


class TestNotify:
    @pytest.mark.parametrize("master", ["true", "false"])
    def test_ready_and_stopping(self, manager, fresh, master):
        server = fresh("hello", f"--master={master}", env=manager.env)
        ready = manager.next()
        assert ready["READY"] == "1"
        assert "1 worker" in ready["STATUS"]
        server.signal(signal.SIGTERM)
        assert manager.next()["STOPPING"] == "1"
        assert server.wait_exit() == 0

    def test_an_abstract_address(self, fresh):
        with Listening(f"@greenloom-test-{os.getpid()}") as manager:
            server = fresh("hello", env=manager.env)
            assert manager.next()["READY"] == "1"
            server.signal(signal.SIGTERM)
            assert manager.next()["STOPPING"] == "1"
            assert server.wait_exit() == 0

    def test_a_reload(self, manager, fresh):
        server = fresh("hello", env=manager.env)
        assert "generation 1" in manager.next()["STATUS"]
        before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        server.signal(signal.SIGHUP)
        reloading = manager.next()
        assert reloading["RELOADING"] == "1"
        now = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        assert before <= int(reloading["MONOTONIC_USEC"]) <= now
        ready = manager.next()
        assert ready["READY"] == "1"
        assert "generation 2" in ready["STATUS"]

    def test_a_reload_that_fails_ends_with_ready_too(self, manager, fresh, tmp_path):
        (tmp_path / "changing.py").write_text(APP)
        server = fresh(
            None, "--chdir", str(tmp_path), "-w", "changing", env=manager.env, allow=["(?i)."]
        )
        assert manager.next()["READY"] == "1"
        (tmp_path / "changing.py").write_text("raise ValueError('broken on purpose')\n")
        server.signal(signal.SIGHUP)
        assert manager.next()["RELOADING"] == "1"
        ready = manager.next()
        assert ready["READY"] == "1"
        assert "generation 1 serves on" in ready["STATUS"]

    def test_the_application_is_not_told(self, manager, fresh, tmp_path):
        (tmp_path / "telling.py").write_text(APP)
        env = {**manager.env, "WATCHDOG_USEC": "60000000"}
        for master in ("true", "false"):
            server = fresh(
                None, f"--master={master}", "--chdir", str(tmp_path), "-w", "telling", env=env
            )
            assert server.get("/").body == b"[]"
            if master == "true":
                assert "NOTIFY_SOCKET" not in environment_of(server.worker())
            server.signal(signal.SIGTERM)
            assert server.wait_exit() == 0

    def test_nobody_listens(self, fresh, tmp_path):
        server = fresh(
            "hello", env={"NOTIFY_SOCKET": str(tmp_path / "none")}, allow=["service manager"]
        )
        assert server.get("/").body == b"hello\n"
        # Behind the ready line.
        server.wait_for_log("cannot tell the service manager")
        assert server.count_log("cannot tell the service manager") == 1


class TestWatchdog:
    def test_signs_of_life(self, manager, fresh):
        """More often than it asks for; none while nobody accepts; none for another process."""
        fresh("hello", env={**manager.env, "WATCHDOG_USEC": "400000"})
        while "READY" not in manager.next():
            pass
        started = time.monotonic()
        for _ in range(3):
            assert manager.next() == {"WATCHDOG": "1"}
        assert time.monotonic() - started < 5

    def test_no_worker_accepts(self, manager, fresh, tmp_path):
        dying = tmp_path / "dying"
        source = f"import os\nif os.path.exists({str(dying)!r}): os._exit(1)\n{APP}"
        (tmp_path / "mortal.py").write_text(source)
        server = fresh(
            None, "--chdir", str(tmp_path), "-w", "mortal", "--lazy-apps",
            env={**manager.env, "WATCHDOG_USEC": "200000"}, allow=["(?i)."],
        )  # fmt: skip
        dying.touch()
        os.kill(server.worker(), signal.SIGKILL)
        server.wait_for_log("ended early 2 times")
        manager.socket.settimeout(0)
        while True:  # What was said before.
            try:
                manager.next()
            except BlockingIOError:
                break
        manager.socket.settimeout(1)
        with pytest.raises(TimeoutError):
            manager.next()
        dying.unlink()
        manager.socket.settimeout(20)
        assert manager.next() == {"WATCHDOG": "1"}

    def test_another_process_is_meant(self, manager, fresh):
        env = {**manager.env, "WATCHDOG_USEC": "100000", "WATCHDOG_PID": "1"}
        fresh("hello", env=env)
        assert manager.next()["READY"] == "1"
        manager.socket.settimeout(0.5)
        with pytest.raises(TimeoutError):
            manager.next()


@pytest.fixture
def tcp():
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening


@pytest.fixture
def unix(tmp_path):
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "app.sock"))
        listening.listen()
        yield listening


def port(listening):
    return listening.getsockname()[1]


class TestActivation:
    def test_a_configured_address_is_taken_over(self, fresh, tcp):
        address = f"127.0.0.1:{port(tcp)}"
        server = fresh("hello", http=address, **activation([tcp], ["web.socket"]))
        server.wait_for_log(
            rf"0 inherited TCP address {address} fd 3 \(socket activation, web.socket, http\)"
        )
        with Client(("127.0.0.1", port(tcp))) as client:
            assert client.get("/").body == b"hello\n"
        # Still there when the server has left: its owner never noticed.
        server.listeners = []
        tcp.settimeout(5)
        server.signal(signal.SIGTERM)
        assert server.wait_exit() == 0
        with socket.create_connection(("127.0.0.1", port(tcp)), 5):
            tcp.accept()[0].close()

    def test_a_path_and_an_address_of_our_own(self, fresh, unix, tmp_path):
        path = str(tmp_path / "app.sock")
        server = fresh("hello", "--http-socket", path, **activation([unix]))
        assert len(BOUND.findall(server.log_text())) == 1
        assert server.get("/").body == b"hello\n"
        with Client(path) as client:
            assert client.get("/").body == b"hello\n"
        server.signal(signal.SIGTERM)
        assert server.wait_exit() == 0
        # Whoever made it removes it.
        assert (tmp_path / "app.sock").exists()

    def test_without_options_all_are_served(self, fresh, tcp, unix):
        started = activation([tcp, unix], ["front-http", "app.socket"])
        server = fresh("hello", http=None, probe=False, **started)
        server.listeners = [
            Listener("TCP", tcp.getsockname()),
            Listener("UNIX", unix.getsockname()),
        ]
        server.http_number, server.uwsgi_number = 0, 1
        for number in (signal.SIGHUP, None):
            assert server.get("/").body == b"hello\n"
            assert server.packets().ask().body == b"hello\n"
            if number:
                server.signal(number)
                server.wait_for_log(r"ready \(generation 2")
                until(lambda: len(server.workers()) == 1, "the old worker has left")
        server.listeners = []
        server.baseline = {}

    def test_one_that_no_option_names(self, fresh, tcp):
        server = fresh("hello", **activation([tcp]))
        server.wait_for_log(
            rf"also passed 127.0.0.1:{port(tcp)} \(unknown\), which no option names"
        )
        assert server.get("/").body == b"hello\n"

    def test_sockets_are_passed_on_to_nobody(self, fresh, tcp, tmp_path):
        (tmp_path / "telling.py").write_text(APP)
        server = fresh(
            None, "--chdir", str(tmp_path), "-w", "telling", http=f"127.0.0.1:{port(tcp)}",
            probe=False, **activation([tcp]),
        )  # fmt: skip
        with Client(("127.0.0.1", port(tcp))) as client:
            assert client.get("/").body == b"[]"
        listening = os.readlink(f"/proc/self/fd/{tcp.fileno()}")
        for pid in server.remember():
            found = [fd for fd, what in procs.open_files(pid).items() if what == listening]
            assert len(found) <= 1, f"{pid} has it as {found}"
        server.listeners = []

    def test_one_that_does_not_listen(self, tmp_path, tcp):
        from tests.harness.server import Server

        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
            other.bind(str(tmp_path / "datagrams"))
            server = Server(
                tmp_path / "log", "hello", http=None, probe=False, **activation([other], ["x-http"])
            )
            assert server.wait_exit() == 1
            assert "not a listening socket" in server.log_text()
            assert "x-http" in server.log_text()
