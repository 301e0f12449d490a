"""What a service manager does for its services: hears what they say, opens their sockets."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from tests.harness.waiting import DEADLINE_S

LAUNCHER = """
import os, sys
names, sockets, program = sys.argv[1], sys.argv[2].split(","), sys.argv[3:]
moved = [os.dup2(int(fd), 100 + n) for n, fd in enumerate(sockets)]
for n, fd in enumerate(moved):
    os.dup2(fd, 3 + n)
os.closerange(3 + len(sockets), 1000)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(sockets)))
if names:
    os.environ["LISTEN_FDNAMES"] = names
os.execvp(program[0], program)
"""


class Listening:
    """A bound notify socket; pass `env=manager.env` to the server."""

    def __init__(self, address: Path | str) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.settimeout(DEADLINE_S)
        name = str(address)
        self.socket.bind("\0" + name[1:] if name.startswith("@") else name)
        self.env = {"NOTIFY_SOCKET": name}

    def next(self) -> dict[str, str]:
        """The next message."""
        lines = self.socket.recv(4096).decode().split("\n")
        return dict(line.split("=", 1) for line in lines)

    def next_but_watchdog(self) -> dict[str, str]:
        """The next message that is more than a sign of life."""
        while True:
            found = self.next()
            if found != {"WATCHDOG": "1"}:
                return found

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()


def activation(sockets: Sequence[socket.socket], names: Sequence[str] = ()) -> dict[str, object]:
    """What `Server` needs to start as a service does whose sockets are open already."""
    fds = [s.fileno() for s in sockets]
    return {
        "prefix": [sys.executable, "-c", LAUNCHER, ":".join(names), ",".join(map(str, fds))],
        "pass_fds": fds,
    }


def environment_of(pid: int) -> dict[str, str]:
    """The environment a process was started with."""
    text = Path(f"/proc/{pid}/environ").read_bytes()
    pairs = (entry.split("=", 1) for entry in os.fsdecode(text).split("\0") if "=" in entry)
    return dict(pairs)
