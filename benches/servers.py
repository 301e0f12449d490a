"""The servers that are compared: how each is started, pinned, watched and stopped."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from children import bound_to

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
HOST = "127.0.0.1"
SERVER_CPU = 0
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
START_DEADLINE_S = 20.0
STOP_DEADLINE_S = 5.0


@dataclass(frozen=True)
class Kind:
    """One server with its settings; ``keeps_alive``: it must hold a connection open for more."""

    name: str
    command: Callable[[str], list[str]]
    keeps_alive: bool


def peer(program: str, venv: str = ".venv") -> str:
    """Where a program of benches/requirements.txt is."""
    return str(HERE / venv / "bin" / program)


def greenloom(
    app: str, *more: str, interface: str = "-w", log: Path | None = None
) -> Callable[[str], list[str]]:
    """Make greenloom's command for an application in benches/served; WSGI unless it is said."""
    venv = ROOT / os.environ.get("VENV", ".venv")

    def command(port: str) -> list[str]:
        return [
            *(str(venv / "bin" / "greenloom"), "--http-socket", f"{HOST}:{port}", interface, app),
            *(*_logging(log), "--master=false", *more),
        ]

    return command


def plain(*more: str, log: Path | None = None) -> Callable[[str], list[str]]:
    """Make the command of the executable without an interpreter: files and scripts alone."""
    executable = ROOT / "target" / "release" / "greenloom"

    def command(port: str) -> list[str]:
        return [
            *(str(executable), "--http-socket", f"{HOST}:{port}"),
            *(*_logging(log), "--master=false", *more),
        ]

    return command


def uwsgi(app: str, *more: str, log: Path | None = None) -> Callable[[str], list[str]]:
    """Make uWSGI's command for an application in benches/served."""

    def command(port: str) -> list[str]:
        return [
            *(peer("uwsgi"), "--http-socket", f"{HOST}:{port}", "--module", app),
            *("--need-app", "--processes", "1", "--listen", "1024", *_logging(log)),
            *("--die-on-term", *more),
        ]

    return command


def _logging(log: Path | None) -> list[str]:
    """Where request lines go, if anywhere: two options that uWSGI has, too."""
    return ["--disable-logging"] if log is None else ["--logto", str(log)]


def _python(code: str) -> Callable[[str], list[str]]:
    return lambda port: [peer("python"), "-c", code.format(host=HOST, port=port)]


BJOERN = Kind(
    "bjoern",
    _python("import app, bjoern; bjoern.run(app.application, '{host}', {port})"),
    keeps_alive=True,
)

KINDS = [
    Kind("greenloom", greenloom("app:application", "--async", "10"), keeps_alive=True),
    BJOERN,
    Kind(
        "fastwsgi",
        _python("import app, fastwsgi; fastwsgi.run(app.application, '{host}', {port}, 0)"),
        keeps_alive=True,
    ),
    Kind("uwsgi", uwsgi("app:application"), keeps_alive=False),
    Kind("uwsgi-async", uwsgi("app:application", "--async", "100"), keeps_alive=False),
    Kind("uwsgi-ugreen", uwsgi("app:application", "--async", "100", "--ugreen"), keeps_alive=False),
]


@dataclass
class Server:
    """A running server on CPU ``cpu``; leaving the ``with`` block ends it by its pid."""

    kind: Kind
    cpu: int
    port: int = 0
    process: subprocess.Popen[bytes] | None = None
    _log: IO[bytes] | None = field(default=None, repr=False)

    def __enter__(self) -> Server:
        """Start it and wait until it accepts connections."""
        self.port = _free_port()
        self._log = tempfile.TemporaryFile()
        self.process = subprocess.Popen(
            self.kind.command(str(self.port)),
            cwd=HERE / "served",
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            preexec_fn=bound_to(self.cpu),
        )
        deadline = time.monotonic() + START_DEADLINE_S
        while not _accepts(self.port):
            if self.process.poll() is not None or time.monotonic() > deadline:
                reason = f"{self.kind.name} did not start:\n{self.log_text()}"
                self.__exit__()
                raise RuntimeError(reason)
            time.sleep(0.02)
        return self

    def __exit__(self, *_: object) -> None:
        """End it: politely, then for certain."""
        if self.process is not None:
            family = self._family()
            self.process.terminate()
            try:
                self.process.wait(STOP_DEADLINE_S)
            except subprocess.TimeoutExpired:
                for pid in family:
                    _kill(pid)
                self.process.wait()
        if self._log is not None:
            self._log.close()

    def cpu_seconds(self, *, reaped: bool = False) -> float:
        """User and system time of the server and all its descendants until now.

        With ``reaped``, of those that have ended and were waited for, too.
        """
        ticks = 0
        for pid in self._family():
            fields = _stat_fields(pid)
            ticks += sum(int(field) for field in fields[11 : 15 if reaped else 13])
        return ticks / TICKS_PER_SECOND

    def resident_kib(self) -> int:
        """Memory of the server and all its descendants that is resident now."""
        total = 0
        for pid in self._family():
            with contextlib.suppress(OSError):
                status = Path(f"/proc/{pid}/status").read_text()
                total += int(status.partition("VmRSS:")[2].split()[0])
        return total

    def forget_peak(self) -> int:
        """Let :meth:`peak_kib` begin anew; the memory that is resident now."""
        assert self.process is not None
        Path(f"/proc/{self.process.pid}/clear_refs").write_text("5")
        return self.peak_kib()

    def peak_kib(self) -> int:
        """The most memory of the server's own process that was resident at one time."""
        assert self.process is not None
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0])

    def _family(self) -> list[int]:
        """The pids of the server and its descendants."""
        family = [self.process.pid] if self.process is not None else []
        for pid in family:
            for task in Path(f"/proc/{pid}/task").glob("*/children"):
                try:
                    family += [int(child) for child in task.read_text().split()]
                except OSError:
                    continue
        return family

    def log_text(self) -> str:
        """The last that it has said."""
        if self._log is None:
            return ""
        self._log.seek(0)
        return self._log.read()[-4000:].decode(errors="replace")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return probe.getsockname()[1]


def _accepts(port: int) -> bool:
    try:
        socket.create_connection((HOST, port), timeout=1).close()
    except OSError:
        return False
    return True


def _stat_fields(pid: int) -> list[str]:
    """The fields of /proc/PID/stat after the name, from the state on; empty when it has gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return
