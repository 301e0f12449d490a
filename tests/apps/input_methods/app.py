"""wsgi.input read in every way; the answer is what was read, as JSON."""

import hashlib
import json


def text(data):
    return data.decode("latin-1")


def read(stream):
    return [text(stream.read())]


def read_sized(stream):
    found = []
    while data := stream.read(7):
        found.append(text(data))
    return found


def read_minus_one(stream):
    return [text(stream.read(-1)), text(stream.read()), text(stream.read(5))]


def read_nothing(stream):
    return [text(stream.read(0)), text(stream.read(3)), text(stream.read(0))]


def readline(stream):
    found = []
    while line := stream.readline():
        found.append(text(line))
    return found


def readline_sized(stream):
    found = []
    while line := stream.readline(4):
        found.append(text(line))
    return found


def readlines(stream):
    return [text(line) for line in stream.readlines()]


def readlines_hint(stream):
    return [text(line) for line in stream.readlines(1)]


def iterate(stream):
    return [text(line) for line in stream]


def mixed(stream):
    return [
        text(stream.readline()),
        text(stream.read(3)),
        text(next(iter(stream))),
        text(stream.read()),
        text(stream.read()),
    ]


def readinto(stream):
    buffer = bytearray(6)
    size = stream.readinto(buffer)
    return [text(bytes(buffer[:size])), str(stream.readable())]


def digest(stream):
    total = hashlib.sha256()
    size = 0
    while data := stream.read(65536):
        total.update(data)
        size += len(data)
    return [str(size), total.hexdigest()]


def digest_at_once(stream):
    data = stream.read()
    return [str(len(data)), hashlib.sha256(data).hexdigest()]


def unread(stream):
    return ["nothing was read"]


def application(environ, start_response):
    how = globals()[environ["PATH_INFO"][1:]]
    answer = json.dumps(how(environ["wsgi.input"])).encode()
    start_response("200 OK", [("Content-Type", "application/json")])
    return [answer]
