"""Requests that stop the worker's loop in different ways, and requests that only wait.

The names of the functions must be found in the log.
"""

import collections
import itertools
import os
import re
import signal
import time
from urllib.parse import parse_qs

import uwsgi

TEXT = [("Content-Type", "text/plain")]
gate = os.open(os.environ["GATE"], os.O_RDWR | os.O_NONBLOCK)

if "TAKE_SIGUSR2" in os.environ:
    signal.signal(signal.SIGUSR2, lambda number, frame: None)
time.sleep(float(os.environ.get("LOAD_SECONDS", "0")))


def passed():
    try:
        return bool(os.read(gate, 1))
    except BlockingIOError:
        return False


def spin(query):
    return [spin_inner(float(query.get("seconds", "60")))]


def spin_inner(seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass
    return b"spun\n"


def sleep(query):
    return [sleep_inner(float(query.get("seconds", "60")))]


def sleep_inner(seconds):
    time.sleep(seconds)
    return b"slept\n"


def match(query):
    return [match_inner()]


def match_inner():
    """Minutes in a function in C that looks for signals now and then."""
    return str(re.match(r"(a+)+$", "a" * 60 + "b")).encode()


def consume(query):
    return [consume_inner()]


def consume_inner():
    """Never returns to the interpreter."""
    collections.deque(itertools.repeat(0), maxlen=0)
    return b"consumed\n"


def spin_later(query):
    wait_elsewhere()
    return [spin_inner(60)]


def wait_elsewhere():
    """In a way that the server does not know of, if there is one."""
    if uwsgi.loop == b"gevent":
        import gevent

        gevent.sleep(0.01)
    elif uwsgi.loop:
        import asyncio

        import greenlet

        me = greenlet.getcurrent()
        asyncio.get_running_loop().call_later(0.01, me.switch)
        me.parent.switch()


def yielding(query):
    while not passed():
        yield uwsgi.wait_fd_read(gate)
    yield b"yielded\n"


def asleep_in_short(query):
    end = time.monotonic() + float(query["seconds"])
    while time.monotonic() < end:
        yield uwsgi.async_sleep(0.02)
    yield b"slept\n"


def asleep_in_one(query):
    yield uwsgi.async_sleep(float(query["seconds"]))
    yield b"slept\n"


def suspending(query):
    return [suspending_inner()]


def suspending_inner():
    while not passed():
        uwsgi.wait_fd_read(gate)
        uwsgi.suspend()
    return b"suspended\n"


def allowed(query):
    """Allows itself some seconds, and then does something else."""
    wait_elsewhere()
    for seconds in query["allows"].split(","):
        uwsgi.set_user_harakiri(int(seconds))
    yield from globals()[query["then"]](query)


def large(query):
    """Some times what the kernel takes, and made in a moment."""
    return [b"x" * 16_000_000]


def hello(query):
    return [b"hello\n"]


def application(environ, start_response):
    query = {key: value[0] for key, value in parse_qs(environ["QUERY_STRING"]).items()}
    start_response("200 OK", TEXT)
    if environ["PATH_INFO"] == "/body":
        return [b"%d\n" % len(environ["wsgi.input"].read())]
    return globals()[environ["PATH_INFO"][1:]](query)
