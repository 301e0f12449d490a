"""The application of benches/soak.py: each request does what its path tells it to, step by step.

`/STEPS?TOKEN`; the steps stand behind each other, separated by dots:

    yN uN   give way N times: by a yield, by uwsgi.suspend()
    sN SN   sleep N milliseconds: the same two ways
    p P     wait for a pipe that a thread writes to: the same two ways
    zN wN   send N bytes of the token: as a part of the iterable, with write()
    lN      announce N bytes (first, if at all)

The answer begins with the CRC of the request's body, eight digits.
"""

from __future__ import annotations

import gc
import json
import os
import queue
import threading
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import uwsgi

PATIENCE_S = 30.0
FOR_EVER_S = 60.0
BYTES = [("Content-Type", "application/octet-stream")]

active = 0
inside = 0
rounds = 0
to_feed: queue.SimpleQueue[int] = queue.SimpleQueue()


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Follow the steps, or answer one of the questions at the end."""
    path = environ["PATH_INFO"]
    if path == "/state":
        start_response("200 OK", [("Content-Type", "application/json")])
        return [state()]
    if path == "/together":
        start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "4")])
        return together(int(environ["QUERY_STRING"]))
    return followed(path[1:].split("."), environ, start_response)


def followed(
    steps: list[str], environ: dict[str, Any], start_response: Callable[..., Any]
) -> Iterator[bytes]:
    """Count who is inside, whichever way it leaves."""
    global active
    active += 1
    try:
        yield from run(steps, environ, start_response)
    finally:
        active -= 1


def run(
    steps: list[str], environ: dict[str, Any], start_response: Callable[..., Any]
) -> Iterator[bytes]:
    """Do one step after the other."""
    token = environ["QUERY_STRING"].encode()
    crc = b"%08x" % zlib.crc32(environ["wsgi.input"].read())
    headers = [*BYTES]
    if steps[0][0] == "l":
        headers.append(("Content-Length", steps.pop(0)[1:]))
    write = start_response("200 OK", headers)
    yield crc
    for step in steps:
        kind, count = step[0], int(step[1:] or 0)
        if kind == "z":
            yield filler(token, count)
        elif kind == "y":
            for _ in range(count):
                yield b""
        elif kind == "s":
            yield uwsgi.async_sleep(count / 1000)
        elif kind == "u":
            for _ in range(count):
                uwsgi.suspend()
        elif kind == "S":
            uwsgi.async_sleep(count / 1000)
            uwsgi.suspend()
        elif kind == "w":
            try:
                write(filler(token, count))
            except OSError:
                # How write() says that the client has left.
                return
        elif kind in "pP":
            yield from fed(kind == "P")
        else:
            raise ValueError(step)


def filler(token: bytes, count: int) -> bytes:
    """Make ``count`` bytes that belong to this request only."""
    return (token * (count // len(token) + 1))[:count]


def fed(suspending: bool) -> Iterator[bytes]:
    """Wait for one byte from the thread, which owns the other end from here on."""
    reader, writer = os.pipe()
    try:
        to_feed.put(writer)
        uwsgi.wait_fd_read(reader, FOR_EVER_S)
        if suspending:
            uwsgi.suspend()
        else:
            yield b""
        if os.read(reader, 2) != b"!":
            raise ValueError("the pipe gave something else")
    finally:
        os.close(reader)


def feed() -> None:
    """Write to each pipe that somebody waits for, or has waited for."""
    while True:
        writer = to_feed.get()
        try:
            os.write(writer, b"!")
        except BrokenPipeError:
            continue
        finally:
            os.close(writer)


threading.Thread(target=feed, daemon=True).start()


def state() -> bytes:
    """Say what is left of all requests."""
    gc.collect()
    return json.dumps({"active": active, "objects": len(gc.get_objects())}).encode()


def together(count: int) -> Iterator[bytes]:
    """Answer once as many requests are inside at the same time."""
    global inside, rounds
    inside += 1
    mine, end = rounds, time.monotonic() + PATIENCE_S
    while rounds == mine and inside < count and time.monotonic() < end:
        yield uwsgi.async_sleep(0.005)
    if rounds == mine and inside < count:
        inside -= 1
        yield b"lost"
        return
    if rounds == mine:
        inside, rounds = 0, rounds + 1
    yield b"free"
