"""Blocks its worker in a named way, for half a second; the answer says nothing of it."""

import os
import time

import uwsgi
from uwsgidecorators import postfork

BLOCK_S = 0.5


def sleeps():
    time.sleep(BLOCK_S)


def computes():
    end = time.monotonic() + BLOCK_S
    while time.monotonic() < end:
        pass


def suspended_before():
    uwsgi.async_sleep(0.01)
    if uwsgi.loop == b"gevent":
        import gevent

        gevent.sleep(0.01)
    elif uwsgi.loop:
        import asyncio

        from greenloom import aio

        aio.wait(asyncio.sleep(0.01))
    uwsgi.suspend()
    time.sleep(BLOCK_S)


def gives_way():
    for _ in range(10):
        uwsgi.async_sleep(BLOCK_S / 10)
        uwsgi.suspend()


def handler(number):
    time.sleep(BLOCK_S)


@postfork
def slow_start():
    """No loop waits for it."""
    time.sleep(float(os.environ.get("START_S", "0")))


uwsgi.register_signal(17, "worker", handler)

CASES = {"/sleeps": sleeps, "/computes": computes, "/suspended": suspended_before}
CASES |= {"/gives_way": gives_way, "/signal": lambda: uwsgi.signal(17), "/nothing": lambda: None}


def application(environ, start_response):
    CASES[environ["PATH_INFO"]]()
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"done"]
