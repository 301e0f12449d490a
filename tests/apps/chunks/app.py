"""Makes greenlets, threads and children, and tells what the cache of chunks says about them."""

import json
import os
import threading

import greenlet
from greenloom import _greenloom

FIELDS = ("limit", "kept", "hits", "misses", "busy")


def deep(levels):
    """Frames enough for more than one chunk."""
    return deep(levels - 1) + 1 if levels else 0


def filled(value, levels=20):
    """Frames whose locals must all be their own."""
    a, b, c, d = value, value + 1, value + 2, value + 3
    below = filled(value + 4, levels - 1) if levels else 0
    assert (a, b, c, d) == (value, value + 1, value + 2, value + 3)
    return below + a + b + c + d


EXPECTED = {value: filled(value) for value in range(100)}


def short(count):
    """One greenlet after the other."""
    for number in range(count):
        value = number % 100
        assert greenlet.greenlet(filled).switch(value) == EXPECTED[value]


def together(count):
    """All greenlets at once, each suspended with its frames."""

    def run(value):
        greenlet.getcurrent().parent.switch()
        return filled(value)

    made = [greenlet.greenlet(run) for _ in range(count)]
    for number, each in enumerate(made):
        each.switch(number % 100)
    for number, each in enumerate(made):
        assert each.switch() == EXPECTED[number % 100]
        assert each.dead


def threads(count):
    """Threads that come and go while greenlets do, in them and here."""
    failures = []

    def work():
        try:
            for _ in range(count):
                short(5)
                inner = threading.Thread(target=short, args=(2,))
                inner.start()
                inner.join()
        except BaseException as error:
            failures.append(repr(error))

    running = [threading.Thread(target=work) for _ in range(8)]
    for each in running:
        each.start()
    short(count)
    for each in running:
        each.join()
    assert not failures, failures


def fork(count):
    """A child that uses what it has got from its parent, and more; its numbers."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            short(count)
            together(20)
            os.write(writer, json.dumps(numbers()).encode())
            code = 0
        finally:
            os._exit(code)
    os.close(writer)
    with open(reader, "rb") as pipe:
        answer = pipe.read()
    _, status = os.waitpid(child, 0)
    assert status == 0, status
    return json.loads(answer)


def numbers():
    return dict(zip(FIELDS, _greenloom.chunk_cache_stats(), strict=True))


def application(environ, start_response):
    what, _, count = environ["PATH_INFO"].strip("/").partition("/")
    before = numbers()
    answer = {"result": globals()[what](int(count))} if what else {}
    answer |= {"before": before, "after": numbers()}
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(answer).encode()]
