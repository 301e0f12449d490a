"""Measure what waiting costs: cores that give way, requests asleep, clients that are slow or idle.

Each figure of SPECIFICATION.md that is about latency, rate, or memory under such a load is measured
here, greenloom alone, one worker process on CPU 0, clients on CPU 1. Latency is that of a hello
asked over and over on one connection, before the load and under it.

    make bench-waiting
    .venv/bin/python benches/waiting.py [--seconds 5] [--connections 10000] [--strict]
"""

from __future__ import annotations

import argparse
import contextlib
import socket
import statistics
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from clients import (
    HELLO,
    connected,
    latencies,
    open_one,
    read_hello,
    say_latencies,
    still_open,
)
from load import become_the_client, load_keep_alive
from servers import HOST, SERVER_CPU, Kind, Server, greenloom
from verdicts import Verdicts

SLOW_CLIENTS = 500
HEAD_LIMIT_S = 10
BODY_LIMIT_S = 5
POST_BUFFERING = 65_536


def main() -> int:
    """Measure everything; 1 when a limit is broken and ``--strict`` asks for it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=int, default=5, help="per latency or rate (default 5)")
    parser.add_argument("--connections", type=int, default=10_000, help="idle ones (default 10000)")
    parser.add_argument("--strict", action="store_true", help="exit 1 when a limit is broken")
    args = parser.parse_args()
    become_the_client()

    verdicts = Verdicts()
    beside_busy_cores(verdicts, args.seconds)
    asleep(verdicts, args.seconds)
    half_heads(verdicts, args.seconds)
    for size, where in ((POST_BUFFERING // 2, "in memory"), (POST_BUFFERING * 4, "spooled")):
        dripped_bodies(verdicts, args.seconds, size, where)
    idle(verdicts, args.seconds, args.connections)
    first_bytes(verdicts)
    departures(verdicts)
    return 1 if verdicts.broken and args.strict else 0


def beside_busy_cores(verdicts: Verdicts, seconds: int) -> None:
    """Ten requests that compute and yield, and one core more for the hello beside them."""
    print(f"10 requests of 10,000 yields at a time, --async 11, {seconds} s")
    with started("--async", "11") as server, ThreadPoolExecutor(1) as pool:
        quiet = latencies(server, seconds)
        url = f"http://{HOST}:{server.port}/cpubound"
        busy = pool.submit(load_keep_alive, url, seconds + 1, clients=10)
        under_load = latencies(server, seconds)
        report = busy.result()
    say_latencies(verdicts, quiet, under_load, p50_limit_ms=1.0)
    verdicts.say("such requests per second", f"{report.requests_per_s:,.0f}")


def asleep(verdicts: Verdicts, seconds: int) -> None:
    """A hundred requests that sleep 50 ms, over and over."""
    print(f"100 requests asleep for 50 ms at a time, --async 100, {seconds} s")
    with started("--async", "100") as server:
        report = load_keep_alive(f"http://{HOST}:{server.port}/sleep", seconds, clients=100)
    share = report.requests_per_s / (100 / 0.05)
    verdicts.say("of the ideal 2,000 per second", f"{share:.1%}", ">= 85%", kept=share >= 0.85)


def half_heads(verdicts: Verdicts, seconds: int) -> None:
    """Clients that send half a head and no more."""
    print(f"{SLOW_CLIENTS} connections with half a head, --async 10")
    with started("--async", "10") as server:
        quiet = latencies(server, seconds)
        begun = time.monotonic()
        with connected(server, SLOW_CLIENTS, b"GET /hello HTTP/1.1\r\nHost: be") as slow:
            under_load = latencies(server, seconds)
            say_latencies(verdicts, quiet, under_load)
            left = still_open(slow, begun + HEAD_LIMIT_S + 3)
    verdicts.say("left 3 s after their time is up", f"{left}", "0", kept=left == 0)


def dripped_bodies(verdicts: Verdicts, seconds: int, size: int, where: str) -> None:
    """Clients that send a byte of their body now and then, all but the last byte."""
    print(f"{SLOW_CLIENTS} connections that drip a body ({where}), --async 10")
    head = b"POST /read HTTP/1.1\r\nHost: bench\r\nContent-Length: %d\r\n\r\n" % size
    start = head + b"x" * (size * 9 // 10)
    # So that what was sent in one go earns no long patience: every second needs 1 MB.
    limits = ("--body-timeout", str(BODY_LIMIT_S), "--body-min-rate", "1000000")
    with started("--async", "10", "--post-buffering", str(POST_BUFFERING), *limits) as server:
        quiet = latencies(server, seconds)
        begun = time.monotonic()
        with connected(server, SLOW_CLIENTS, start) as slow, dripping(slow):
            say_latencies(verdicts, quiet, latencies(server, min(seconds, BODY_LIMIT_S - 2)))
            left = still_open(slow, begun + BODY_LIMIT_S + 3)
    verdicts.say("left 3 s after their time is up", f"{left}", "0", kept=left == 0)


def idle(verdicts: Verdicts, seconds: int, count: int) -> None:
    """Clients that had their answer and stay."""
    print(f"{count:,} idle keep-alive connections, --async 10")
    with started("--async", "10") as server:
        quiet = latencies(server, seconds)
        empty_kib = server.resident_kib()
        with connected(server, count, HELLO) as connections:
            for connection in connections:
                read_hello(connection)
            each = (server.resident_kib() - empty_kib) * 1024 / count
            spent = server.cpu_seconds()
            time.sleep(seconds)
            share = (server.cpu_seconds() - spent) / seconds
            left = still_open(connections, time.monotonic())
            under_load = latencies(server, seconds)
    verdicts.say("process memory each", f"{each:,.0f} bytes", "< 1024", kept=each < 1024)
    verdicts.say("CPU", f"{share:.2%}", "< 1%", kept=share < 0.01)
    verdicts.say("still connected", f"{left:,}", f"{count:,}", kept=left == count)
    say_latencies(verdicts, quiet, under_load)


def first_bytes(verdicts: Verdicts, rounds: int = 20) -> None:
    """How soon a part arrives when the application computes for long after yielding it."""
    print(f"a part yielded before a pause that blocks the worker, {rounds} times, --async 10")
    found = []
    with started("--async", "10") as server:
        for _ in range(rounds):
            with open_one(server, b"GET /blocks HTTP/1.1\r\nHost: bench\r\n\r\n") as connection:
                data = b""
                while b"yielded at" not in data:
                    data += connection.recv(4096)
                arrived = time.monotonic()
                found.append((arrived - float(data.split(b"yielded at ")[1].split()[0])) * 1e3)
    worst = max(found)
    what = "from the yield to the client, p50 / worst"
    figure = f"{statistics.median(found):.2f} / {worst:.2f} ms"
    verdicts.say(what, figure, "< 5 ms", kept=worst < 5)


def departures(verdicts: Verdicts, rounds: int = 20) -> None:
    """How soon an endless generator is closed when its client, which did not read, leaves."""
    print(f"an endless generator whose client stops reading and leaves, {rounds} times, --async 10")
    found = []
    with started("--async", "10") as server:
        for _ in range(rounds):
            with open_one(server, b"GET /endless HTTP/1.1\r\nHost: bench\r\n\r\n") as connection:
                connection.recv(4096)
                before = ask(server, b"/made")
                while before != (now := ask(server, b"/made")):
                    before = now
                left = time.monotonic()
            while (closed := float(ask(server, b"/closed"))) < left:
                pass
            found.append((closed - left) * 1e3)
        grown = server.resident_kib()
    worst = max(found)
    what = "from leaving to close(), p50 / worst"
    figure = f"{statistics.median(found):.2f} / {worst:.2f} ms"
    verdicts.say(what, figure, "< 1000 ms", kept=worst < 1000)
    verdicts.say("memory of the process afterwards", f"{grown:,} KiB")


def ask(server: Server, path: bytes) -> bytes:
    """Read the whole body of one answer."""
    request = b"GET %s HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n" % path
    with open_one(server, request) as connection:
        data = b""
        while piece := connection.recv(4096):
            data += piece
    return data.partition(b"\r\n\r\n")[2]


def started(*options: str) -> Server:
    """Make a server of the application of this benchmark; entering it starts it."""
    command = greenloom("waiting:application", *options)
    return Server(Kind("greenloom", command, keeps_alive=True), SERVER_CPU)


@contextlib.contextmanager
def dripping(connections: list[socket.socket]) -> Iterator[None]:
    """Send one more byte on each connection every second, meanwhile."""
    stop = threading.Event()

    def drip() -> None:
        while not stop.wait(1.0):
            for connection in connections:
                # Closed by the server: its time was up.
                with contextlib.suppress(OSError):
                    connection.send(b"x")

    thread = threading.Thread(target=drip)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


if __name__ == "__main__":
    sys.exit(main())
