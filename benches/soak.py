"""Let very many random requests run through one server, and see that each got its own answer.

Each request carries a token of its own and a random plan (yields, suspends, sleeps, waits for
pipes, output and uploads of up to 200 KB, see served/soak.py; hellos, echoes, streams and sleeps
of ASGI applications, see served/soak_asgi.py); some clients leave at a random point. In the end
every core must be free, and descriptors and memory must be what they were.

    make soak
    .venv/bin/python benches/soak.py [--requests 1000000] [--engine ugreen] [--seed 1]
    .venv/bin/python benches/soak.py --engine asyncio-asgi
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import os
import random
import select
import socket
import struct
import sys
import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from plans import AsgiPlans, Plans, WsgiPlans
from servers import HOST, SERVER_CPU, Kind, Server, greenloom

CORES = 100
ENGINES = {
    "none": ("--async", "{cores}"),
    "ugreen": ("--async", "{cores}", "--ugreen"),
    "greenlet": ("--async", "{cores}", "--greenlet"),
    "gevent": ("--gevent", "{cores}"),
    "asyncio": ("--asyncio", "{cores}"),
    "uvloop": ("--asyncio", "{cores}", "--asyncio-loop", "uvloop"),
    "tornado": ("--tornado", "{cores}"),
}
# The same loops with an ASGI application.
ASGI = {f"{loop}-asgi": ENGINES[loop] for loop in ("asyncio", "uvloop", "tornado")}
# More at once than there are cores, so that some are parked.
CLIENTS = 120
LEAVERS = 0.03
# The server's memory is first looked at when so many have come: pools have grown by then.
WARM_UP = 0.1
RSS_LIMIT_KIB = 4096
COMPLAINTS = ("Traceback", "panicked", "Exception ignored", "never retrieved", "was destroyed")
STUCK_S = 60.0

READ, WRITE = select.EPOLLIN, select.EPOLLOUT
Waiting = Generator[tuple[socket.socket, int], None, None]


@dataclass
class Tally:
    """What one process of clients has seen."""

    answers: int = 0
    departures: int = 0
    bytes: int = 0
    mismatches: list[str] = field(default_factory=list)

    def add(self, other: Tally) -> None:
        """Sum up."""
        self.answers += other.answers
        self.departures += other.departures
        self.bytes += other.bytes
        self.mismatches += other.mismatches


def main() -> int:
    """Run it all; 1 when anything was not as it should be."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--requests", type=int, default=1_000_000, help="(default 1000000)")
    engines = ENGINES | ASGI
    parser.add_argument("--engine", choices=engines, default="none", help="(default none)")
    parser.add_argument("--processes", type=int, default=2, help="of clients (default 2)")
    parser.add_argument("--seed", type=int, default=time.time_ns() % 1_000_000_000)
    args = parser.parse_args()
    print(f"soak: seed {args.seed}", flush=True)
    options = [word.format(cores=CORES) for word in engines[args.engine]]
    options += ["--socket-timeout", "300"]
    if args.engine in ASGI:
        command = greenloom("soak_asgi:application", *options, interface="--asgi")
    else:
        command = greenloom("soak:application", *options)
    with Server(Kind("greenloom", command, keeps_alive=True), SERVER_CPU) as server:
        check_cores(server)
        warm = max(1, int(args.requests * WARM_UP))
        tally = load(server, args, warm, round_number=0)
        before = settled(server)
        begun = time.monotonic()
        tally.add(load(server, args, args.requests - warm, round_number=1))
        seconds = time.monotonic() - begun
        after = settled(server)
        check_cores(server)
        log = server.log_text()
    wrong = findings(tally, before, after, log)
    done = tally.answers + tally.departures
    print(
        f"soak: {args.engine}: {tally.answers:,} answers and {tally.departures:,} departures, "
        f"{len(tally.mismatches)} mismatches, {(done - warm) / seconds:,.0f} requests/s, "
        f"{tally.bytes / 1e9:.1f} GB, descriptors {before['fds']} -> {after['fds']}, "
        f"objects {before['objects']} -> {after['objects']}, "
        f"RSS {before['rss_kib']:,} -> {after['rss_kib']:,} KiB: "
        + ("; ".join(wrong) if wrong else "all is well"),
        flush=True,
    )
    return 1 if wrong else 0


def findings(tally: Tally, before: dict[str, int], after: dict[str, int], log: str) -> list[str]:
    """Everything that is not as it should be."""
    wrong = [*tally.mismatches[:5]]
    if after["active"] or before["active"]:
        wrong.append(f"{after['active']} requests have never ended")
    if after["fds"] > before["fds"]:
        wrong.append("descriptors were lost")
    if after["rss_kib"] - before["rss_kib"] > RSS_LIMIT_KIB:
        wrong.append(f"memory has grown by more than {RSS_LIMIT_KIB} KiB")
    if after["objects"] - before["objects"] > CORES * 10:
        wrong.append("Python objects were kept")
    if any(word in log for word in COMPLAINTS):
        wrong.append(f"the log: {log[-2000:]}")
    return wrong


def load(server: Server, args: argparse.Namespace, count: int, round_number: int) -> Tally:
    """Share ``count`` requests among processes of clients and wait for their reports."""
    shares = [count // args.processes] * args.processes
    shares[0] += count % args.processes
    context = multiprocessing.get_context("fork")
    with context.Pool(args.processes) as pool:
        jobs = [
            (server.port, share, args.engine, f"{args.seed}.{round_number}.{number}")
            for number, share in enumerate(shares)
        ]
        total = Tally()
        for tally in pool.starmap(clients, jobs):
            total.add(tally)
    return total


def clients(port: int, count: int, engine: str, seed: str) -> Tally:
    """Run one process's clients until ``count`` requests have been made."""
    draw = random.Random(seed)
    wsgi = WsgiPlans(draw, seed, suspends=engine != "none")
    job = Job(port, count, AsgiPlans(draw, seed) if engine in ASGI else wsgi, draw)
    poller = select.epoll()
    running: dict[int, tuple[Waiting, int]] = {}

    def advance(client: Waiting, fd: int, interest: int) -> None:
        try:
            connection, wanted = next(client)
        except StopIteration:
            return
        number = connection.fileno()
        if number != fd or wanted != interest or number not in running:
            # A closed descriptor has left the set by itself, and its number may be in it anew.
            try:
                poller.modify(number, wanted)
            except FileNotFoundError:
                poller.register(number, wanted)
        running[number] = (client, wanted)

    for _ in range(min(CLIENTS // 2, count)):
        advance(job.client(), -1, 0)
    while running:
        events = poller.poll(STUCK_S)
        if not events:
            asked = [repr(job.asked.get(fd, b"")[:100]) for fd in running]
            job.tally.mismatches.append(f"after {STUCK_S} s still waiting: {', '.join(asked)}")
            break
        for fd, _ in events:
            client, interest = running.pop(fd)
            advance(client, fd, interest)
    return job.tally


@dataclass
class Job:
    """One process's share of the requests."""

    port: int
    left: int
    plans: Plans
    random: random.Random
    tally: Tally = field(default_factory=Tally)
    asked: dict[int, bytes] = field(default_factory=dict)
    """The last request of each connection, by descriptor: for the one that waits for ever."""

    def client(self) -> Waiting:
        """One client after the other, each on a connection of its own, until all is done."""
        while self.left > 0:
            most = self.random.choice((1, 1, 20, 300))
            with socket.socket() as connection:
                connection.setblocking(False)
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                with contextlib.suppress(BlockingIOError):
                    connection.connect((HOST, self.port))
                yield connection, WRITE
                try:
                    yield from self.requests(connection, most)
                except (OSError, ValueError, IndexError) as error:
                    self.tally.mismatches.append(f"{type(error).__name__}: {error}")

    def requests(self, connection: socket.socket, most: int) -> Waiting:
        """Some requests on one connection; it may be left before the last one's answer."""
        for number in range(most):
            if self.left <= 0:
                return
            self.left -= 1
            last = number == most - 1
            request, expected = self.plans.make(close=last)
            self.asked[connection.fileno()] = request
            if self.random.random() < LEAVERS:
                yield from self.leave(connection, request, expected)
                self.tally.departures += 1
                return
            early = yield from send(connection, request)
            body, closes = yield from answer(connection, early)
            if body != expected:
                self.tally.mismatches.append(
                    f"{request[:80]!r}: {len(body)} bytes {body[:40]!r} instead of "
                    f"{len(expected)} bytes {expected[:40]!r}"
                )
            self.tally.answers += 1
            self.tally.bytes += len(body) + len(request)
            if closes:
                # An answer that begins before its request is complete says so.
                return

    def leave(self, connection: socket.socket, request: bytes, expected: bytes) -> Waiting:
        """Somewhere on the way, by FIN or by RST."""
        where = self.random.randrange(3)
        if where == 0:
            request = request[: self.random.randrange(1, len(request))]
        early = yield from send(connection, request)
        if where == 2:
            left = self.random.randrange(1, len(expected) + 100) - len(early)
            tail = early[-16:]
            # With all of it the connection may be idle for ever.
            while left > 0 and not (tail and tail.endswith((b"\r\n0\r\n\r\n", expected[-8:]))):
                yield connection, READ
                data = received(connection, left)
                left -= len(data)
                tail = (tail + data)[-16:]
        if self.random.random() < 0.5:
            linger = struct.pack("ii", 1, 0)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)


def send(
    connection: socket.socket, data: bytes
) -> Generator[tuple[socket.socket, int], None, bytes]:
    """All of it; and what has come meanwhile, for who echoes may wait until that is read."""
    sent, early = 0, b""
    while True:
        with contextlib.suppress(BlockingIOError):
            sent += connection.send(data[sent:] if sent else data)
        if sent == len(data):
            return early
        yield connection, READ | WRITE
        with contextlib.suppress(BlockingIOError):
            early += received(connection)


def answer(
    connection: socket.socket, data: bytes = b""
) -> Generator[tuple[socket.socket, int], None, tuple[bytes, bool]]:
    """The body of one answer that begins with ``data``, and whether it is the connection's last."""
    while True:
        while b"\r\n\r\n" not in data:
            yield connection, READ
            data += received(connection)
        if not data.startswith(b"HTTP/1.1 100 "):
            break
        data = data.partition(b"\r\n\r\n")[2]
    head, _, rest = data.partition(b"\r\n\r\n")
    if not head.startswith((b"HTTP/1.1 200 ", b"HTTP/1.0 200 ")):
        raise ValueError(f"answered {head[:60]!r}")
    lines = head.lower().split(b"\r\n")
    closes = b"connection: close" in lines
    length = next((line for line in lines if line.startswith(b"content-length:")), None)
    pieces = [rest]
    if length is not None:
        missing = int(length.partition(b":")[2]) - len(rest)
        while missing > 0:
            yield connection, READ
            pieces.append(received(connection))
            missing -= len(pieces[-1])
        return b"".join(pieces), closes
    if b"transfer-encoding: chunked" not in lines:
        while True:
            yield connection, READ
            piece = connection.recv(65_536)
            if not piece:
                return b"".join(pieces), True
            pieces.append(piece)
    # The last chunk may come in two pieces.
    tail = rest[-8:]
    while not (tail.endswith(b"0\r\n\r\n") and ends(b"".join(pieces))):
        yield connection, READ
        pieces.append(received(connection))
        tail = (tail + pieces[-1])[-8:]
    return b"".join(chunks(b"".join(pieces))), closes


def received(connection: socket.socket, most: int = 65_536) -> bytes:
    """The next bytes; their end is an error here."""
    data = connection.recv(min(most, 65_536))
    if not data:
        raise ConnectionError("closed before the answer was complete")
    return data


def ends(data: bytes) -> bool:
    """Whether the last chunk is there, and not only bytes that look like it."""
    try:
        return sum(1 for _ in chunks(data)) >= 0
    except IndexError:
        return False


def chunks(data: bytes) -> Iterator[bytes]:
    """The chunks of a complete body; IndexError when it is not complete."""
    at = 0
    while True:
        line_end = data.find(b"\r\n", at)
        if line_end < 0:
            raise IndexError("half a chunk")
        size = int(data[at:line_end], 16)
        at = line_end + 2
        if at + size + 2 > len(data):
            raise IndexError("half a chunk")
        if data[at + size : at + size + 2] != b"\r\n":
            raise ValueError("no line end behind a chunk")
        if size == 0:
            return
        yield data[at : at + size]
        at += size + 2


def check_cores(server: Server) -> None:
    """As many requests at once as there are cores, each of which waits for all others."""
    with contextlib.ExitStack() as stack:
        asked = [stack.enter_context(connected(server)) for _ in range(CORES)]
        for connection in asked:
            connection.sendall(b"GET /together?%d HTTP/1.0\r\n\r\n" % CORES)
        free = sum(read_all(connection).endswith(b"\r\n\r\nfree") for connection in asked)
    if free != CORES:
        raise SystemExit(f"soak: only {free} of {CORES} cores are free")


def settled(server: Server) -> dict[str, int]:
    """What the server holds once the last departures have been noticed."""
    deadline = time.monotonic() + 30
    while True:
        found = look(server)
        if not found["active"] or time.monotonic() > deadline:
            return found
        time.sleep(0.1)


def look(server: Server) -> dict[str, int]:
    """Ask the application and the kernel."""
    with connected(server) as connection:
        connection.sendall(b"GET /state HTTP/1.0\r\n\r\n")
        said = json.loads(read_all(connection).partition(b"\r\n\r\n")[2])
    assert server.process is not None
    said["fds"] = len(list(Path(f"/proc/{server.process.pid}/fd").iterdir()))
    said["rss_kib"] = server.resident_kib()
    return said


def connected(server: Server) -> socket.socket:
    """Connect, and wait for no answer longer than anything here takes."""
    return socket.create_connection((HOST, server.port), timeout=STUCK_S)


def read_all(connection: socket.socket) -> bytes:
    """Everything until the server closes."""
    data = b""
    while piece := connection.recv(65_536):
        data += piece
    return data


if __name__ == "__main__":
    os.environ.setdefault("PYTHONDONTWRITEBYTECODE", "1")
    sys.exit(main())
