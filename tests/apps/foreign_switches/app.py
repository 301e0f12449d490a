"""Does to the greenlets of requests what an application could, and a sane one would not."""

from __future__ import annotations

import greenlet
import uwsgi

KEPT = {}


def stubborn(environ, start_response):
    """Swallows what tells it to end, in a switch of its own; goes on when it was given up."""
    KEPT["stubborn"] = greenlet.getcurrent()
    KEPT["told"] = 0
    while "go on" not in KEPT:
        try:
            greenlet.getcurrent().parent.switch()
        except uwsgi.Cancelled:
            KEPT["told"] += 1
    return parts()


def parts():
    yield b"of a request that was given up"


def wake(environ, start_response):
    """Wakes the one that was given up; from there control goes to the loop, not back here."""
    KEPT["go on"] = True
    KEPT["stubborn"].switch()


def stands(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    yield b"one "
    while "go on" not in KEPT:
        uwsgi.async_sleep(0.005)
        uwsgi.suspend()
    for part in (b"two ", b"three"):
        uwsgi.async_sleep(0.05)
        uwsgi.suspend()
        yield part


def trace(environ, start_response):
    """A trace function that raises at the n-th switch from now on."""
    number = int(environ["QUERY_STRING"])
    switches = iter(range(1, number + 1))

    def raise_once(event, arguments):
        if next(switches, None) == number:
            raise ValueError("raised by the trace function")

    greenlet.settrace(raise_once)
    return reply(start_response)


def sleep(environ, start_response):
    uwsgi.async_sleep(0.005)
    uwsgi.suspend()
    return reply(start_response)


def told(environ, start_response):
    return reply(start_response, str(KEPT["told"]))


def reply(start_response, text="ok"):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [text.encode()]


def application(environ, start_response):
    return globals()[environ["PATH_INFO"].strip("/")](environ, start_response)
