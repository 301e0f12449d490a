"""Requests that outlive their deadline, each in its own way; `?name=N` comes back in the answer."""

import os
import time
from urllib.parse import parse_qs

import uwsgi

TEXT = [("Content-Type", "text/plain")]
FOR_EVER_S = 3600
BLOCK = b"d" * 65_536
never = os.eventfd(0, os.EFD_NONBLOCK)


def yield_sleep(query, send):
    yield uwsgi.async_sleep(FOR_EVER_S)


def yield_wait(query, send):
    yield uwsgi.wait_fd_read(never)


def yield_again_and_again(query, send):
    while True:
        yield b""


def yield_short_sleeps(query, send):
    while True:
        yield uwsgi.async_sleep(0.01)


def suspend_sleep(query, send):
    uwsgi.async_sleep(FOR_EVER_S)
    uwsgi.suspend()
    yield b""


def suspend_wait(query, send):
    uwsgi.wait_fd_read(never)
    uwsgi.suspend()
    yield b""


def suspend_again_and_again(query, send):
    while True:
        uwsgi.suspend()
    yield b""


def suspend_short_sleeps(query, send):
    while True:
        uwsgi.async_sleep(0.01)
        uwsgi.suspend()
    yield b""


def yield_stalled(query, send):
    while True:
        yield BLOCK


def write_stalled(query, send):
    while True:
        send(BLOCK)
    yield b""


def compute(query, send):
    """Never gives way, so nobody can tell it anything before it has answered."""
    end = time.monotonic() + float(query["seconds"])
    while time.monotonic() < end:
        pass
    return [b"computed\n"]


def compute_then_yield(query, send):
    compute(query, send)
    # One that waits: a plain yield goes on at once while nobody else wants to.
    yield uwsgi.async_sleep(0.001)
    yield b"too late\n"


def compute_then_suspend(query, send):
    compute(query, send)
    uwsgi.suspend()
    return [b"too late\n"]


def read_body(query, send):
    """With --body-early: waits for bytes that do not come."""
    return [b"%d\n" % len(query["body"].read())]


def in_time(query, send):
    """Waits a little, then answers: `worst` is how much longer than asked it was kept waiting."""
    seconds, worst = float(query["seconds"]), 0.0
    for _ in range(int(query["times"])):
        began = time.monotonic()
        yield uwsgi.async_sleep(seconds)
        worst = max(worst, time.monotonic() - began - seconds)
    yield f"{query['name']} {worst:.6f}\n".encode()


def in_time_suspending(query, send):
    seconds, worst = float(query["seconds"]), 0.0
    for _ in range(int(query["times"])):
        began = time.monotonic()
        uwsgi.async_sleep(seconds)
        uwsgi.suspend()
        worst = max(worst, time.monotonic() - began - seconds)
    return [f"{query['name']} {worst:.6f}\n".encode()]


def hello(query, send):
    return [b"hello\n"]


def noted(name, parts):
    try:
        yield from parts
    finally:
        uwsgi.log(f"{name} closed")


def part_first(parts):
    yield b"part\n"
    yield from parts


def application(environ, start_response):
    query = {key: value[0] for key, value in parse_qs(environ["QUERY_STRING"]).items()}
    query["body"] = environ["wsgi.input"]
    send = start_response("200 OK", TEXT)
    found = globals()[environ["PATH_INFO"].rpartition("/")[2]](query, send)
    if "mid" in query:
        found = part_first(found)
    return noted(query["name"], found) if "noted" in query else found
