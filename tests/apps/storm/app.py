"""What the storm asks for: bodies known byte by byte, in every way a response can take its time.

Each response says in `X-Storm` which load of the application made it (one per generation) and in
which process. STORM_WAITS names how a request waits: it may `block` the worker, `yield` to it, or
`suspend`.
"""

from __future__ import annotations

import json
import os
import time
import zlib
from urllib.parse import parse_qs

import uwsgi

LOAD = os.urandom(4).hex()
WAITS = os.environ["STORM_WAITS"]
PIECE = 16_384

ticks = []
"""When the timer of STORM_TIMER, an interval in seconds, has called us."""

if "STORM_TIMER" in os.environ:
    uwsgi.register_signal(17, "", lambda number: ticks.append(time.monotonic()))
    uwsgi.add_timer(17, float(os.environ["STORM_TIMER"]))


def pause(seconds):
    """To be iterated: gives what has to be yielded meanwhile."""
    if WAITS == "block":
        time.sleep(seconds)
        return
    uwsgi.async_sleep(seconds)
    if WAITS == "suspend":
        uwsgi.suspend()
    else:
        yield b""


def application(environ, start_response):
    query = {key: values[0] for key, values in parse_qs(environ["QUERY_STRING"]).items()}
    token = query.get("token", "").encode()
    size = int(query.get("size", 0))
    headers = [("X-Storm", f"{LOAD} {os.getpid()}"), ("Content-Type", "text/plain")]
    if "length" in query:
        headers.append(("Content-Length", query["length"]))
    kind = environ["PATH_INFO"][1:]
    if kind == "sleep":
        yield from pause(float(query["seconds"]))
    elif kind == "upload":
        token = yield from uploaded(environ, token)
        size = len(token)
    start_response("200 OK", headers)
    if kind == "stream":
        parts = int(query["parts"])
        for number in range(parts):
            yield b"%s %d\n" % (token, number)
            yield from pause(float(query["seconds"]) / parts)
    elif kind == "ticks":
        yield json.dumps(ticks).encode()
    else:
        yield repeated(token, size)


def uploaded(environ, token):
    """What the answer to an upload says of it."""
    body, checksum, length = environ["wsgi.input"], 0, 0
    while piece := body.read(PIECE):
        checksum = zlib.crc32(piece, checksum)
        length += len(piece)
    yield b""
    return b"%s %d %08x\n" % (token, length, checksum)


def repeated(token, size):
    return (token * (size // len(token) + 1))[:size] if size else b""
