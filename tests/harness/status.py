"""The side doors of a server: statistics, metrics and commands, as clients find them."""

from __future__ import annotations

import json
import re
import socket
import subprocess
from pathlib import Path

from tests.harness.http import Client, Response
from tests.harness.server import START_DEADLINE_S, Server, command, environment

STATS = r"\*\*\* Stats server enabled on (\S+) \*\*\*"
METRICS = r"\*\*\* metrics, /healthz and /readyz on (\S+) \*\*\*"


def address(server: Server, pattern: str) -> tuple[str, int] | str:
    """Where the log says that the door is: the last one, after an upgrade."""
    text = re.findall(pattern, server.log_path.read_text(errors="replace"))[-1]
    host, _, port = text.rpartition(":")
    return (host, int(port)) if host and not text.startswith(("/", "@")) else text


def connect(where: tuple[str, int] | str) -> socket.socket:
    if isinstance(where, tuple):
        return socket.create_connection(where, timeout=10)
    door = socket.socket(socket.AF_UNIX)
    # With a time limit a full queue would be an error instead of a wait.
    door.connect("\0" + where[1:] if where.startswith("@") else where)
    door.settimeout(10)
    return door


def read_all(where: tuple[str, int] | str) -> bytes:
    """What is sent to somebody who says nothing."""
    with connect(where) as door:
        return b"".join(iter(lambda: door.recv(65536), b""))


def stats(server: Server) -> dict:
    """The statistics document."""
    return json.loads(read_all(address(server, STATS)))


def busy_cores(server: Server) -> list[dict]:
    """The cores that run a request, of all workers."""
    return [c for w in stats(server)["workers"] for c in w["cores"] if c["in_request"]]


def ask_http(server: Server, target: str, *headers: tuple[str, str]) -> Response:
    """One request to the door of metrics."""
    with Client(address(server, METRICS)) as client:
        return client.request("GET", target, headers)


def ctl(
    path: Path | str, *words: str, deadline_s: float = START_DEADLINE_S
) -> subprocess.CompletedProcess[str]:
    """`greenloom ctl`, run to its end."""
    return subprocess.run(
        [*command(), "ctl", "--socket", str(path), *words],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=deadline_s,
        check=False,
    )


def status(path: Path | str) -> dict:
    """How things stand, as `greenloom ctl status --json` says."""
    return json.loads(ctl(path, "status", "--json").stdout)
