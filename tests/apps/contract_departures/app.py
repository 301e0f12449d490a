"""Requests that wait in many ways until somebody ends them, and tell the log how they ended.

`/KIND?name=N&stage=before` waits before the first byte, `stage=mid` after the first part. The log
then has `N began`, `N left by EXCEPTION`, `N finally` and `N closed`.
"""

import os
from contextlib import contextmanager
from urllib.parse import parse_qs

import uwsgi

FOR_EVER_S = 3600
BLOCK = b"d" * 65_536
gate = os.open(os.environ["GATE"], os.O_RDWR | os.O_NONBLOCK)
never = os.eventfd(0, os.EFD_NONBLOCK)


def passed():
    try:
        return bool(os.read(gate, 1))
    except BlockingIOError:
        return False


def yield_wait(send):
    yield uwsgi.wait_fd_read(never)


def yield_sleep(send):
    yield uwsgi.async_sleep(FOR_EVER_S)


def yield_again_and_again(send):
    while True:
        yield b""


def yield_stalled(send):
    while True:
        yield BLOCK


def yield_gate(send):
    while not passed():
        yield uwsgi.wait_fd_read(gate)


def suspend_wait(send):
    uwsgi.wait_fd_read(never)
    uwsgi.suspend()
    yield b""


def suspend_sleep(send):
    uwsgi.async_sleep(FOR_EVER_S)
    uwsgi.suspend()
    yield b""


def suspend_again_and_again(send):
    while True:
        uwsgi.suspend()
    yield b""


def suspend_gate(send):
    while not passed():
        uwsgi.wait_fd_read(gate)
        uwsgi.suspend()
    yield b""


def write_stalled(send):
    while True:
        send(BLOCK)
    yield b""


def send_stalled(send):
    while True:
        uwsgi.send(BLOCK)
    yield b""


@contextmanager
def noted(name):
    uwsgi.log(f"{name} began")
    try:
        yield
    except BaseException as error:
        uwsgi.log(f"{name} left by {type(error).__name__}")
        raise
    finally:
        uwsgi.log(f"{name} finally")


class Body:
    """Tells of its end: an iterable is closed once, whatever happens."""

    def __init__(self, name, parts):
        self.name = name
        self.parts = parts

    def __iter__(self):
        return self

    def __next__(self):
        return next(self.parts)

    def close(self):
        uwsgi.log(f"{self.name} closed")
        self.parts.close()


def parts(name, kind, stage, send):
    with noted(name):
        if stage == "mid":
            yield b"part\n"
        yield from globals()[kind](send)
        yield b"end\n"


def application(environ, start_response):
    kind = environ["PATH_INFO"][1:]
    send = start_response("200 OK", [("Content-Type", "text/plain")])
    if kind == "hello":
        return [b"hello\n"]
    query = {key: value[0] for key, value in parse_qs(environ["QUERY_STRING"]).items()}
    return Body(query["name"], parts(query["name"], kind, query["stage"], send))
