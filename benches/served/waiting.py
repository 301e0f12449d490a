"""The application of benches/waiting.py: one path for each way to spend time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import uwsgi

PART = b"x" * 65_536
seen = {"made": 0, "closed": 0.0}

YIELDS = 10_000
SLEEP_S = 0.05


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Yield often, sleep, read the body, or answer at once, as the path says."""
    path = environ["PATH_INFO"]
    if path == "/cpubound":
        start_response("200 OK", [("Content-Type", "text/html")])
        return cpubound()
    if path in ("/blocks", "/endless"):
        start_response("200 OK", [("Content-Type", "text/plain")])
        return blocks() if path == "/blocks" else endless()
    if path in ("/made", "/closed"):
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [repr(seen[path[1:]]).encode()]
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "3")])
    if path == "/sleep":
        return sleep()
    if path == "/read":
        environ["wsgi.input"].read()
    return [b"ok\n"]


def cpubound() -> Iterator[bytes]:
    """Give way ten thousand times, computing all the while."""
    for number in range(1, YIELDS):
        yield b"<h1>%d</h1>" % number


def blocks() -> Iterator[bytes]:
    """Say the time, then block the whole worker."""
    yield b"yielded at %f " % time.monotonic()
    time.sleep(0.05)
    yield b"done"


def endless() -> Iterator[bytes]:
    """Make parts for ever, and note when it is closed."""
    try:
        while True:
            seen["made"] += 1
            yield PART
    finally:
        seen["closed"] = time.monotonic()


def sleep() -> Iterator[bytes]:
    """Pause, then answer."""
    uwsgi.async_sleep(SLEEP_S)
    yield b""
    yield b"ok\n"
