"""Iterables of every kind; each yield is a switch. What waits for a start waits for one pipe."""

from __future__ import annotations

import os
from urllib.parse import parse_qs

import uwsgi

TEXT = [("Content-Type", "text/plain")]
pipe = []
order = []
flags = set()


def numbered(query):
    for number in range(int(query["parts"])):
        yield b"%d\n" % number


def with_empty_parts(query):
    """Empty parts of each kind are switches and nothing else."""
    for number in range(int(query["parts"])):
        yield b""
        yield b"%d\n" % number
        yield ""
        yield None


def delegated(query):
    def part(number):
        yield b"%d" % number
        yield b"\n"

    for number in range(int(query["parts"])):
        yield from part(number)


class Iterator:
    """An iterable that is no generator."""

    def __init__(self, parts):
        self.parts = parts
        self.number = -1

    def __iter__(self):
        return self

    def __next__(self):
        self.number += 1
        if self.number == self.parts:
            raise StopIteration
        return b"%d\n" % self.number


def iterator(query):
    return Iterator(int(query["parts"]))


def whole_list(query):
    return [b"%d\n" % number for number in range(int(query["parts"]))]


def whole_bytes(query):
    return b"".join(whole_list(query))


def nothing(query):
    return []


def sleeping(query):
    """Every other yield is a wait."""
    for number in range(int(query["parts"])):
        uwsgi.async_sleep(0.001)
        yield b""
        yield b"%d\n" % number


def mixed(query):
    """Yields and suspensions are counted alike."""
    for number in range(int(query["parts"])):
        uwsgi.suspend()
        yield b"%d\n" % number
        uwsgi.suspend()


def started():
    """Waits for the pipe that all waiters share."""
    if not pipe:
        pipe.extend(os.pipe())
    uwsgi.wait_fd_read(pipe[0], 8)
    return b"waiting\n"


def poke(query):
    order.clear()
    os.write(pipe[1], b"!")
    yield b"poked"


def tidy(query):
    while pipe:
        os.close(pipe.pop())
    flags.clear()
    yield b"tidy"


def by_yields(query):
    """Writes its name at each of its turns; a turn ends with a yield."""
    yield started()
    for _ in range(int(query["turns"])):
        order.append(query["name"])
        yield b""
    yield "".join(order).encode()


def by_suspends(query):
    """The same; a turn ends with a suspension."""
    yield started()
    for _ in range(int(query["turns"])):
        order.append(query["name"])
        uwsgi.suspend()
    yield "".join(order).encode()


def until_flag(query):
    """Runs at every turn of the run queue until another request raises the flag."""
    yield b"begun\n"
    while query["name"] not in flags:
        yield b""
    yield b"seen"


def raise_flag(query):
    if "seconds" in query:
        uwsgi.async_sleep(float(query["seconds"]))
        yield b""
    flags.add(query["name"])
    yield b"raised"


HANDLERS = {
    "numbered": numbered,
    "with_empty_parts": with_empty_parts,
    "delegated": delegated,
    "iterator": iterator,
    "whole_list": whole_list,
    "whole_bytes": whole_bytes,
    "nothing": nothing,
    "sleeping": sleeping,
    "mixed": mixed,
    "poke": poke,
    "tidy": tidy,
    "by_yields": by_yields,
    "by_suspends": by_suspends,
    "until_flag": until_flag,
    "raise_flag": raise_flag,
}


def application(environ, start_response):
    query = {k: v[0] for k, v in parse_qs(environ["QUERY_STRING"]).items()}
    start_response("200 OK", TEXT)
    return HANDLERS[environ["PATH_INFO"][1:]](query)
