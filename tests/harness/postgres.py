"""PostgreSQL in a folder of its own: reached through a UNIX socket there, gone after the tests."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

from tests.harness.waiting import until

DEBIAN = Path("/usr/lib/postgresql")
START_DEADLINE_S = 30.0
STOP_DEADLINE_S = 30.0


def programs() -> Path | None:
    """The folder of `initdb` and `postgres`: on the PATH, or the newest of Debian's."""
    on_path = shutil.which("initdb")
    if on_path is not None:
        return Path(on_path).resolve().parent
    found = DEBIAN.glob("*/bin/initdb")
    return max((path.parent for path in found), key=lambda bin: int(bin.parent.name), default=None)


class Postgres:
    """One server. It refuses to run as root, so then it runs as somebody who may do nothing."""

    def __init__(self, programs: Path) -> None:
        self.programs = programs
        # Not below pytest's folder, which no other account may enter; and a short path for sockets.
        self.folder = Path(tempfile.mkdtemp(prefix="greenloom-postgres-"))
        self.account: dict[str, object] = {}
        if os.geteuid() == 0:
            nobody = pwd.getpwnam("nobody")
            os.chown(self.folder, nobody.pw_uid, nobody.pw_gid)
            self.account = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def env(self) -> dict[str, str]:
        """What leads libpq here."""
        return {"PGHOST": str(self.folder), "PGUSER": "greenloom", "PGDATABASE": "postgres"}

    def start(self) -> None:
        data = self.folder / "data"
        options = "--username=greenloom --auth=trust --no-locale --encoding=UTF8 --no-sync"
        made = subprocess.run(
            [self.programs / "initdb", "-D", data, *options.split()],
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            **self.account,
        )
        assert made.returncode == 0, f"initdb: {made.stdout}{made.stderr}"
        log = self.folder / "log"
        options = "-c listen_addresses= -c fsync=off -c autovacuum=off"
        with log.open("wb") as out:
            self.process = subprocess.Popen(
                [self.programs / "postgres", "-D", data, "-k", self.folder, *options.split()],
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                **self.account,
            )

        def ready() -> bool:
            assert self.process is not None
            assert self.process.poll() is None, log.read_text()
            return b"ready to accept connections" in log.read_bytes()

        until(ready, "PostgreSQL accepts connections", START_DEADLINE_S)

    def stop(self) -> None:
        """Ends all of its processes, then removes the folder."""
        try:
            if self.process is not None:
                self.process.send_signal(signal.SIGINT)  # Its "fast" mode: sessions are ended.
                assert self.process.wait(STOP_DEADLINE_S) == 0, (self.folder / "log").read_text()
        finally:
            if self.process is not None and self.process.poll() is None:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait()
            shutil.rmtree(self.folder)
