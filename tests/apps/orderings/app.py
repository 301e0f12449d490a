"""Responses that wait, stall or go on alone; the file named by COUNTER says how far one got."""

import mmap
import os
import struct
import time
from urllib.parse import parse_qs

import uwsgi

counter = mmap.mmap(os.open(os.environ["COUNTER"], os.O_RDWR), 8)
pipes = {}


def reached(step):
    struct.pack_into("<Q", counter, 0, step)


def gate():
    return os.open(os.environ["GATE"], os.O_RDWR | os.O_NONBLOCK)


def computing(query):
    """A large part and, at once, a small one behind it; then the CPU is busy for some ms."""
    for number in range(int(query["parts"])):
        reached(number)
        yield (b"%07d\n" % number) * (100 if number % 2 else 5000)
        if number % 2:
            until = time.monotonic() + 0.003
            while time.monotonic() < until:
                pass


def wait_then_part(query):
    """What comes after a part of SIZE bytes says which wait its yield ended by."""
    reader, writer = pipes["waiting"] = os.pipe()
    try:
        if "early" in query:
            os.write(writer, b"!")
        uwsgi.wait_fd_read(reader)
        yield b"x" * int(query["size"])
        yield b"ready" if uwsgi.ready_fd() == reader else b"ready_fd %d" % uwsgi.ready_fd()
    finally:
        del pipes["waiting"]
        os.close(reader)
        os.close(writer)


def poke(query):
    os.write(pipes["waiting"][1], b"!")
    yield b"poked"


def sleep_then_part(query):
    seconds = float(query["seconds"])
    end = time.monotonic() + seconds
    try:
        uwsgi.async_sleep(seconds)
        yield b"x" * int(query["size"])
        reached(1)
        yield b"slept" if time.monotonic() >= end else b"too early"
    finally:
        uwsgi.log("sleeper closed")


def own_connection(query):
    yield b"a\n"
    uwsgi.wait_fd_read(uwsgi.connection_fd(), float(query["timeout"]))
    yield b"b\n"
    yield b"ready_fd %d\n" % uwsgi.ready_fd()


def hold(query):
    """Keeps its core until a byte comes out of the gate."""
    fd = gate()
    try:
        yield b"held\n"
        yield from passed(fd)
    finally:
        os.close(fd)
    yield b"released\n"


def passed(fd):
    while True:
        uwsgi.wait_fd_read(fd)
        yield b""
        try:
            os.read(fd, 1)
        except BlockingIOError:
            continue
        return


def blocked(query):
    """The whole worker stands still, as in a call into a library that knows nothing of it."""
    time.sleep(float(query["seconds"]))
    return [b"x" * int(query["size"])]


def alone(query):
    """Goes on without its client, first through a wait and then through plain yields."""
    fd = gate()
    try:
        yield b"first\n"
        uwsgi.disconnect()
        yield b"nobody reads this"
        reached(1)
        yield from passed(fd)
        reached(2)
        yield b"nor this"
        reached(3)
    finally:
        os.close(fd)
        uwsgi.log("disconnected one closed")


def pid(query):
    yield b"%d" % os.getpid()


def endless():
    number = 0
    while True:
        number += 1
        reached(number)
        yield b"e" * 10000


def application(environ, start_response):
    reached(0)
    path, query = environ["PATH_INFO"], parse_qs(environ["QUERY_STRING"], keep_blank_values=True)
    query = {name: values[0] for name, values in query.items()}
    write = start_response("200 OK", [("Content-Type", "application/octet-stream")])
    if path == "/write_then_endless":
        write(b"w" * int(query["size"]))
        return endless()
    return PATHS[path](query)


PATHS = {
    "/": pid,
    "/alone": alone,
    "/blocked": blocked,
    "/computing": computing,
    "/hold": hold,
    "/own_connection": own_connection,
    "/poke": poke,
    "/sleep_then_part": sleep_then_part,
    "/wait_then_part": wait_then_part,
}
