"""Measure suspend engines: a switch, the life of a core, the memory of what is suspended.

The engines take turns in every round, one worker process each on CPU 0, clients on CPU 1; figures
are medians over the rounds. CPU time is the server's own, user and system, in all its threads.

    make bench-switching
    .venv/bin/python benches/switching.py [--rounds 5] [--suspended 10000] [--strict]
"""

from __future__ import annotations

import argparse
import contextlib
import socket
import statistics
import sys
import time
from collections.abc import Callable

from load import become_the_client, load_keep_alive
from servers import HOST, SERVER_CPU, Kind, Server, greenloom
from verdicts import Verdicts

ENGINES = {"plain": [], "ugreen": ["--ugreen"], "greenlet": ["--greenlet"]}
SUSPENDING = ("ugreen", "greenlet")
SUSPENDS = 1_000_000
PIPELINED = 64
BATCHES = 3_000
HELLO = b"GET /hello HTTP/1.1\r\nHost: bench\r\n\r\n"
BROWSER = (
    b"GET /deep HTTP/1.1\r\nHost: bench\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64)\r\n"
    b"Accept: text/html,application/xhtml+xml\r\nAccept-Language: en\r\nAccept-Encoding: gzip\r\n"
    b"Referer: http://bench/\r\nCookie: session=0123456789abcdef0123456789abcdef\r\nDNT: 1\r\n\r\n"
)


def main() -> int:
    """Measure everything; 1 when a limit is broken and ``--strict`` asks for it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5, help="of every measurement (default 5)")
    parser.add_argument("--seconds", type=int, default=2, help="of load in a round (default 2)")
    parser.add_argument("--suspended", type=int, default=10_000, help="at once (default 10000)")
    parser.add_argument("--strict", action="store_true", help="exit 1 when a limit is broken")
    args = parser.parse_args()
    become_the_client()
    verdicts = Verdicts()
    switches(verdicts, args.rounds)
    cores(verdicts, args.rounds)
    hello(verdicts, args.rounds, args.seconds)
    memory(verdicts, args.suspended)
    return 1 if verdicts.broken and args.strict else 0


def switches(verdicts: Verdicts, rounds: int) -> None:
    """uwsgi.suspend() until it returns: out of one core and into the next."""
    for count in (1, 10, 1000):
        print(f"uwsgi.suspend(), {count:,} cores taking turns")
        found = in_turns(SUSPENDING, rounds, lambda server, count=count: suspend(server, count))
        ratio = found["ugreen"] / found["greenlet"]
        limit_ns = 250
        kept = found["ugreen"] <= limit_ns
        verdicts.say("ugreen", f"{found['ugreen']:.0f} ns", f"<= {limit_ns} ns", kept=kept)
        verdicts.say("greenlet", f"{found['greenlet']:.0f} ns")
        verdicts.say("ugreen / greenlet", f"{ratio:.2f}", "<= 0.5", kept=ratio <= 0.5)


def cores(verdicts: Verdicts, rounds: int) -> None:
    """What a coroutine adds to a request from start to finish, without input and output."""
    print(f"start to finish on a pooled core: hello, {PIPELINED} pipelined on one connection")
    found = in_turns(tuple(ENGINES), rounds, pipelined)
    verdicts.say("plain engine, all of the request", f"{found['plain']:.0f} ns")
    for engine in SUSPENDING:
        more = found[engine] - found["plain"]
        limit = "<= 500 ns" if engine == "ugreen" else ""
        verdicts.say(f"{engine}, more than that", f"{more:.0f} ns", limit, kept=more <= 500)


def hello(verdicts: Verdicts, rounds: int, seconds: int) -> None:
    """Keep-alive connections that ask without a pause."""
    print("hello, keep-alive, 64 connections: CPU per request")
    found = in_turns(tuple(ENGINES), rounds, lambda server: loaded(server, seconds))
    verdicts.say("plain engine", f"{found['plain'] / 1000:.2f} us")
    for engine in SUSPENDING:
        ratio = found[engine] / found["plain"]
        verdicts.say(f"{engine}", f"{found[engine] / 1000:.2f} us")
        verdicts.say(f"{engine} / plain", f"{ratio:.2f}", "<= 1.15", kept=ratio <= 1.15)


def memory(verdicts: Verdicts, count: int) -> None:
    """Requests that stand in a callback of C code, a dozen frames deep."""
    for engine in SUSPENDING:
        print(f"{count:,} requests suspended at once, {engine}")
        with started(engine, count + 1) as server, contextlib.ExitStack() as clients:
            ask(server, b"/hello")
            empty_kib = server.resident_kib()
            for _ in range(count):
                client = clients.enter_context(socket.create_connection((HOST, server.port)))
                client.sendall(BROWSER)
            # One core is left, and this takes it when the others have theirs.
            ask(server, b"/hello")
            each_kib = settled_kib(server, empty_kib) / count
        limit = "<= 20 KiB" if engine == "ugreen" else ""
        verdicts.say("process memory each", f"{each_kib:.1f} KiB", limit, kept=each_kib <= 20)


def in_turns(
    engines: tuple[str, ...], rounds: int, measure: Callable[[Server], float]
) -> dict[str, float]:
    """The medians of a measurement, the engines taking turns."""
    found: dict[str, list[float]] = {engine: [] for engine in engines}
    for _ in range(rounds):
        for engine in engines:
            with started(engine, 1_001) as server:
                ask(server, b"/hello")
                found[engine].append(measure(server))
    return {engine: statistics.median(figures) for engine, figures in found.items()}


def started(engine: str, count: int) -> Server:
    """Make a server with so many cores; entering it starts it."""
    options = ("--async", str(count), *ENGINES[engine])
    command = greenloom("switching:application", *options)
    return Server(Kind(engine, command, keeps_alive=True), SERVER_CPU)


def suspend(server: Server, count: int) -> float:
    """Nanoseconds of a suspend while so many requests do nothing else."""
    times = SUSPENDS // count
    request = b"GET /suspend?%d HTTP/1.1\r\nHost: bench\r\n\r\n" % times
    with contextlib.ExitStack() as stack:
        clients = [
            stack.enter_context(socket.create_connection((HOST, server.port))) for _ in range(count)
        ]
        for client in clients:
            client.sendall(request)
        taken = [int(body(client)) for client in clients]
    # Each of them is suspended while all others have their turns.
    return statistics.median(taken) / times / count


def pipelined(server: Server) -> float:
    """Nanoseconds of CPU for one of many requests that come in one packet."""
    batch = HELLO * PIPELINED
    with socket.create_connection((HOST, server.port)) as client:
        client.sendall(HELLO)
        length = len(client.recv(65_536))
        begun = cpu_ns(server)
        for _ in range(BATCHES):
            client.sendall(batch)
            left = length * PIPELINED
            while left:
                left -= len(client.recv(min(left, 65_536)))
        return (cpu_ns(server) - begun) / (BATCHES * PIPELINED)


def loaded(server: Server, seconds: int) -> float:
    """Nanoseconds of CPU for a request of a load generator."""
    begun = cpu_ns(server)
    report = load_keep_alive(f"http://{HOST}:{server.port}/hello", seconds)
    if report.errors:
        raise RuntimeError(f"{report.errors} answers were errors")
    return (cpu_ns(server) - begun) / report.requests


def cpu_ns(server: Server) -> int:
    """CPU time of the server until now."""
    return int(ask(server, b"/cpu"))


def settled_kib(server: Server, before_kib: int) -> int:
    """Growth of the process once it has stopped growing."""
    last = -1
    while (now := server.resident_kib() - before_kib) != last:
        last = now
        time.sleep(0.5)
    return last


def ask(server: Server, path: bytes) -> bytes:
    """The body of one answer."""
    with socket.create_connection((HOST, server.port), timeout=60) as client:
        client.sendall(b"GET %b HTTP/1.1\r\nHost: bench\r\n\r\n" % path)
        return body(client)


def body(client: socket.socket) -> bytes:
    """What comes behind the head, as long as that says."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += received(client)
    head, _, rest = data.partition(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 200 "):
        raise ValueError(f"wrong answer: {data!r}")
    length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
    while len(rest) < length:
        rest += received(client)
    return rest


def received(client: socket.socket) -> bytes:
    """Some bytes, at least one."""
    piece = client.recv(65_536)
    if not piece:
        raise ConnectionError("the server has closed the connection")
    return piece


if __name__ == "__main__":
    sys.exit(main())
