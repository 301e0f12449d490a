"""Waits for descriptors and time. A wait says `waiting` first, so that a client knows when."""

import os
import socket
import time
from urllib.parse import parse_qs

import uwsgi

TEXT = [("Content-Type", "text/plain")]
pipes = {}
sockets = {}


def result(environ):
    """What the server says about the wait that has just ended, in all three places."""
    return f"{uwsgi.ready_fd()}|{environ.get('uwsgi.ready_fd')}|{timed_out(environ)}"


def timed_out(environ):
    return environ.get("x-wsgiorg.fdevent.timeout")


def name_of(fd, **known):
    for name, number in known.items():
        if fd == number:
            return name
    return str(fd)


def pipe(name):
    if name not in pipes:
        pipes[name] = os.pipe()
    return pipes[name]


def forget(name):
    for fd in pipes.pop(name, ()):
        os.close(fd)


def poke(environ, query):
    """Makes the pipe NAME readable."""
    os.write(pipes[query["name"]][1], b"!")
    yield b"poked"


def read(environ, query):
    reader, _ = pipe(query["name"])
    try:
        yield b"waiting\n"
        before = f"{environ.get('uwsgi.ready_fd')}|{timed_out(environ)}"
        if "fdevent" in query:
            environ["x-wsgiorg.fdevent.readable"](reader, float(query.get("timeout", 0)))
        elif "timeout" in query:
            uwsgi.wait_fd_read(reader, float(query["timeout"]))
        else:
            uwsgi.wait_fd_read(reader)
        yield b""
        said = {uwsgi.ready_fd(), environ["uwsgi.ready_fd"]}
        if timed_out(environ):
            yield f"{before} timeout {said == {-1, None}}".encode()
        else:
            yield f"{before} ready {said == {reader}}".encode()
    finally:
        forget(query["name"])


def several(environ, query):
    """Waits for three pipes; says which one ended the wait."""
    names = query["name"].split(",")
    readers = {name: pipe(name)[0] for name in names}
    try:
        yield b"waiting\n"
        for reader in readers.values():
            uwsgi.wait_fd_read(reader, float(query.get("timeout", 5)))
        yield b""
        yield name_of(uwsgi.ready_fd(), **readers).encode()
    finally:
        for name in names:
            forget(name)


def earliest(environ, query):
    """The earliest of several deadlines counts."""
    reader, _ = pipe("earliest")
    try:
        started = time.monotonic()
        uwsgi.wait_fd_read(reader, 30)
        uwsgi.async_sleep(0.05)
        yield b""
        yield b"early" if time.monotonic() - started < 25 else b"late"
    finally:
        forget("earliest")


def write(environ, query):
    """Fills a socket, then waits until `drain` makes room."""
    near, far = socket.socketpair()
    sockets[query["name"]] = far
    near.setblocking(False)
    try:
        try:
            while True:
                near.send(b"x" * 65536)
        except BlockingIOError:
            pass
        yield b"waiting\n"
        if "fdevent" in query:
            environ["x-wsgiorg.fdevent.writable"](near.fileno(), 5)
        else:
            uwsgi.wait_fd_write(near.fileno(), 5)
        yield b""
        yield name_of(uwsgi.ready_fd(), near=near.fileno()).encode()
    finally:
        near.close()
        sockets.pop(query["name"]).close()


def drain(environ, query):
    far = sockets[query["name"]]
    far.setblocking(False)
    try:
        while far.recv(1 << 20):
            pass
    except BlockingIOError:
        pass
    yield b"drained"


def both(environ, query):
    """Read and write on one descriptor at once."""
    near, far = socket.socketpair()
    try:
        uwsgi.wait_fd_read(near.fileno(), 5)
        uwsgi.wait_fd_write(near.fileno(), 5)
        yield b""
        yield name_of(uwsgi.ready_fd(), near=near.fileno()).encode()
    finally:
        near.close()
        far.close()


def sleep(environ, query):
    seconds = float(query["seconds"])
    started = time.monotonic()
    yield b"waiting\n"
    for _ in range(int(query.get("times", 1))):
        uwsgi.async_sleep(seconds)
        yield b""
    yield b"slept" if time.monotonic() - started >= seconds * 0.99 else b"too early"


def results(environ, query):
    yield uwsgi.async_sleep(0.001)
    reader, _ = pipe("results")
    try:
        first = uwsgi.wait_fd_read(reader, 0.001)
        yield first
        yield repr(first).encode()
    finally:
        forget("results")


def suspend(environ, query):
    try:
        uwsgi.suspend()
    except RuntimeError as error:
        yield str(error).encode()
    else:
        yield b"suspended"


def bad(environ, query):
    """A refused wait leaves nothing behind: the next one works."""
    reader, writer = os.pipe()
    try:
        refused = []
        for fd in (99999, -1):
            try:
                uwsgi.wait_fd_read(fd, 1)
            except (OSError, ValueError) as error:
                refused.append(type(error).__name__)
        os.write(writer, b"!")
        uwsgi.wait_fd_read(reader, 5)
        yield b""
        yield f"{len(refused)} refused, then {name_of(uwsgi.ready_fd(), reader=reader)}".encode()
    finally:
        os.close(reader)
        os.close(writer)


def refusal(environ, query):
    """What a refused wait says to whoever reads the log."""
    try:
        uwsgi.wait_fd_read(99999, 1)
    except OSError as error:
        yield str(error).encode()


def regular(environ, query):
    """A file is always ready, and epoll refuses it: an error or ready, never a hang."""
    with open(__file__, "rb") as found:
        try:
            uwsgi.wait_fd_read(found.fileno(), 5)
        except OSError:
            yield b"refused or ready"
            return
        yield b""
        ready = uwsgi.ready_fd() == found.fileno()
    yield b"refused or ready" if ready else b"hung"


def closed(environ, query):
    reader, writer = os.pipe()
    uwsgi.wait_fd_read(reader, 0.2)
    os.close(reader)
    yield b""
    os.close(writer)
    yield f"{uwsgi.ready_fd()}|{timed_out(environ)}".encode()


def reused(environ, query):
    """Another pipe takes the number of the closed one; what was waited for is gone."""
    old_reader, old_writer = os.pipe()
    uwsgi.wait_fd_read(old_reader, 0.3)
    new_reader, new_writer = os.pipe()
    os.dup2(new_reader, old_reader)
    os.write(new_writer, b"!")
    yield b""
    first = uwsgi.ready_fd()
    uwsgi.wait_fd_read(old_reader, 5)
    yield b""
    second = name_of(uwsgi.ready_fd(), reused=old_reader)
    for fd in (old_reader, old_writer, new_reader, new_writer):
        os.close(fd)
    yield f"{first} then {second}".encode()


duplicates = []


def duplicated(environ, query):
    """The descriptor is closed, but a duplicate keeps its description open, and readable."""
    reader, writer = os.pipe()
    duplicates.append(os.dup(reader))
    uwsgi.wait_fd_read(reader, 0.2)
    os.close(reader)
    os.write(writer, b"!")
    yield b""
    duplicates.append(writer)
    yield b"ended"


def undo(environ, query):
    while duplicates:
        os.close(duplicates.pop())
    yield b"closed"


shared_order = []


def interleave(environ, query):
    """Two of these take turns; the second one to end shows the order of their turns.

    Both wait for the pipe `start`, so that a poke starts them at once.
    """
    reader, _ = pipe("start")
    shared_order.clear()
    try:
        yield b"waiting\n"
        uwsgi.wait_fd_read(reader, 5)
        yield b""
        for _ in range(int(query["turns"])):
            shared_order.append(query["name"])
            yield b"."
        yield "".join(shared_order).encode()
    finally:
        forget("start")


def again(environ, query):
    """Waits again and again on the same descriptor: registrations are one shot."""
    reader, writer = os.pipe()
    try:
        for _ in range(50):
            os.write(writer, b"!")
            uwsgi.wait_fd_read(reader, 5)
            yield b""
            if uwsgi.ready_fd() != reader:
                yield b"not ready"
                return
            os.read(reader, 1)
        yield b"fifty times"
    finally:
        os.close(reader)
        os.close(writer)


def unused(environ, query):
    """A registered wait that no yield consumes."""
    uwsgi.async_sleep(0.01)
    return
    yield b""


def two_steps(environ, query):
    """A finished wait leaves nothing for the next one."""
    reader, writer = os.pipe()
    try:
        os.write(writer, b"!")
        uwsgi.wait_fd_read(reader, 5)
        yield b""
        first = name_of(uwsgi.ready_fd(), reader=reader)
        uwsgi.async_sleep(0.01)
        yield b""
        yield f"{first} {uwsgi.ready_fd()} {timed_out(environ)}".encode()
    finally:
        os.close(reader)
        os.close(writer)


def then_plain(environ, query):
    """Plain yields after a wait say that they waited for nothing, joined or not."""
    reader, writer = os.pipe()
    try:
        os.write(writer, b"!")
        uwsgi.wait_fd_read(reader, 5)
        yield b""
        yield b"." if uwsgi.ready_fd() == reader else b"not ready "
        said = set()
        for _ in range(int(query["yields"])):
            yield b""
            said.add(result(environ))
        yield " ".join(sorted(said)).encode()
    finally:
        os.close(reader)
        os.close(writer)


def application(environ, start_response):
    query = {k: v[0] for k, v in parse_qs(environ["QUERY_STRING"]).items()}
    start_response("200 OK", TEXT)
    return globals()[environ["PATH_INFO"][1:]](environ, query)
