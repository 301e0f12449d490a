"""Logs `opened NAME` and `closed NAME`: every iterable is closed, in every ending.

/KIND/NAME, and ?N announces a body of N bytes.
"""

import uwsgi


class Tracked:
    def __init__(self, name, items):
        self.name = name
        self.items = items
        uwsgi.log(f"opened {name}")

    def __iter__(self):
        return iter(self.items)

    def close(self):
        uwsgi.log(f"closed {self.name}")


def failing():
    yield b"part"
    raise ValueError("boom in the iterator")


def endless():
    while True:
        yield b"x" * 65536


def cleaned(name):
    try:
        while True:
            yield b"x" * 65536
    finally:
        uwsgi.log(f"closed {name}")


def application(environ, start_response):
    kind, name = environ["PATH_INFO"].strip("/").split("/")
    headers = [("Content-Type", "text/plain")]
    if environ["QUERY_STRING"]:
        headers.append(("Content-Length", environ["QUERY_STRING"]))
    start_response("200 OK", headers)
    if kind == "whole":
        return Tracked(name, [b"a", b"b"])
    if kind == "empty":
        return Tracked(name, [])
    if kind == "failing":
        return Tracked(name, failing())
    if kind == "endless":
        return Tracked(name, endless())
    return cleaned(name)
