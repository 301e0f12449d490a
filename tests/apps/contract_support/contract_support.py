"""What applications of the contract tests share: requests that count, and a place where they meet.

An application puts this folder on its path, and each of its handlers takes a `Request`. The answer
is JSON: what the handler returned, and how often it was suspended, which the test compares with
the server's own count.
"""

from __future__ import annotations

import json
import os
from urllib.parse import parse_qs

import uwsgi

PATIENCE_S = 8
"""Longer than a loaded machine needs, shorter than a client waits."""

meetings = {}


class Request:
    """The request that a handler runs for."""

    def __init__(self, environ):
        self.environ = environ
        self.query = {k: v[0] for k, v in parse_qs(environ["QUERY_STRING"]).items()}
        self.number = int(self.query.get("n", 0))
        self.suspends = 0

    def suspend(self):
        """One switch, after whatever wait was registered."""
        self.suspends += 1
        assert uwsgi.suspend() is True

    def pause(self, value=None):
        """Goes to the end of the run queue and comes back with its argument."""
        self.suspend()
        return value

    def wait_read(self, fd):
        uwsgi.wait_fd_read(fd, PATIENCE_S)
        self.suspend()
        assert uwsgi.ready_fd() == fd, f"descriptor {fd} did not become ready in time"

    def meet(self, name="", of=None):
        """Returns once so many requests are here; a suspension of each, the last one's, too."""
        name = f"{self.environ['PATH_INFO']} {name}"
        reader, writer = os.pipe()
        try:
            here = meetings.setdefault(name, [])
            here.append(writer)
            if len(here) == int(of or self.query["of"]):
                for fd in meetings.pop(name):
                    os.write(fd, b"!")
            self.wait_read(reader)
        finally:
            os.close(reader)
            os.close(writer)


def application_of(handlers):
    """The WSGI application that calls the handler named by the path."""

    def application(environ, start_response):
        request = Request(environ)
        result = handlers[environ["PATH_INFO"][1:]](request)
        answer = {"n": request.number, "suspends": request.suspends, "result": result}
        start_response("200 OK", [("Content-Type", "application/json")])
        return [json.dumps(answer).encode()]

    return application
