"""The load generators, wrk and ab: how they are run, and what their reports say."""

from __future__ import annotations

import os
import re
import resource
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from children import bound_to
from servers import SERVER_CPU

CLIENT_CPU = 1
CLIENTS = 64
GRACE_S = 30

# Each program with the Debian package that has it.
TOOLS = {"wrk": "wrk", "ab": "apache2-utils"}

# ab stops at whatever comes first, the time or this many requests: more than it can do.
_MOST_REQUESTS = 2_000_000


@dataclass(frozen=True)
class Report:
    """What a load generator saw; ``errors`` counts answers that failed in any way."""

    requests: int
    requests_per_s: float
    p50_ms: float
    p99_ms: float
    errors: int


def become_the_client() -> None:
    """Keep this process, whose own connections are the load, off the server's CPU."""
    if not {SERVER_CPU, CLIENT_CPU} <= os.sched_getaffinity(0):
        sys.exit(f"CPUs {SERVER_CPU} and {CLIENT_CPU} are needed: one each for server and clients")
    # Servers inherit it: each idle connection is a descriptor on both sides.
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    os.sched_setaffinity(0, {CLIENT_CPU})


def describe_tools() -> list[str]:
    """Name version and use of each load generator."""
    wrk = _run(["wrk", "-v"], 0).splitlines()[0].split(" [")[0]
    ab = _run(["ab", "-V"], 0).splitlines()[0].removeprefix("This is ").split(" <")[0]
    return [
        f"keep-alive: {wrk}, HTTP/1.1; headers: Host",
        f"new connections: {ab}, HTTP/1.0;",
        "headers: Connection: close, Host, User-Agent, Accept",
    ]


def load_keep_alive(url: str, seconds: int, clients: int = CLIENTS) -> Report:
    """Ask over and over on the same connections."""
    command = ["wrk", "-t1", f"-c{clients}", f"-d{seconds}s", "--latency", "--timeout", "5s", url]
    output = _run(command, seconds)
    sockets = r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)"
    errors = [int(count) for found in re.findall(sockets, output) for count in found]
    errors += [int(count) for count in re.findall(r"Non-2xx or 3xx responses: (\d+)", output)]
    return Report(
        requests=_requests(r"(\d+) requests in", output),
        requests_per_s=float(_find(r"Requests/sec:\s+([\d.]+)", output)),
        p50_ms=_milliseconds(_find(r"(?m)^\s+50%\s+(\S+)", output)),
        p99_ms=_milliseconds(_find(r"(?m)^\s+99%\s+(\S+)", output)),
        errors=sum(errors),
    )


def load_new_connections(
    url: str, seconds: int, clients: int = CLIENTS, most: int = _MOST_REQUESTS
) -> Report:
    """Ask once on each connection and wait until the server closes it; ``most`` times at most."""
    with tempfile.TemporaryDirectory() as folder:
        percentiles = Path(folder) / "percentiles.csv"
        command = ["ab", "-q", "-t", str(seconds), "-n", str(most), "-c", str(clients)]
        command += ["-s", "5", "-H", "Connection: close", "-e", str(percentiles), url]
        output = _run(command, seconds)
        rows = [line.split(",") for line in percentiles.read_text().splitlines()[1:]]
    at = {int(percent): float(milliseconds) for percent, milliseconds in rows}
    wrong = re.findall(r"(?:Failed requests|Non-2xx responses|Write errors):\s+(\d+)", output)
    return Report(
        requests=_requests(r"Complete requests:\s+(\d+)", output),
        requests_per_s=float(_find(r"Requests per second:\s+([\d.]+)", output)),
        p50_ms=at[50],
        p99_ms=at[99],
        errors=sum(int(count) for count in wrong),
    )


def _run(command: list[str], seconds: int) -> str:
    done = subprocess.run(
        command,
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=seconds + GRACE_S,
        preexec_fn=bound_to(CLIENT_CPU),
    )
    # wrk -v prints its version and fails.
    if done.returncode != 0 and command != ["wrk", "-v"]:
        raise RuntimeError(f"{' '.join(command)}: exit code {done.returncode}\n{done.stdout}")
    return done.stdout


def _requests(pattern: str, output: str) -> int:
    requests = int(_find(pattern, output))
    if requests == 0:
        raise RuntimeError(f"no request was answered:\n{output}")
    return requests


def _find(pattern: str, text: str) -> str:
    match = re.search(pattern, text)
    if match is None:
        raise RuntimeError(f"nothing like {pattern!r} in the report:\n{text}")
    return match[1]


def _milliseconds(text: str) -> float:
    """Read wrk's durations: 12.00us, 1.20ms, 1.05s."""
    for unit, factor in (("us", 1e-3), ("ms", 1.0), ("s", 1e3), ("m", 6e4)):
        if text.endswith(unit):
            return float(text.removesuffix(unit)) * factor
    raise ValueError(f"not a duration: {text!r}")
