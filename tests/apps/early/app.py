"""Yields, then blocks the whole worker until the client says that it has the first bytes."""

import os
import select


def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    yield b"first"
    gate = os.open(os.environ["GATE"], os.O_RDWR | os.O_NONBLOCK)
    try:
        opened, _, _ = select.select([gate], [], [], 10)
        yield b" opened" if opened else b" never opened"
    finally:
        os.close(gate)
