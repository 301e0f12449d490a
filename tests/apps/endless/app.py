"""/endless never ends; the number of chunks made so far stands in the file named by COUNTER."""

import mmap
import os
import struct

import uwsgi

counter = mmap.mmap(os.open(os.environ["COUNTER"], os.O_RDWR), 8)


def endless(size):
    try:
        number = 0
        while True:
            number += 1
            struct.pack_into("<Q", counter, 0, number)
            yield b"e" * size
    finally:
        uwsgi.log("endless closed")


def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "application/octet-stream")])
    if environ["PATH_INFO"] == "/endless":
        return endless(int(environ["QUERY_STRING"] or 65536))
    return [b"hello\n"]
