"""Reads bodies while they come. The last part of the path names the view."""

from __future__ import annotations

import hashlib
import io
import json
import threading

import uwsgi

missed = []
"""Polls that have found nothing."""

readers = []
"""Greenlets that an exception is to be thrown into."""

seen = []
"""What views that lose their client have to say, for a later request."""

kept = []
"""Inputs of earlier requests."""


def failure(call, *arguments):
    try:
        result = call(*arguments)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return f"returned {result!r}"


def hello(environ):
    return "hello"


def digest(environ):
    """The whole body at once."""
    data = environ["wsgi.input"].read()
    return [len(data), hashlib.sha256(data).hexdigest()]


def digest_pieces(environ):
    """Into a buffer, piece by piece."""
    total = hashlib.sha256()
    size = 0
    buffer = bytearray(10_000)
    while count := environ["wsgi.input"].readinto1(buffer):
        total.update(memoryview(buffer)[:count])
        size += count
    return [size, total.hexdigest()]


def later(environ):
    """Reads when everything has long been there."""
    uwsgi.async_sleep(0.05)
    uwsgi.suspend()
    return environ["wsgi.input"].read().decode()


def first(environ):
    """Answers after three bytes."""
    return environ["wsgi.input"].read(3).decode()


def unread(environ):
    return "not read"


def fails(environ):
    """Says what a read that fails has raised, and what another one raises."""
    stream = environ["wsgi.input"]
    before = stream.read1().decode()
    found = [before, failure(stream.read), failure(stream.read1)]
    seen.append(found)
    return found


def lets_fail(environ):
    return environ["wsgi.input"].read().decode()


def cancelled(environ):
    try:
        return environ["wsgi.input"].read().decode()
    except uwsgi.Cancelled as error:
        seen.append(error.reason)
        raise


def report(environ):
    found = list(seen)
    seen.clear()
    return found


def surface(environ):
    stream = environ["wsgi.input"]
    found = {
        "seekable": stream.seekable(),
        "readable": stream.readable(),
        "buffered": isinstance(stream, io.BufferedIOBase),
        "seek": failure(stream.seek, 0),
        "tell": failure(stream.tell),
        "length": environ.get("CONTENT_LENGTH"),
        "terminated": environ["wsgi.input_terminated"],
        "body": stream.read().decode(),
        "after": repr(stream.read(10)),
    }
    stream.close()
    return {**found, "closed": failure(stream.read)}


def thread(environ):
    """Lets a thread read, and reads then."""
    found = []
    reader = threading.Thread(target=lambda: found.append(failure(environ["wsgi.input"].read)))
    reader.start()
    reader.join()
    return [*found, environ["wsgi.input"].read().decode()]


def greenlets(environ):
    """Lets a greenlet of the application read, and reads then."""
    import greenlet

    found = greenlet.greenlet(lambda: failure(environ["wsgi.input"].read)).switch()
    return [found, environ["wsgi.input"].read().decode()]


def keep(environ):
    kept.append(environ["wsgi.input"])
    return environ["wsgi.input"].read().decode()


def use_kept(environ):
    return [failure(kept.pop().read), environ["wsgi.input"].read().decode()]


def interrupted(environ):
    """Is thrown an exception in the middle of a read, and goes on reading."""
    import greenlet

    me = greenlet.getcurrent()
    readers.append(me)
    stream = environ["wsgi.input"]
    try:
        stream.read()
    except KeyError as error:
        return [str(error), stream.readline().decode(), stream.read().decode()]
    return "was not interrupted"


def throw(environ):
    while not readers:
        uwsgi.async_sleep(0.005)
        uwsgi.suspend()
    # The other greenlet gives control to the loop, and not back: this is what resumes this one.
    uwsgi.async_sleep(0.01)
    readers.pop().throw(KeyError("thrown"))
    return "thrown"


def chunks_nb(environ):
    """Polls; notes that there was nothing, once in a row."""
    missed.clear()
    found = []
    while (piece := uwsgi.chunked_read_nb()) != b"":
        if piece is None:
            if not found or found[-1] is not None:
                found.append(None)
                missed.append(True)
            uwsgi.async_sleep(0.005)
            uwsgi.suspend()
        else:
            found.append(piece.decode())
    return found


def chunk_is_missed(environ):
    """Answers when `chunks_nb` has found nothing."""
    while not missed:
        uwsgi.async_sleep(0.005)
        uwsgi.suspend()
    return "missed"


def chunks(environ):
    found = []
    while piece := uwsgi.chunked_read():
        found.append(piece.decode())
    return found


def chunk_timeout(environ, start_response):
    """Waits too briefly, says so, and waits long enough."""
    start_response("200 OK", [("Content-Type", "text/plain")])
    yield uwsgi.chunked_read(10)
    yield failure(uwsgi.chunked_read, 0.05).encode()
    yield uwsgi.chunked_read(10)


def patient(environ, start_response):
    """Does something else for more than a second before it reads."""
    start_response("200 OK", [("Content-Type", "text/plain")])
    uwsgi.async_sleep(1.2)
    uwsgi.suspend()
    yield b"reading"
    yield environ["wsgi.input"].read()


def echo(environ, start_response):
    """Each piece back as soon as it is there."""
    start_response("200 OK", [("Content-Type", "text/plain")])
    while piece := environ["wsgi.input"].read1(1000):
        yield piece


def application(environ, start_response):
    name = environ["PATH_INFO"].rpartition("/")[2]
    if name in ("echo", "chunk_timeout", "patient"):
        return globals()[name](environ, start_response)
    answer = json.dumps(globals()[name](environ)).encode()
    start_response(
        "200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(answer)))]
    )
    return [answer]
