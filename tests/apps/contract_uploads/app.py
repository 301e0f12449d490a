"""Reads the body in the way the path names and says what it was: length, SHA-256, pieces.

`read`, `pieces`, `lines`, `iterate` and `into` read in one go. `yielding` gives way after each
piece of `size` bytes, after the first one until `together` such requests have begun; `suspending`
gives way with uwsgi.suspend().
"""

import hashlib
import json
from urllib.parse import parse_qs

import uwsgi

begun = 0


def read(body, size):
    yield body.read()


def pieces(body, size):
    while piece := body.read(size):
        yield piece


def lines(body, size):
    while line := body.readline():
        yield line


def iterate(body, size):
    yield from body


def into(body, size):
    buffer = bytearray(size)
    while count := body.readinto(buffer):
        yield bytes(buffer[:count])


def application(environ, start_response):
    how = environ["PATH_INFO"][1:]
    query = parse_qs(environ["QUERY_STRING"])
    size = int(query.get("size", ["4096"])[0])
    start_response("200 OK", [("Content-Type", "application/json")])
    body = environ["wsgi.input"]
    if how == "hello":
        return [b"hello\n"]
    if how == "yielding":
        return yielding(body, size, int(query.get("together", ["1"])[0]))
    if how == "suspending":
        return [summary(suspending(body, size))]
    return [summary(globals()[how](body, size))]


def yielding(body, size, together):
    global begun
    found = []
    begun += together > 1
    for piece in pieces(body, size):
        found.append(piece)
        while together > 1 and begun % together:
            uwsgi.async_sleep(0.001)
            yield b""
        yield b""
    yield summary(found)


def suspending(body, size):
    for piece in pieces(body, size):
        uwsgi.suspend()
        yield piece


def summary(found):
    digest, length, count = hashlib.sha256(), 0, 0
    for piece in found:
        digest.update(piece)
        length += len(piece)
        count += 1
    said = {"length": length, "sha256": digest.hexdigest(), "pieces": count}
    return json.dumps(said).encode()
