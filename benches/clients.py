"""Plain clients of one server: a hello over and over, and connections that only stand there."""

from __future__ import annotations

import contextlib
import select
import socket
import statistics
import time
from collections.abc import Iterator

from servers import HOST, Server
from verdicts import Verdicts

HELLO = b"GET /hello HTTP/1.1\r\nHost: bench\r\n\r\n"
HELLO_AND_CLOSE = b"GET /hello HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n"


def latencies(server: Server, seconds: float, *, keep_alive: bool = True) -> list[float]:
    """Milliseconds of one hello after the other: on one connection, or with a new one for each."""
    found = []
    end = time.monotonic() + seconds
    with contextlib.ExitStack() as stack:
        connection = stack.enter_context(open_one(server, b"")) if keep_alive else None
        while (begun := time.monotonic()) < end:
            if connection is not None:
                connection.sendall(HELLO)
                read_hello(connection)
            else:
                with open_one(server, HELLO_AND_CLOSE) as once:
                    read_hello(once)
            found.append((time.monotonic() - begun) * 1e3)
    return found


def say_latencies(
    verdicts: Verdicts, quiet: list[float], loaded: list[float], p50_limit_ms: float | None = None
) -> None:
    """Print the latency of the hello before and under the load."""
    for name, found in (("alone", quiet), ("under load", loaded)):
        p50 = statistics.median(found)
        p99 = statistics.quantiles(found, n=100)[98]
        limit = f"p50 < {p50_limit_ms} ms" if p50_limit_ms and found is loaded else ""
        kept = not limit or p50 < (p50_limit_ms or 0)
        verdicts.say(f"hello {name}, p50 / p99", f"{p50:.3f} / {p99:.3f} ms", limit, kept=kept)


def read_hello(connection: socket.socket) -> None:
    """Read one answer to HELLO; the body is its last three bytes."""
    data = b""
    while not data.endswith(b"\r\n\r\nok\n"):
        piece = connection.recv(4096)
        if not piece:
            raise ConnectionError(f"closed after {data!r}")
        data += piece
    if not data.startswith(b"HTTP/1.1 200 OK\r\n"):
        raise ValueError(f"wrong answer: {data!r}")


@contextlib.contextmanager
def connected(server: Server, count: int, start: bytes) -> Iterator[list[socket.socket]]:
    """Open connections that have sent ``start``."""
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(open_one(server, start)) for _ in range(count)]


def open_one(server: Server, start: bytes) -> socket.socket:
    """Open one connection and send ``start``."""
    connection = socket.create_connection((HOST, server.port), timeout=10)
    connection.sendall(start)
    return connection


def still_open(connections: list[socket.socket], deadline: float) -> int:
    """How many are open at ``deadline``; earlier, as soon as none is."""
    poller = select.poll()
    waiting = {connection.fileno(): connection for connection in connections}
    for fd in waiting:
        poller.register(fd, select.POLLIN)
    while waiting:
        left_s = max(0.0, deadline - time.monotonic())
        events = poller.poll(left_s * 1e3)
        if not events:
            break
        for fd, _ in events:
            # An answer such as 408 comes first, then the end.
            with contextlib.suppress(ConnectionError):
                if waiting[fd].recv(4096):
                    continue
            poller.unregister(fd)
            del waiting[fd]
    return len(waiting)
