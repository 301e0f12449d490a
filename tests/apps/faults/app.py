"""Requests that wait, get stuck, or take their worker with them; for `--async N` without an engine.

`/hold` says its process and waits, suspended, for a byte in the FIFO named by GATE; `/block` does
the same without giving the worker back. What gets stuck says its process first, too.
"""

import ctypes
import json
import os
import re
import resource
import time

import at_gate
import uwsgi

LOAD = os.urandom(4).hex()
kept = []


def hold(query):
    yield from at_gate.wait()
    yield b"released\n"


def block(query):
    at_gate.block()
    yield b"released\n"


def sleep(query):
    uwsgi.async_sleep(float(query))
    yield b""
    yield b"slept\n"


def spin_here_for_ever():
    while True:
        pass


def spin(query):
    spin_here_for_ever()
    yield b""


def match_here_for_ever():
    re.match("(a+)+$", "a" * 64 + "b")


def regex(query):
    """In C, with the interpreter's lock: no other thread of the process runs Python."""
    match_here_for_ever()
    yield b""


def busy(query):
    """Long, but not stuck: it gives the worker back ten times a second."""
    end = time.monotonic() + float(query)
    while time.monotonic() < end:
        time.sleep(0.1)
        yield b""
    yield b"done\n"


def segfault(query):
    ctypes.string_at(0)
    yield b""


def leave(query):
    os._exit(int(query))
    yield b""


def grow(query):
    kept.append(b"x" * (int(query) << 20))
    yield b"grown\n"


def limit(query):
    """More than the process may have."""
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    with open("/proc/self/statm") as statm:
        used = int(statm.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + (8 << 20), hard))
    try:
        yield b"x" * (int(query) << 20)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (hard, hard))


def reload(query):
    uwsgi.reload()
    yield b"asked\n"


HANDLERS = {
    f"/{handler.__name__}": handler
    for handler in (
        hold, block, sleep, spin, regex, busy, segfault, leave, grow, limit, reload,
    )
}  # fmt: skip


def application(environ, start_response):
    path = environ["PATH_INFO"]
    start_response("200 OK", [("Content-Type", "text/plain")])
    if path == "/":
        yield json.dumps({"pid": os.getpid(), "load": LOAD, "worker": uwsgi.worker_id()}).encode()
        return
    yield b"%d\n" % os.getpid()
    # It has left before anything happens to the process.
    uwsgi.async_sleep(0.01)
    yield b""
    yield from HANDLERS[path](environ["QUERY_STRING"])
