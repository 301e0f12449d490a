"""Scripts for tests: what they do stands in the test, and they take notes of their lives."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from tests.harness import procs
from tests.harness.http import Client, Response
from tests.harness.server import APPS, ROOT, Server
from tests.harness.waiting import until

FOLDER = APPS / "cgi"
MOUNT = ("--cgi", f"/cgi-bin={FOLDER}")
"""Beside an application, too, these are for scripts."""

PLAIN = ROOT / "target" / "release" / "greenloom"
"""The executable without an interpreter; GREENLOOM_PLAIN names another one."""

WAKER = "anon_inode:[eventfd]"

HEAD = r"printf 'Content-Type: text/plain\n\n'; "
"""What most scripts begin with."""


def plain() -> list[str]:
    """The command of the executable without an interpreter."""
    found = Path(os.environ.get("GREENLOOM_PLAIN", PLAIN))
    assert found.exists(), (
        f"no {found}: cargo build --release -p greenloom-cli --bin greenloom, or GREENLOOM_PLAIN"
    )
    return [str(found)]


def send(
    client: Client, code: str, method: str = "GET", path: str = "/cgi-bin/do", headers=(), body=None
) -> None:
    """Asks for a script that does what `code` says."""
    client.send_request(method, path, [("X-Do", code), *headers], body)


def do(
    where: Server | Client,
    code: str,
    method: str = "GET",
    path: str = "/cgi-bin/do",
    headers=(),
    body: bytes | None = None,
) -> Response:
    """The answer of a script that does what `code` says, on a connection of its own or on one."""
    return where.request(method, path, [("X-Do", code), *headers], body)


def says(where: Server | Client, output: str, **how) -> Response:
    r"""The answer of a script that writes `output` (`\n` and `\r` as in C)."""
    return do(where, f"printf '%b' '{output}'", **how)


def begin(server: Server, code: str, **how) -> Client:
    """A request whose script runs for a while."""
    client = server.http()
    send(client, code, **how)
    return client


def write(path: Path, text: str, mode: int = 0o755) -> Path:
    """A script of the test's own."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)
    return path


class Notes:
    """A file that scripts write lines to: `echo start $$ >>$NOTES`.

    Processes that are noted as `pid N` have to be gone in the end.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        path.touch()

    @property
    def options(self) -> tuple[str, str]:
        return ("--cgi-env", f"NOTES={self.path}")

    def lines(self) -> list[str]:
        """Those that are complete."""
        return self.path.read_text().split("\n")[:-1]

    def wait(self, count: int) -> list[str]:
        until(lambda: len(self.lines()) >= count, f"{count} notes", 30)
        return self.lines()

    def wait_for(self, line: str) -> None:
        until(lambda: line in self.lines(), f"the note {line!r}", 30)

    def pids(self) -> list[int]:
        return [int(line.split()[1]) for line in self.lines() if line.startswith("pid ")]

    def alive(self) -> list[int]:
        return [pid for pid in self.pids() if procs.alive(pid)]

    def wait_gone(self, what: str = "no process of a script is left") -> None:
        until(lambda: not self.alive(), what, 20)

    def end_all(self) -> None:
        """Ends those that are meant to outlive everything."""
        for pid in self.alive():
            os.kill(pid, signal.SIGKILL)


def adopt_helpers(server: Server) -> None:
    """What a worker may have more than after its start, and nothing else.

    The eventfd with which helper threads wake the loop, and the directories files are sent from.
    """
    for pid, before in server.baseline.items():
        adopted = {what for fd, what in before.items() if fd < 0}
        for fd, what in procs.open_files(pid).items():
            is_root = any(option.endswith(f"={what}") for option in server.options)
            if fd not in before and what not in adopted and (what == WAKER or is_root):
                before[-fd] = what
                adopted.add(what)
