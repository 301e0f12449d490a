"""Says which interpreter runs it, after having been suspended once."""

from __future__ import annotations

import sys

import uwsgi


def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    uwsgi.async_sleep(0.001)
    yield b""
    yield f"{sys.version_info[:3]} {sys.prefix}".encode()
