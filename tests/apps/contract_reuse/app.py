"""Requests that leave objects wherever one can: all must be gone when the request is.

`/STYLE?name=N` waits until somebody asks for `/let?name=N`; `/alive` collects garbage and counts
the objects that are left, by place.
"""

import contextlib
import contextvars
import gc
import json
import os
import weakref
from collections import Counter
from urllib.parse import parse_qs

import uwsgi

TEXT = [("Content-Type", "text/plain")]
variable = contextvars.ContextVar("variable")
made, gone = Counter(), Counter()
waiting = {}


class Kept:
    """In a cycle, so that only the garbage collector can find it."""

    def __init__(self, place):
        self.cycle = self
        made[place] += 1
        weakref.finalize(self, gone.update, [place])


class Kept2(Kept):
    """Not in a cycle: gone with its last reference."""

    def __init__(self, place):
        super().__init__(place)
        self.cycle = None


def register(name):
    waiting[name] = os.eventfd(0, os.EFD_NONBLOCK)
    uwsgi.wait_fd_read(waiting[name], 30)


def forget(name):
    os.close(waiting.pop(name))


def failing(place):
    inner = Kept(place)
    raise ValueError(inner)


def deep(depth, wait):
    local = Kept("deep frame"), Kept2("deep frame, no cycle")
    if depth:
        return deep(depth - 1, wait)
    wait()
    return local


def yielding(environ, start_response, name):
    local = Kept("local"), Kept2("local, no cycle")
    environ["kept"] = Kept("environ"), environ
    variable.set(Kept("context"))
    by_default = lambda found=Kept("closure"): (found, local)  # noqa: B008, E731
    try:
        failing("traceback")
    except ValueError as error:
        register(name)
        yield b""
        environ["error"] = error
    forget(name)
    yield name.encode()
    del by_default


def suspending(environ, start_response, name):
    local = Kept("local"), Kept2("local, no cycle")
    environ["kept"] = Kept("environ"), environ
    variable.set(Kept("context"))
    by_default = lambda found=Kept("closure"): (found, local)  # noqa: B008, E731

    def wait():
        register(name)
        uwsgi.suspend()

    try:
        failing("traceback")
    except ValueError as error:
        deep(20, wait)
        environ["error"] = error
    for _ in sorted([2, 1], key=lambda number: (uwsgi.suspend(), Kept("key"), number)[2]):
        pass
    forget(name)
    del by_default
    return [name.encode()]


def raising(environ, start_response, name):
    """Ends with an exception that holds its frames."""
    environ["kept"] = Kept("environ of a failure"), environ
    variable.set(Kept("context of a failure"))
    register(name)
    try:
        yield b""
    finally:
        forget(name)
    failing("failure")


def left(environ, start_response, name):
    """Ends when its client leaves."""
    environ["kept"] = Kept("environ of a departure"), environ
    variable.set(Kept("context of a departure"))
    local = Kept("local of a departure")
    with contextlib.closing(open(os.devnull)):
        yield b"part\n"
        yield uwsgi.async_sleep(3600)
    del local


def left_suspended(environ, start_response, name):
    environ["kept"] = Kept("environ of a departure"), environ
    variable.set(Kept("context of a departure"))
    yield b"part\n"
    deep(20, lambda: (uwsgi.async_sleep(3600), uwsgi.suspend()))


def let(environ, start_response, name):
    if name not in waiting:
        return [b"not yet\n"]
    os.eventfd_write(waiting[name], 1)
    return [b"let\n"]


def alive(environ, start_response, name):
    gc.collect()
    found = {place: made[place] - gone[place] for place in made if made[place] != gone[place]}
    return [json.dumps({"alive": found, "made": dict(made)}).encode()]


def short(environ, start_response, name):
    """A request as there are many: a little of everything."""
    local = [Kept(None) for _ in range(3)], variable.set(environ)
    for number in range(int(name)):
        # Every now and then one that is overtaken by others.
        yield uwsgi.async_sleep(0.001 if number == 3 else 0)
    yield b"%d|" % len(local)


def short_suspending(environ, start_response, name):
    local = [Kept(None) for _ in range(3)], variable.set(environ)

    def key(number):
        uwsgi.async_sleep(0.001 if number == 3 else 0)
        return uwsgi.suspend() and number

    sorted(range(int(name)), key=key)
    return [b"%d|" % len(local)]


def application(environ, start_response):
    query = {key: value[0] for key, value in parse_qs(environ["QUERY_STRING"]).items()}
    start_response("200 OK", TEXT)
    return globals()[environ["PATH_INFO"][1:]](environ, start_response, query.get("name"))
