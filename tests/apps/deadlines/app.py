"""Requests that take longer than they may. `/closed` says which of them were closed."""

import uwsgi

TEXT = [("Content-Type", "text/plain")]
closed = []


def late(environ, start_response):
    """Nothing is sent: there is no part yet."""
    start_response("200 OK", TEXT)
    try:
        yield uwsgi.async_sleep(60)
        yield b"too late"
    finally:
        closed.append(environ["PATH_INFO"])


def streams(environ, start_response):
    start_response("200 OK", TEXT)
    try:
        yield b"part"
        yield uwsgi.async_sleep(60)
    finally:
        closed.append(environ["PATH_INFO"])


def steps(environ, start_response):
    """Ten short sleeps, together longer than a deadline."""
    start_response("200 OK", TEXT)
    for number in range(10):
        # The first part is there before any deadline can be over.
        yield b"%d" % number
        yield uwsgi.async_sleep(0.03)


def report(environ, start_response):
    start_response("200 OK", TEXT)
    return [" ".join(closed).encode()]


def application(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/closed":
        return report(environ, start_response)
    if path.startswith("/streams"):
        return streams(environ, start_response)
    if path.endswith("/steps"):
        return steps(environ, start_response)
    return late(environ, start_response)
