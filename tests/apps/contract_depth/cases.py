"""The list of cases, and what they share.

A case computes something with the help of a callback, and the callback is where the request is
suspended: `pause(value)` returns `value`. What a case returns must not depend on what else `pause`
does. `size` differs between requests, so that they end in another order than they began.
"""

from __future__ import annotations

import os

CASES = {}
UNCOUNTED = set()
ENVIRONS = {}
"""Of the requests that run, by number."""


def case(function):
    """A function of (pause, n, size)."""
    CASES[function.__name__] = function
    return function


def uncounted(function):
    """One whose number of pauses is not the same each time, or not this request's own."""
    UNCOUNTED.add(function.__name__)
    return case(function)


class File:
    """A file object all of whose methods are suspended."""

    def __init__(self, pause, parts, fd=None):
        self.pause = pause
        self.parts = parts
        self.fd = fd

    def read(self, size):
        return self.pause(self.parts.pop(0) if self.parts else b"")

    def flush(self):
        self.pause()

    def fileno(self):
        return self.pause(self.fd)

    def close(self):
        self.pause()
        if self.fd is not None:
            os.close(self.fd)
