"""Redis in a folder of its own: reached through a UNIX socket there, gone after the tests."""

from __future__ import annotations

import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

from tests.harness.waiting import until

STOP_DEADLINE_S = 30.0


def program() -> str | None:
    """The server. Debian has it in redis-tools, too, which brings no service: one binary, which is
    the server if it is called by that name, and a checker of files by this one.
    """
    return shutil.which("redis-server") or shutil.which("redis-check-rdb")


class Redis:
    """One server."""

    def __init__(self, program: str) -> None:
        self.program = program
        # A short path, for the socket.
        self.folder = Path(tempfile.mkdtemp(prefix="greenloom-redis-"))
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def env(self) -> dict[str, str]:
        """Tells an application where it is."""
        return {"REDIS_SOCKET": str(self.folder / "socket")}

    def start(self) -> None:
        options = ["--port", "0", "--unixsocket", "socket", "--save", "", "--appendonly", "no"]
        log = self.folder / "log"
        with log.open("wb") as out:
            self.process = subprocess.Popen(
                ["redis-server", *options],
                executable=self.program,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

        def ready() -> bool:
            assert self.process is not None
            assert self.process.poll() is None, log.read_text()
            return b"eady to accept connections" in log.read_bytes()

        until(ready, "Redis accepts connections")

    def stop(self) -> None:
        try:
            if self.process is not None:
                self.process.send_signal(signal.SIGTERM)
                assert self.process.wait(STOP_DEADLINE_S) == 0, (self.folder / "log").read_text()
        finally:
            if self.process is not None and self.process.poll() is None:
                self.process.kill()
                self.process.wait()
            shutil.rmtree(self.folder)
