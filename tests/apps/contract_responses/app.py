"""One body, sent in every way there is: `/HOW?blocks=N&block=BYTES`, or `&path=FILE` for files.

A block is its number in lines of eight bytes, so that a missing or doubled piece is seen. How many
blocks were made so far stands in the file named by COUNTER.
"""

import mmap
import os
import struct
from functools import lru_cache
from urllib.parse import parse_qs

import uwsgi

BINARY = [("Content-Type", "application/octet-stream")]
counter = mmap.mmap(os.open(os.environ["COUNTER"], os.O_RDWR), 8)


def block(number, size):
    struct.pack_into("<Q", counter, 0, number + 1)
    return (b"%07d\n" % number) * (size // 8)


@lru_cache(maxsize=1)
def whole(blocks, size):
    """Kept: what it takes is the application's, and is there before anything is measured."""
    return b"".join(block(n, size) for n in range(blocks))


def bytes_(start_response, query):
    start_response("200 OK", BINARY)
    return whole(query["blocks"], query["block"])


def list_(start_response, query):
    body, size = memoryview(whole(query["blocks"], query["block"])), query["block"]
    start_response("200 OK", BINARY)
    return [bytes(body[at : at + size]) for at in range(0, len(body), size)]


def generator(start_response, query):
    start_response("200 OK", BINARY)
    return (block(n, query["block"]) for n in range(query["blocks"]))


def sized(start_response, query):
    length = query["blocks"] * query["block"]
    start_response("200 OK", [*BINARY, ("Content-Length", str(length))])
    return (block(n, query["block"]) for n in range(query["blocks"]))


def write(start_response, query):
    send = start_response("200 OK", BINARY)
    for number in range(query["blocks"]):
        send(block(number, query["block"]))
    return []


def wrapper(start_response, query):
    start_response("200 OK", BINARY)
    # The server closes it.
    return query["environ"]["wsgi.file_wrapper"](open(query["path"], "rb"), query["block"])


def sendfile(start_response, query):
    start_response("200 OK", BINARY)
    uwsgi.sendfile(query["path"])
    return []


def send(start_response, query):
    """Past the headers: the application brings its own."""
    uwsgi.send(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
    for number in range(query["blocks"]):
        uwsgi.send(block(number, query["block"]))
    uwsgi.disconnect()
    return []


def hello(start_response, query):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"hello\n"]


def application(environ, start_response):
    query = {key: value[0] for key, value in parse_qs(environ["QUERY_STRING"]).items()}
    for key in ("blocks", "block"):
        query[key] = int(query.get(key, 1))
    query["environ"] = environ
    how = environ["PATH_INFO"][1:]
    return globals()[how + "_" if how in ("bytes", "list") else how](start_response, query)
