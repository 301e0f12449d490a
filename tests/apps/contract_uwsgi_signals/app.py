"""Handlers of uwsgi signals, and requests that raise signals and wait for them.

What happens is a line of the log, `event WORKER what`: with all cores busy nobody can ask.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from urllib.parse import parse_qs

import uwsgi
import uwsgidecorators
from uwsgidecorators import filemon, get_free_signal, postfork, signal, timer

NOTHING = 30
SLOW, BAD, CURIOUS, EXIT, BLOCKING = 31, 32, 33, 34, 35
ALL, SECOND, LATE = 40, 41, 42
SLOW_S = float(os.environ.get("SLOW_S", "1"))

came = []


def event(*words):
    uwsgi.log(" ".join(["event", str(uwsgi.worker_id()), *map(str, words)]))


def note(number):
    came.append(number)
    event("handled", number)


uwsgi.register_signal(NOTHING, "", note)
uwsgi.register_signal(ALL, "workers", note)
if uwsgi.numproc > 1:
    uwsgi.register_signal(SECOND, "worker2", note)
if "TICK_S" in os.environ:

    @timer(float(os.environ["TICK_S"]))
    def tick(number):
        event("tick", f"{time.monotonic():.6f}")


if "WATCHED" in os.environ:

    @filemon(os.environ["WATCHED"])
    def changed(number):
        uwsgi.async_sleep(0.01)
        uwsgi.suspend()
        event("changed")


@signal(SLOW)
def slow(number):
    event("slow begins")
    try:
        uwsgi.async_sleep(SLOW_S)
        uwsgi.suspend()
        event("slow ends")
    except BaseException as error:
        event("slow", type(error).__name__, error)
        raise


@signal(BLOCKING)
def blocking(number):
    event("blocking begins")
    time.sleep(0.02)
    event("blocking ends")


@signal(BAD)
def bad(number):
    raise ValueError("bad on purpose")


@signal(EXIT)
def leave(number):
    sys.exit("on purpose")


NEED_REQUEST = {
    "cl": (),
    "connection_fd": (),
    "send": (b"x",),
    "chunked_read": (),
    "chunked_read_nb": (),
    "sendfile": (__file__,),
    "disconnect": (),
    "set_logvar": ("a", "b"),
    "get_logvar": ("a",),
    "log_this_request": (),
}


@signal(CURIOUS)
def curious(number):
    """Which calls that need a request do not say so."""
    silent = []
    for name, arguments in NEED_REQUEST.items():
        try:
            getattr(uwsgi, name)(*arguments)
            silent.append(name)
        except RuntimeError as error:
            if "has none" not in str(error):
                silent.append(f"{name}: {error}")
    event("silent", silent)


@postfork
def started():
    event("started", get_free_signal())


@postfork(2)
def started_second():
    event("second started")


def one(query, name):
    return query[name][0]


def raise_signal(query):
    uwsgi.signal(int(one(query, "n")))
    return "raised"


def raise_in_thread(query):
    thread = threading.Thread(target=uwsgi.signal, args=(int(one(query, "n")),))
    thread.start()
    thread.join()
    return "raised"


def raise_elsewhere(query):
    try:
        uwsgi.signal(int(one(query, "n")), one(query, "node"))
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "raised"


def wait(query):
    event("waits")
    for number, seconds in (pair.split(":") for pair in query.get("after", ())):
        # Nobody else can raise it where this request holds up the worker.
        uwsgi.add_rb_timer(int(number), float(seconds), 1)
    assert uwsgi.signal_wait(*(int(n) for n in query.get("n", ()))) == b""
    return f"{uwsgi.signal_received()} {came[-1] if came else None}"


def received(query):
    return str(uwsgi.signal_received())


def register_late(query):
    uwsgi.register_signal(LATE, "worker", lambda number: event("late", number))
    assert uwsgi.signal_registered(LATE) is True
    assert uwsgi.signal_registered(LATE + 1) is None
    uwsgi.add_rb_timer(LATE, 0.01, 3)
    return "registered"


NAMES = {"uwsgi": uwsgi, "decorators": uwsgidecorators, "note": note}


def evaluate(query):
    """The type and text of what a call raises, or its result."""
    try:
        return repr(
            eval(one(query, "call"), {"uwsgi": uwsgi, "note": note, "decorators": uwsgidecorators})
        )
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def wait_for_handler(query):
    """Ends once a handler has run; before that it raises the signal, if it is to."""
    number = int(one(query, "n"))
    before = came.count(number)
    event("waits")
    if "raise" in query:
        uwsgi.signal(number)
    while came.count(number) == before:
        uwsgi.async_sleep(0.01)
        yield b""
    yield b"handled"


CALLS = {
    "/raise": raise_signal,
    "/raise_in_thread": raise_in_thread,
    "/raise_elsewhere": raise_elsewhere,
    "/wait": wait,
    "/received": received,
    "/register_late": register_late,
    "/eval": evaluate,
}


def application(environ, start_response):
    path = environ["PATH_INFO"]
    query = parse_qs(environ["QUERY_STRING"])
    start_response("200 OK", [("Content-Type", "text/plain")])
    if path == "/wait_for_handler":
        return wait_for_handler(query)
    return [CALLS[path](query).encode()]
