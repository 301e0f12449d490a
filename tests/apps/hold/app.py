"""/hold waits, without blocking the worker, for one byte in the FIFO named by GATE."""

import os

import uwsgi


def hold(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    gate = os.open(os.environ["GATE"], os.O_RDWR | os.O_NONBLOCK)
    try:
        yield b"held\n"
        while True:
            uwsgi.wait_fd_read(gate)
            yield b""
            try:
                os.read(gate, 1)
            except BlockingIOError:
                continue
            break
    finally:
        os.close(gate)
    yield b"released\n"


def block(environ, start_response):
    """The same, but the worker is blocked meanwhile."""
    start_response("200 OK", [("Content-Type", "text/plain")])
    with open(os.environ["GATE"], "rb") as gate:
        gate.read(1)
    return [b"released\n"]


def application(environ, start_response):
    if environ["PATH_INFO"] == "/hold":
        return hold(environ, start_response)
    if environ["PATH_INFO"] == "/block":
        return block(environ, start_response)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"hello\n"]
