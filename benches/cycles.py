"""Start and stop the server very often, and see that each cycle leaves with 0 and nothing behind.

A cycle uses all that an instance makes: a TCP and a UNIX listener, pid file, fifo, shared memory,
master, generation and two workers; it answers a request, sometimes reloads, and is told to stop
in one of several ways. What is looked for afterwards: files, sockets, shared memory, processes.

    make cycles
    .venv/bin/python benches/cycles.py [--cycles 1000] [--seed 1]
"""

from __future__ import annotations

import argparse
import ctypes
import os
import random
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
APP = ROOT / "tests" / "apps" / "hello"
BOUND = re.compile(r"bound to TCP address 127\.0\.0\.1:(\d+)")
PR_SET_CHILD_SUBREAPER = 36
DEADLINE_S = 60.0
STOPS = ("TERM", "INT", "QUIT", "fifo", "early", "none ready")


def wait(condition: Callable[[], object], what: str) -> object:
    """Poll until the condition gives something true."""
    end = time.monotonic() + DEADLINE_S
    while not (found := condition()):
        if time.monotonic() > end:
            raise AssertionError(f"not in time: {what}")
        time.sleep(0.002)
    return found


def children() -> list[int]:
    """Processes below this one: orphans become its own."""
    return [
        int(pid)
        for task in Path("/proc/self/task").iterdir()
        for pid in (task / "children").read_text().split()
    ]


def world(folder: Path) -> dict[str, set[str]]:
    """What a server could leave behind."""
    unix = Path("/proc/net/unix").read_text().splitlines()
    listening = Path("/proc/net/tcp").read_text().splitlines()
    return {
        "files": {str(path) for path in folder.iterdir() if path.name != "log"},
        "shared memory": {name for name in os.listdir("/dev/shm") if "greenloom" in name},
        "unix sockets": {line.split()[-1] for line in unix if str(folder) in line},
        "listeners": {
            line.split()[1] for line in listening if line.split()[3] == "0A" and OURS in line
        },
    }


OURS = "\0"
"""Replaced by the address of the cycle at hand, as /proc/net/tcp writes it."""


def ask(port: int) -> None:
    """One request, answered."""
    with socket.create_connection(("127.0.0.1", port), DEADLINE_S) as client:
        client.sendall(b"GET / HTTP/1.0\r\n\r\n")
        answer = b""
        while part := client.recv(4096):
            answer += part
    assert answer.endswith(b"\r\n\r\nhello\n"), answer


def cycle(folder: Path, stop: str, chance: random.Random) -> None:
    """Start, serve, stop."""
    global OURS
    log, fifo = folder / "log", folder / "fifo"
    with log.open("wb") as out:
        server = subprocess.Popen(
            [
                sys.executable, "-m", "greenloom", "--http-socket", "127.0.0.1:0",
                "--http-socket", str(folder / "sock"), "--pidfile", str(folder / "pid"),
                "--master-fifo", str(fifo), "--processes", "2", "--chdir", str(APP), "-w", "app",
            ],
            stderr=out,
        )  # fmt: skip
    ready = "greenloom is ready (generation 1"
    try:
        if stop == "early":
            # At any moment while the instance is being set up.
            wait(lambda: "Starting greenloom" in log.read_text(), "the first line")
            time.sleep(chance.random() * 0.15)
            wait(lambda: "bound to TCP" in log.read_text(), "the listener")
        elif stop == "none ready":
            wait(lambda: "spawned greenloom generation" in log.read_text(), "the generation")
        else:
            wait(lambda: ready in log.read_text(), "the ready line")
            port = int(BOUND.findall(log.read_text())[0])
            OURS = f"0100007F:{port:04X}"
            ask(port)
            if chance.random() < 0.2:
                server.send_signal(signal.SIGHUP)
                wait(lambda: "is ready (generation 2" in log.read_text(), "the reload")
                ask(port)
        if stop == "fifo":
            fifo.write_text("q")
        else:
            number = getattr(signal, f"SIG{stop}", signal.SIGTERM)
            server.send_signal(number)
        code = server.wait(DEADLINE_S)
        assert code == 0, f"exit code {code}"
        assert not children(), f"processes left: {children()}"
        left = {kind: found for kind, found in world(folder).items() if found}
        assert not left, f"left behind: {left}"
        assert log.read_text().endswith("goodbye to greenloom.\n")
    except BaseException:
        print(f"--- a cycle that ended by {stop}\n{log.read_text()}", file=sys.stderr)
        raise
    finally:
        if server.poll() is None:
            server.kill()
            server.wait()


def main() -> None:
    """Run the cycles; fails with the first one that leaves something."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cycles", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    chance = random.Random(arguments.seed)
    descriptors = len(os.listdir("/proc/self/fd"))
    ways: Counter[str] = Counter()
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="greenloom-cycles-") as folder:
        for number in range(arguments.cycles):
            stop = STOPS[number % len(STOPS)]
            cycle(Path(folder), stop, chance)
            ways[stop] += 1
    assert len(os.listdir("/proc/self/fd")) == descriptors
    took = time.monotonic() - started
    print(
        f"{arguments.cycles} cycles in {took:.0f} s ({took / arguments.cycles * 1000:.0f} ms each)"
    )
    print(f"stopped by: {', '.join(f'{way} {count}' for way, count in ways.items())}")
    print("all left with 0, and nothing behind: no process, file, socket or shared memory")


if __name__ == "__main__":
    main()
