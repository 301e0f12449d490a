"""Waits, each written once and run in either style.

A script is a generator. `yield b""` is the place where it waits, and any other part goes to the
client at once. In the style `yield` it is the response itself. In the style `suspend` the
application runs it: `uwsgi.suspend()` at each empty part, and `write()` for the others.
"""

from __future__ import annotations

import contextlib
import math
import os
import socket
import threading
import time
from pathlib import Path
from urllib.parse import parse_qs

import uwsgi

TEXT = [("Content-Type", "text/plain")]
WAITING = b"waiting\n"
pipes = {}
fars = {}
woken = []


def outcome(environ, **known):
    """What the server says of the last wait, in all three places, with names for descriptors."""
    names = {number: name for name, number in known.items()}
    names |= {-1: "-1", None: "None"}
    said = [names.get(fd, fd) for fd in (uwsgi.ready_fd(), environ.get("uwsgi.ready_fd"))]
    return f"{said[0]}|{said[1]}|{environ.get('x-wsgiorg.fdevent.timeout')} ".encode()


class Pipe:
    """Closed at the end of the `with`."""

    def __enter__(self):
        self.reader, self.writer = os.pipe()
        return self

    def __exit__(self, *exc):
        os.close(self.reader)
        os.close(self.writer)

    def fill(self):
        os.write(self.writer, b"!")

    def drain(self):
        os.read(self.reader, 100)


class Pair:
    """Two sockets; `full` leaves no room in the near one's buffer."""

    def __enter__(self):
        self.near, self.far = socket.socketpair()
        self.near.setblocking(False)
        self.far.setblocking(False)
        self.fd = self.near.fileno()
        return self

    def __exit__(self, *exc):
        self.near.close()
        self.far.close()

    def fill(self):
        try:
            while self.near.send(b"x" * 65536):
                pass
        except BlockingIOError:
            pass

    def drain(self):
        try:
            while self.far.recv(1 << 20):
                pass
        except BlockingIOError:
            pass


def wait_read(environ, query, fd, timeout):
    """By either name of the call, with or without a timeout."""
    call = environ["x-wsgiorg.fdevent.readable"] if "fdevent" in query else uwsgi.wait_fd_read
    result = call(fd, timeout) if timeout else call(fd)
    assert result == b""


def wait_write(environ, query, fd, timeout):
    call = environ["x-wsgiorg.fdevent.writable"] if "fdevent" in query else uwsgi.wait_fd_write
    assert call(fd, timeout) == b""


# What other requests do to those that wait.


def poke(environ, query):
    """Fills pipes, or gives sockets room, in the order of the names."""
    for name in query["name"].split(","):
        if name in pipes:
            pipes[name].fill()
        else:
            fars[name].drain()
    yield b"poked"


def hello(environ, query):
    yield b"hello"


# Waits.


def read(environ, query):
    with Pipe() as pipe:
        pipes[query["name"]] = pipe
        yield WAITING
        yield outcome(environ)
        wait_read(environ, query, pipe.reader, float(query.get("timeout", 0)))
        yield b""
        yield outcome(environ, pipe=pipe.reader)
        del pipes[query["name"]]


def write(environ, query):
    with Pair() as pair:
        pair.fill()
        fars[query["name"]] = pair
        yield WAITING
        wait_write(environ, query, pair.fd, float(query.get("timeout", 8)))
        yield b""
        yield outcome(environ, near=pair.fd)
        del fars[query["name"]]


def several(environ, query):
    """Three pipes; the one that is poked ends the wait, the others are forgotten."""
    with Pipe() as a, Pipe() as b, Pipe() as c:
        known = {"a": a, "b": b, "c": c}
        pipes.update(known)
        yield WAITING
        for pipe in known.values():
            wait_read(environ, query, pipe.reader, float(query.get("timeout", 8)))
        yield b""
        readers = {name: pipe.reader for name, pipe in known.items()}
        yield outcome(environ, **readers)
        # Readable or not: nothing of the last wait is left for this one.
        for pipe in known.values():
            pipe.fill()
        uwsgi.async_sleep(0.03)
        yield b""
        yield outcome(environ, **readers)
        for name in known:
            del pipes[name]


def both(environ, query):
    """Read and write on one descriptor; only what is asked for ever happens to it."""
    with Pair() as pair:
        pair.fill()
        fars["writable"] = pair
        yield WAITING
        uwsgi.wait_fd_read(pair.fd, 8)
        uwsgi.wait_fd_write(pair.fd, 8)
        if query["first"] == "readable":
            pair.far.send(b"!")
        yield b""
        yield outcome(environ, near=pair.fd)
        del fars["writable"]


def shared(environ, query):
    """Any number of requests wait for the one pipe of this name."""
    name = query["name"]
    if name not in pipes:
        pipes[name] = Pipe().__enter__()
    reader = pipes[name].reader
    yield WAITING
    uwsgi.wait_fd_read(reader, 8)
    yield b""
    yield outcome(environ, pipe=reader)


def forget(environ, query):
    pipes.pop(query["name"]).__exit__()
    yield b"forgotten"


def again(environ, query):
    """A registration counts once; the same descriptor can be registered for ever."""
    with Pipe() as pipe:
        for _ in range(50):
            pipe.fill()
            uwsgi.wait_fd_read(pipe.reader, 8)
            yield b""
            assert uwsgi.ready_fd() == pipe.reader
            pipe.drain()
        yield b"fifty times"


def earliest(environ, query):
    """Deadlines in seconds, in the order of registration; the earliest one counts."""
    with Pipe() as one, Pipe() as two:
        first, second, sleep = map(float, query["of"].split(","))
        started = time.monotonic()
        if first:
            uwsgi.wait_fd_read(one.reader, first)
        if second:
            uwsgi.wait_fd_read(two.reader, second)
        if sleep:
            uwsgi.async_sleep(sleep)
        yield b""
        passed = time.monotonic() - started
        shortest = min(filter(None, (first, second, sleep)))
        yield outcome(environ)
        yield b"in time" if shortest <= passed < shortest + 5 else f"after {passed}".encode()


def ready_before_the_deadline(environ, query):
    """The deadline goes with the wait that an event has ended."""
    with Pipe() as pipe:
        pipe.fill()
        uwsgi.wait_fd_read(pipe.reader, 0.05)
        yield b""
        yield outcome(environ, pipe=pipe.reader)
        pipe.drain()
        started = time.monotonic()
        uwsgi.async_sleep(0.2)
        yield b""
        yield b"slept" if time.monotonic() - started >= 0.2 else b"woken by an old deadline"


def sleep(environ, query):
    seconds = float(query["seconds"])
    started = time.monotonic()
    assert uwsgi.async_sleep(seconds) == b""
    yield b""
    yield outcome(environ)
    # A clock is never early; how late it may be is not for a test to say.
    yield b"slept" if time.monotonic() - started >= seconds else b"too early"


def wake(environ, query):
    """Sleepers that started together, for the order of their waking."""
    if "start" not in pipes:
        pipes["start"] = Pipe().__enter__()
    reader = pipes["start"].reader
    yield WAITING
    uwsgi.wait_fd_read(reader, 8)
    yield b""
    uwsgi.async_sleep(float(query["seconds"]))
    yield b""
    woken.append(query["name"])
    yield "".join(woken).encode()


def asleep(environ, query):
    woken.clear()
    yield b"nobody"


def odd_times(environ, query):
    """Zero and less only give way; what is no number is refused; for ever is a wait as well."""
    started = time.monotonic()
    for seconds in (0, 0.0, -1, -0.5, -math.inf):
        uwsgi.async_sleep(seconds)
        yield b""
    assert time.monotonic() - started < 5
    for call in (lambda: uwsgi.async_sleep(math.nan), lambda: uwsgi.wait_fd_read(0, math.nan)):
        try:
            call()
        except ValueError:
            continue
        raise AssertionError("nan was accepted")
    with Pipe() as pipe:
        pipe.fill()
        for timeout in (math.inf, 1e30, 0, -1):
            uwsgi.wait_fd_read(pipe.reader, timeout)
            yield b""
            assert uwsgi.ready_fd() == pipe.reader
    yield b"fine"


def outcomes(environ, query):
    """One line for each way of coming back: all three places are true after each of them."""
    with Pipe() as pipe:
        known = {"pipe": pipe.reader}
        yield outcome(environ, **known)
        uwsgi.wait_fd_read(pipe.reader, 0.01)
        yield b""
        yield outcome(environ, **known)
        pipe.fill()
        uwsgi.wait_fd_read(pipe.reader, 8)
        yield b""
        yield outcome(environ, **known)
        yield b""
        yield outcome(environ, **known)
        uwsgi.async_sleep(0.01)
        yield b""
        yield outcome(environ, **known)
        yield b""
        yield outcome(environ, **known)


def refused(environ, query):
    """Descriptors that cannot be waited for; the waits before and after are as if nothing was."""
    with Pipe() as pipe, Path(__file__).open("rb") as file:
        errors = []
        pipe.fill()
        for call in (uwsgi.wait_fd_read, uwsgi.wait_fd_write):
            for fd in (99999, -1, file.fileno()):
                try:
                    call(fd, 0.02)
                except OSError as error:
                    errors.append(str(fd) in str(error))
        yield f"{sum(errors)} ".encode()
        # No wait is left: this only gives way, and no deadline ends the next one.
        yield b""
        yield outcome(environ)
        pipe.drain()
        started = time.monotonic()
        uwsgi.async_sleep(0.1)
        yield b""
        yield b"slept " if time.monotonic() - started >= 0.1 else b"woken by a refused wait "
        pipe.fill()
        uwsgi.wait_fd_read(pipe.reader, 8)
        with contextlib.suppress(OSError):
            uwsgi.wait_fd_read(99999, 0.02)
        yield b""
        yield outcome(environ, pipe=pipe.reader)


def refused_in_a_row(environ, query):
    for _ in range(200):
        with contextlib.suppress(OSError):
            uwsgi.wait_fd_read(99999)
    yield b""
    yield b"fine"


def closed(environ, query):
    """Nobody can make it ready any more, so only the deadline is left."""
    reader, writer = os.pipe()
    uwsgi.wait_fd_read(reader, 0.1)
    os.close(reader)
    yield b""
    os.close(writer)
    yield outcome(environ)


def hang_up(environ, query):
    """The end of the other side counts as readable."""
    reader, writer = os.pipe()
    os.close(writer)
    uwsgi.wait_fd_read(reader, 8)
    yield b""
    yield outcome(environ, pipe=reader)
    os.close(reader)


SCRIPTS = {
    "poke": poke,
    "hello": hello,
    "read": read,
    "write": write,
    "several": several,
    "both": both,
    "shared": shared,
    "forget": forget,
    "again": again,
    "earliest": earliest,
    "ready_before_the_deadline": ready_before_the_deadline,
    "sleep": sleep,
    "wake": wake,
    "asleep": asleep,
    "odd_times": odd_times,
    "outcomes": outcomes,
    "refused": refused,
    "refused_in_a_row": refused_in_a_row,
    "closed": closed,
    "hang_up": hang_up,
}


# Bare suspensions, from the first instruction on.

turns = []
flags = set()


def first_thing(environ, start_response):
    uwsgi.suspend()
    start_response("200 OK", TEXT)
    return [b"came back"]


def only_thing(environ, start_response):
    """Suspends until the neighbour says so, and before anything else."""
    while "go" not in flags:
        uwsgi.suspend()
    start_response("200 OK", TEXT)
    return [b"went"]


def go(environ, start_response):
    query = parse_qs(environ["QUERY_STRING"])
    if "seconds" in query:
        uwsgi.async_sleep(float(query["seconds"][0]))
        uwsgi.suspend()
    flags.add("go")
    start_response("200 OK", TEXT)
    return [b"said"]


def stay(environ, start_response):
    flags.clear()
    turns.clear()
    start_response("200 OK", TEXT)
    return [b"said"]


def interleave(environ, start_response):
    """Takes its turns once three are here; the last one to end knows the order."""
    name = environ["QUERY_STRING"]
    flags.add(name)
    while len(flags & {"a", "b", "c"}) < 3:
        uwsgi.suspend()
    for _ in range(30):
        turns.append(name)
        uwsgi.suspend()
    start_response("200 OK", TEXT)
    return ["".join(turns).encode()]


def old_name(environ, start_response):
    assert uwsgi.green_schedule() is True
    start_response("200 OK", TEXT)
    return [b"came back"]


def in_the_iterable(environ, start_response):
    """In the body of the generator, and in its `close`."""
    start_response("200 OK", TEXT)

    def parts():
        try:
            for number in range(5):
                uwsgi.suspend()
                yield b"%d" % number
        finally:
            uwsgi.suspend()

    return parts()


class Closing:
    """A response with something left to do."""

    def __init__(self, name, parts):
        self.name = name
        self.parts = parts

    def __iter__(self):
        return iter(self.parts)

    def close(self):
        work_on(self.name)


def work_on(name):
    """Long enough for the client to leave; nothing of it is for the client."""
    for _ in range(3):
        uwsgi.async_sleep(0.05)
        uwsgi.suspend()
    uwsgi.log(f"{name} has worked to its end")


def after_the_response(environ, start_response):
    """In `close` of the response, or in the hook that comes after it."""
    where = environ["QUERY_STRING"]
    parts = [b"part ", b"after part"]
    start_response("200 OK", [*TEXT, ("Content-Length", "15")] if where != "chunked" else TEXT)
    if where == "hook":
        after.append(where)
        return parts
    return Closing(where, parts)


after = []


def hook():
    if after:
        work_on(after.pop())


uwsgi.after_req_hook = hook

APPLICATIONS = {
    "after_the_response": after_the_response,
    "first_thing": first_thing,
    "only_thing": only_thing,
    "go": go,
    "stay": stay,
    "interleave": interleave,
    "old_name": old_name,
    "in_the_iterable": in_the_iterable,
}


# Where no request is.

CALLS = {
    "suspend": lambda: uwsgi.suspend(),
    "async_sleep": lambda: uwsgi.async_sleep(1),
    "wait_fd_read": lambda: uwsgi.wait_fd_read(0, 1),
    "wait_fd_write": lambda: uwsgi.wait_fd_write(1, 1),
    "ready_fd": lambda: uwsgi.ready_fd(),
    "connection_fd": lambda: uwsgi.connection_fd(),
}
said = {}


def attempt_all(where):
    for name, call in CALLS.items():
        try:
            said[f"{where} {name}"] = f"returned {call()!r}"
        except Exception as error:
            said[f"{where} {name}"] = f"{type(error).__name__}: {error}"


attempt_all("import")


def in_a_thread(environ, start_response):
    """While the request runs, and (for `after`) once it has ended."""
    ended = threading.Event()

    def attempt():
        if environ["QUERY_STRING"] == "after":
            ended.wait(5)
        attempt_all(environ["QUERY_STRING"])

    thread = threading.Thread(target=attempt)
    thread.start()
    if environ["QUERY_STRING"] != "after":
        thread.join()
    start_response("200 OK", TEXT)

    class Parts:
        def __iter__(self):
            return iter([b"started"])

        def close(self):
            ended.set()

    return Parts()


def in_a_greenlet(environ, start_response):
    """A greenlet of the application's own, on top of the request."""
    from greenlet import greenlet

    greenlet(attempt_all).switch("greenlet")
    # The request itself goes on as before.
    uwsgi.async_sleep(0.001)
    start_response("200 OK", TEXT)
    yield b""
    yield b"started"


def tell(environ, start_response):
    start_response("200 OK", TEXT)
    where = environ["QUERY_STRING"]
    found = [f"{key.split()[1]} {text}" for key, text in said.items() if key.split()[0] == where]
    return ["\n".join(found).encode()]


APPLICATIONS |= {"in_a_thread": in_a_thread, "in_a_greenlet": in_a_greenlet, "tell": tell}


def application(environ, start_response):
    name = environ["PATH_INFO"][1:]
    if name in APPLICATIONS:
        return APPLICATIONS[name](environ, start_response)
    query = {k: v[0] for k, v in parse_qs(environ["QUERY_STRING"]).items()}
    send = start_response("200 OK", TEXT)
    script = SCRIPTS[name](environ, query)
    if query.get("style") != "suspend":
        return script
    for part in script:
        if part:
            send(part)
        else:
            uwsgi.suspend()
    return []
