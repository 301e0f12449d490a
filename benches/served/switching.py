"""The application of benches/switching.py: suspends, and says what that has cost."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any

import uwsgi

PLAIN = [("Content-Type", "text/plain"), ("Content-Length", "3")]
FRAMES = 12


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Answer at once, suspend over and over, or stand deep in the stack for ever."""
    path = environ["PATH_INFO"]
    if path == "/hello":
        start_response("200 OK", PLAIN)
        return [b"ok\n"]
    if path == "/cpu":
        body = b"%d" % time.process_time_ns()
    elif path == "/suspend":
        body = b"%d" % suspend(int(environ["QUERY_STRING"]))
    else:
        deep(environ, FRAMES)
        body = b"never"
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]


def suspend(times: int) -> int:
    """Give way so often; the nanoseconds from the first to the last."""
    give_way = uwsgi.suspend
    begun = time.perf_counter_ns()
    for _ in range(times):
        give_way()
    return time.perf_counter_ns() - begun


def deep(environ: dict[str, Any], frames: int) -> None:
    """As an application with a framework stands: frames of its own, and C code between them."""
    if frames > 0:
        deep(environ, frames - 1)
    else:
        sorted([1, 2], key=lambda _: wait())


def wait() -> int:
    """Suspend for longer than anybody looks."""
    uwsgi.async_sleep(3600)
    uwsgi.suspend()
    return 0
