"""Answers with files: `/HOW?name=NAME&path=FILE&...`; what the application sees of it, it logs.

`fields` are further fields of the response, each `Name: value`.
"""

import gzip
import io
import os
import sys
import tempfile
from functools import partial
from pathlib import Path
from urllib.parse import parse_qs

import uwsgi


class Request:
    """One request: what it asks for, and what is said of it."""

    def __init__(self, environ, start_response):
        query = parse_qs(environ["QUERY_STRING"], keep_blank_values=True)
        self.query = {name: values[0] for name, values in query.items()}
        self.given = [tuple(field.split(": ", 1)) for field in query.get("fields", [])]
        self.environ, self.start_response = environ, start_response
        self.path = self.query.get("path", "")
        self.name = self.query.get("name", "it")

    def number(self, name, default=0):
        return int(self.query.get(name, default))

    def start(self, *fields):
        """Begins the response, and gives `write`."""
        if "length" in self.query:
            fields = (*fields, ("Content-Length", self.query["length"]))
        head = [*fields, *self.given]
        if "Content-Type" not in dict(head):
            head.append(("Content-Type", "application/octet-stream"))
        return self.start_response(self.query.get("status", "200 OK"), head)

    def say(self, what):
        uwsgi.log(f"{self.name} {what}")

    def sends(self, what, *numbers, **how):
        """Calls `uwsgi.sendfile`, and says what came of it."""
        try:
            sent = uwsgi.sendfile(what, *numbers, **how)
        except BaseException as error:
            self.say(f"raised {type(error).__name__}")
            if isinstance(error, OSError) and not isinstance(error, uwsgi.ClientGone):
                return
            raise
        self.say(f"sent {sent}")

    def closes(self, file):
        """The file, which says when it is closed."""

        def close(close=file.close):
            self.say("file closed")
            close()
            if "close" in self.query:
                raise RuntimeError("in close()")

        file.close = close
        return file


class Noted:
    """A body that says when it is closed."""

    def __init__(self, request, parts):
        self.request, self.parts = request, iter(parts)

    def __iter__(self):
        return self

    def __next__(self):
        return next(self.parts)

    def close(self):
        self.request.say("body closed")


def opened(request):
    """What uwsgi.sendfile is given, as `as` says, and whether it is closed."""
    path = request.path

    def is_open(fd, was):
        try:
            now = os.fstat(fd)
        except OSError:
            return False
        return (now.st_dev, now.st_ino) == (was.st_dev, was.st_ino)

    match request.query.get("as", "path"):
        case "path":
            return path, lambda: True
        case "bytes":
            return os.fsencode(path), lambda: True
        case "fd":
            fd = os.open(path, os.O_RDONLY)
            was = os.fstat(fd)
            return fd, lambda: not is_open(fd, was)
        case "pipe":
            fd, other = os.pipe()
            os.close(other)
            was = os.fstat(fd)
            return fd, lambda: not is_open(fd, was)
        case "raw":
            file = open(path, "rb", buffering=0)  # noqa: SIM115
        case "file":
            file = open(path, "rb")  # noqa: SIM115
        case "text":
            file = open(path, encoding="latin-1")  # noqa: SIM115
        case "pipe-file":
            fd, other = os.pipe()
            os.close(other)
            file = open(fd, "rb")  # noqa: SIM115
        case "written":
            file = tempfile.TemporaryFile()  # noqa: SIM115
            # In the buffer of the object.
            file.write(b"written")
        case "memory":
            file = io.BytesIO(b"no descriptor")
    return file, lambda: file.closed


def sendfile(request):
    if "unbegun" not in request.query:
        request.start()
    what, is_closed = opened(request)
    try:
        request.sends(what, 0, request.number("pos"), request.number("size"))
    finally:
        request.say(f"closed {is_closed()}")
    if "raise" in request.query:
        raise RuntimeError("after sendfile")
    return []


def relative(request):
    """Counted from where the server runs: `--chdir`."""
    request.start()
    request.sends("app.py")
    return []


def missing(request):
    """Where there is no file, there may be another answer."""
    request.start()
    request.sends(request.path)
    return [b"instead"]


def arguments(request):
    """What is no file and no range."""
    request.start()
    found = []
    for call in (
        (),
        (None,),
        (1.5,),
        (object(),),
        (request.path, 0, -1),
        (request.path, 0, 0, -1),
        (request.path, "0"),
        (-1,),
        (10_000,),
        (request.path + "\0",),
    ):
        try:
            found.append(str(uwsgi.sendfile(*call)))
        except Exception as error:
            found.append(type(error).__name__)
    return [" ".join(found).encode()]


def twice(request):
    request.start()
    request.sends(request.path, 0, 0, 1000)
    request.sends(request.path, 0, request.number("pos"), 500)
    return []


def between(request):
    """A generator that yields before, between and behind files."""
    request.start()
    yield b"<"
    request.sends(request.path, 0, 0, 1000)
    yield b"|"
    yield b""
    request.sends(request.path, 0, request.number("pos"))
    yield b">"


def written(request):
    write = request.start()
    write(b"<")
    request.sends(request.path, 0, 0, 1000)
    write(b"|")
    request.sends(request.path, 0, request.number("pos"))
    write(b">")
    return [b"."]


def context(request):
    """From a coroutine that is not the request's own, where there are such."""
    request.start()
    call = partial(request.sends, request.path, request_context=uwsgi.request_context())
    if uwsgi.loop == b"gevent":
        import gevent

        gevent.spawn(call).get()
    elif "greenlet" in request.query:
        import greenlet

        greenlet.greenlet(call).switch()
    else:
        call()
    return []


def many(request):
    """`count` calls for parts of the file, and how far they have got."""
    request.start()
    for number in range(request.number("count")):
        request.sends(request.path, 0, number, request.number("size"))
    return []


def source(request):
    """What the wrapper gets, as `as` says."""
    path = request.path
    match request.query.get("as", "file"):
        case "file":
            file = open(path, "rb")  # noqa: SIM115
        case "raw":
            file = open(path, "rb", buffering=0)  # noqa: SIM115
        case "random":
            file = open(path, "r+b")  # noqa: SIM115
        case "temporary":
            file = tempfile.NamedTemporaryFile()  # noqa: SIM115
            file.write(Path(path).read_bytes())
            file.seek(0)
        case "unnamed":
            file = tempfile.TemporaryFile()  # noqa: SIM115
            file.write(Path(path).read_bytes())
            file.seek(0)
        case "memory":
            file = io.BytesIO(Path(path).read_bytes())
        case "gzip":
            file = gzip.open(path + ".gz", "rb")  # noqa: SIM115
        case "pipe":
            fd, other = os.pipe()
            os.write(other, b"through a pipe")
            os.close(other)
            file = open(fd, "rb")  # noqa: SIM115
        case "reader":
            return Reader(request)
    return file if request.query.get("as") == "memory" else request.closes(file)


class Reader:
    """As little as a wrapper needs, and it says what it is asked for."""

    def __init__(self, request):
        self.request, self.left = request, Path(request.path).read_bytes()

    def read(self, *size):
        self.request.say(f"read {size}")
        part, self.left = (self.left[: size[0]], self.left[size[0] :]) if size else (self.left, b"")
        return part


def wrapper(request):
    if "early" in request.query:
        write = request.start()
        if request.query["early"]:
            write(request.query["early"].encode())
    file = source(request)
    match request.query.get("after"):
        case "read":
            assert len(file.read(100)) == 100
        case "line":
            file.readline()
        case "seek":
            file.seek(2000)
        case "end":
            file.seek(0, 2)
        case "beyond":
            file.seek(1000, 2)
        case "written":
            file.write(b"changed")
    if "early" not in request.query:
        request.start()
    block = (request.number("block"),) if "block" in request.query else ()
    made = request.environ["wsgi.file_wrapper"](file, *block)
    return request.environ["wsgi.file_wrapper"](made) if "twice" in request.query else made


def inside(request):
    """Wrappers among other parts of an iterable."""
    request.start()
    wrap = request.environ["wsgi.file_wrapper"]
    # An iterable in it is no part of WSGI; where it is taken, nobody but its maker closes it.
    with open(request.path, "rb") as file:
        yield b"<"
        yield wrap(file)
        yield b"|"
        file.seek(request.number("pos"))
        yield wrap(file)
        yield b">"


def sized_parts(request):
    """Files as parts, one after the other; how many were made is logged."""
    request.start()
    wrap = request.environ["wsgi.file_wrapper"]
    for number in range(request.number("count")):
        request.say(f"makes {number}")
        with open(request.path, "rb") as file:
            yield wrap(file)


def handed(request):
    """A file in a field, and a body beside it, as `body` says."""
    field = request.query.get("field", "X-Sendfile")
    path = os.fsencode(request.path).decode("latin-1")
    body = [b"a body that nobody gets"]
    how = request.query.get("body", "list")
    if how == "raise-before":
        request.start((field, path))
        raise RuntimeError("after start_response")
    write = request.start((field, path))
    match how:
        case "none":
            body = []
        case "write":
            write(b"written, too")
        case "sendfile":
            request.sends(request.path)
        case "endless":
            body = iter(partial(bytes, 1000), b"")
        case "late":
            body = late()
        case "wrapper":
            return request.environ["wsgi.file_wrapper"](source(request))
    return Noted(request, body)


def late():
    """Fails before anything was yielded."""
    raise RuntimeError("before the first part")
    yield


def replaced(request):
    """Another answer, by exc_info, before the file is handed over."""
    request.start(("X-Sendfile", request.path))
    try:
        raise RuntimeError("no file after all")
    except RuntimeError:
        request.start_response("503 Later", [("Content-Type", "text/plain")], sys.exc_info())
    return [b"later\n"]


def hello(request):
    request.start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"hello\n"]


HANDLERS = dict(globals())


def application(environ, start_response):
    how = environ["PATH_INFO"].rpartition("/")[2]
    return HANDLERS[how](Request(environ, start_response))
