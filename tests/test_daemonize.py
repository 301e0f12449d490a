"""--daemonize: the command returns when the daemon serves, or says that it does not."""

from __future__ import annotations

import os
import re
import signal
import socket
import stat
import subprocess
from pathlib import Path

import pytest

from tests.harness import procs
from tests.harness.http import Client
from tests.harness.server import APPS, READY, command, environment, run
from tests.harness.waiting import until

BOUND = re.compile(r"bound to TCP address 127\.0\.0\.1:(\d+)")


class Daemon:
    """What a daemonized command has left behind."""

    def __init__(self, folder: Path) -> None:
        self.log, self.pidfile = folder / "daemon.log", folder / "daemon.pid"
        self.options = ["--daemonize", str(self.log), "--pidfile", str(self.pidfile)]

    def start(self, *options: str, app: str = "hello", **how) -> subprocess.CompletedProcess:
        """Runs the command to its end."""
        return run(
            "--http-socket", "127.0.0.1:0", "--chdir", str(APPS / app), "-w", "app",
            *self.options, *options, **how,
        )  # fmt: skip

    @property
    def pid(self) -> int:
        return int(self.pidfile.read_text())

    def text(self) -> str:
        return self.log.read_text()

    def get(self) -> bytes:
        port = BOUND.findall(self.text())[-1]
        with Client(("127.0.0.1", int(port))) as client:
            return client.get("/").body

    def stop(self, number: int = signal.SIGTERM) -> None:
        pid = self.pid
        everybody = [pid, *procs.descendants(pid)]
        os.kill(pid, number)
        until(lambda: not any(procs.alive(pid) for pid in everybody), "the daemon has left")


@pytest.fixture
def daemon(tmp_path):
    made = Daemon(tmp_path)
    yield made
    if made.pidfile.exists() and procs.alive(made.pid):
        made.stop(signal.SIGQUIT)


@pytest.mark.parametrize("master", ["true", "false"])
class TestStart:
    def test_it_serves_when_the_command_returns(self, daemon, master):
        outcome = daemon.start(f"--master={master}")
        assert (outcome.returncode, outcome.stdout, outcome.stderr) == (0, "", "")
        assert READY.search(daemon.text())
        assert daemon.get() == b"hello\n"
        daemon.stop()
        assert daemon.text().endswith("goodbye to greenloom.\n")
        assert not daemon.pidfile.exists()

    def test_it_has_no_terminal_and_its_own_session(self, daemon, master):
        assert daemon.start(f"--master={master}").returncode == 0
        fields = procs.stat(daemon.pid)
        session, terminal = int(fields[3]), int(fields[4])
        assert terminal == 0
        # Not its leader: it can never get a terminal again.
        assert session not in (daemon.pid, os.getsid(0))
        assert not procs.alive(session)
        files = procs.open_files(daemon.pid)
        assert [files[0], files[1], files[2]] == ["/dev/null", str(daemon.log), str(daemon.log)]

    def test_an_application_that_does_not_load(self, daemon, master):
        outcome = daemon.start(f"--master={master}", app="broken")
        assert outcome.returncode == 22
        assert "exit code 22" in outcome.stderr
        assert str(daemon.log) in outcome.stderr
        assert "broken on purpose" in daemon.text()
        assert not daemon.pidfile.exists()

    def test_a_taken_port(self, daemon, master):
        with socket.create_server(("127.0.0.1", 0)) as other:
            address = f"127.0.0.1:{other.getsockname()[1]}"
            outcome = daemon.start(f"--master={master}", "--http-socket", address)
        assert outcome.returncode == 1
        assert str(daemon.log) in outcome.stderr
        assert "another instance" in daemon.text()

    def test_killed_while_it_starts(self, daemon, master, tmp_path):
        victim = "os.getppid()" if master == "true" else "os.getpid()"
        (tmp_path / "deadly.py").write_text(f"import os\nos.kill({victim}, 9)\n")
        outcome = run(
            "--http-socket", "127.0.0.1:0", "--chdir", str(tmp_path), "-w", "deadly",
            f"--master={master}", *daemon.options,
        )  # fmt: skip
        assert outcome.returncode == 1
        assert "died while it started" in outcome.stderr


def test_a_log_that_cannot_be_written(tmp_path):
    outcome = run(
        "--http-socket", "127.0.0.1:0", "-w", "x", "--daemonize", str(tmp_path / "no" / "x.log")
    )
    assert outcome.returncode == 1
    assert "no/x.log" in outcome.stderr


def test_a_configuration_that_is_refused(tmp_path):
    log = tmp_path / "x.log"
    outcome = run("--daemonize", str(log), "--no-such-option")
    assert outcome.returncode == 1
    assert "no-such-option" in outcome.stderr
    assert not log.exists()


def test_the_directory_stays(daemon, tmp_path):
    """Relative paths go on to mean what they meant."""
    assert daemon.start("--http-socket", "relative.sock", cwd=tmp_path).returncode == 0
    assert stat.S_ISSOCK((APPS / "hello" / "relative.sock").stat().st_mode)
    assert Path(os.readlink(f"/proc/{daemon.pid}/cwd")) == tmp_path
    daemon.stop()
    assert not (APPS / "hello" / "relative.sock").exists()


def test_reload_and_log(daemon):
    """The pid stays; the daemon's output is the log that is opened anew."""
    assert daemon.start().returncode == 0
    pid = daemon.pid
    os.kill(pid, signal.SIGHUP)
    until(lambda: "is ready (generation 2" in daemon.text(), "the reload")
    assert daemon.pid == pid
    old = daemon.log.with_suffix(".1")
    daemon.log.rename(old)
    os.kill(pid, signal.SIGUSR1)
    until(daemon.log.exists, "a new log")
    daemon.stop()
    assert daemon.text().endswith("goodbye to greenloom.\n")


def test_an_interrupt_ends_the_waiting_alone(daemon, gate, tmp_path):
    """Ctrl-C at the terminal: the command leaves, the daemon goes on to start."""
    (tmp_path / "slow.py").write_text(
        f"open({str(gate.path)!r}, 'rb', buffering=0).read(1)\n"
        "def application(e, s):\n    s('200 OK', [])\n    return [b'at last']\n"
    )
    arguments = [
        *command(), "--http-socket", "127.0.0.1:0", "--chdir", str(tmp_path), "-w", "slow",
        *daemon.options,
    ]  # fmt: skip
    waiting = subprocess.Popen(
        arguments, env=environment(), stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        until(
            lambda: daemon.log.exists() and "spawned greenloom generation" in daemon.text(),
            "the application loads",
        )
        waiting.send_signal(signal.SIGINT)
        assert waiting.wait(20) == -signal.SIGINT
    finally:
        waiting.kill()
        waiting.wait()
    gate.release()
    until(lambda: READY.search(daemon.text()), "the ready line")
    assert daemon.get() == b"at last"
