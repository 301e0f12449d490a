"""Streams whose end suspends once more."""

from __future__ import annotations

import uwsgi


def stream():
    try:
        while True:
            uwsgi.async_sleep(0.01)
            uwsgi.suspend()
            yield b"part"
    finally:
        uwsgi.async_sleep(0.01)
        try:
            uwsgi.suspend()
        except uwsgi.Cancelled:
            uwsgi.log("told again")
            raise


def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return stream()
