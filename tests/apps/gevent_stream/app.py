"""A stream whose second piece waits, in gevent, for a byte in the FIFO named by GATE.

/stream             without a newline anywhere
/stream?unbuffered  asks a proxy in front to pass it on as it comes
"""

from __future__ import annotations

import os

import gevent.os

held = 0


def stream():
    global held
    yield b"held"
    held += 1
    gate = os.open(os.environ["GATE"], os.O_RDWR | os.O_NONBLOCK)
    try:
        gevent.os.nb_read(gate, 1)
    finally:
        os.close(gate)
        held -= 1
    yield b"released"


def application(environ, start_response):
    headers = [("Content-Type", "text/plain")]
    if environ["QUERY_STRING"] == "unbuffered":
        headers.append(("X-Accel-Buffering", "no"))
    start_response("200 OK", headers)
    return stream() if environ["PATH_INFO"] == "/stream" else [b"%d" % held]
