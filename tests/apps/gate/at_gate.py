"""The application's side of tests/harness/gate.py: waiting for a byte in the FIFO named by GATE.

Importable by every application that is started with the gate's environment.
"""

import os

import uwsgi


def wait():
    """Suspended, without an engine: to be passed on with `yield from`."""
    gate = os.open(os.environ["GATE"], os.O_RDWR | os.O_NONBLOCK)
    try:
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


def block():
    """With the whole worker."""
    with open(os.environ["GATE"], "rb") as gate:
        gate.read(1)
