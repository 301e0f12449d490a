"""/hold waits, without blocking the worker, for one byte in the FIFO named by GATE."""

import at_gate


def hold(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    yield b"held\n"
    yield from at_gate.wait()
    yield b"released\n"


def block(environ, start_response):
    """The same, but the worker is blocked meanwhile."""
    start_response("200 OK", [("Content-Type", "text/plain")])
    at_gate.block()
    return [b"released\n"]


def application(environ, start_response):
    if environ["PATH_INFO"] == "/hold":
        return hold(environ, start_response)
    if environ["PATH_INFO"] == "/block":
        return block(environ, start_response)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"hello\n"]
