"""Requests that stand still somewhere deep: the names of the functions must be found in the log."""

import os
import time
from urllib.parse import parse_qs

import uwsgi

TEXT = [("Content-Type", "text/plain")]
gate = os.open(os.environ["GATE"], os.O_RDWR | os.O_NONBLOCK)
never = os.eventfd(0, os.EFD_NONBLOCK)


def passed():
    try:
        return bool(os.read(gate, 1))
    except BlockingIOError:
        return False


def yielding_outer(query):
    yield from yielding_middle()


def yielding_middle():
    yield from yielding_inner()


def yielding_inner():
    while not passed():
        yield uwsgi.wait_fd_read(gate)
    yield b"yielded\n"


def suspending_outer(query):
    return [suspending_key(query)]


def suspending_key(query):
    return sorted([b"suspended\n"], key=suspending_inner)[0]


def suspending_inner(number):
    while not passed():
        uwsgi.wait_fd_read(gate)
        uwsgi.suspend()
    return number


def sleeping_outer(query):
    return [b"".join(sleeping_generator())]


def sleeping_generator():
    while not passed():
        uwsgi.async_sleep(0.05)
        uwsgi.suspend()
    yield b"slept\n"


def busy_outer(query):
    return [busy_inner()]


def busy_inner():
    end = time.monotonic() + 20
    while not passed() and time.monotonic() < end:
        pass
    return b"computed\n"


def hello(query):
    return [b"hello\n"]


def application(environ, start_response):
    query = {key: value[0] for key, value in parse_qs(environ["QUERY_STRING"]).items()}
    start_response("200 OK", TEXT)
    return globals()[environ["PATH_INFO"][1:]](query)
