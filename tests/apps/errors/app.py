"""Every way in which an application can go wrong, one path each."""

import sys

TEXT = [("Content-Type", "text/plain")]


def before(environ, start_response):
    raise ValueError("boom before")


def after(environ, start_response):
    start_response("200 OK", TEXT)
    raise ValueError("boom after")


def first(environ, start_response):
    start_response("200 OK", TEXT)
    raise ValueError("boom first")
    yield b"never"


def midstream(environ, start_response):
    start_response("200 OK", TEXT)
    yield b"part"
    raise ValueError("boom midstream")


def midstream_with_length(environ, start_response):
    start_response("200 OK", [*TEXT, ("Content-Length", "100")])
    yield b"part"
    raise ValueError("boom midstream")


class Close:
    def __iter__(self):
        return iter([b"whole"])

    def close(self):
        raise ValueError("boom close")


def close(environ, start_response):
    start_response("200 OK", [*TEXT, ("Content-Length", "5")])
    return Close()


def system_exit(environ, start_response):
    raise SystemExit(3)


def system_exit_midstream(environ, start_response):
    start_response("200 OK", TEXT)
    yield b"part"
    raise SystemExit(3)


def text(environ, start_response):
    start_response("200 OK", TEXT)
    yield "text"


def text_later(environ, start_response):
    start_response("200 OK", TEXT)
    yield b"part"
    yield "text"


def empty_text(environ, start_response):
    start_response("200 OK", TEXT)
    yield ""
    yield b"ok"
    yield ""


def number(environ, start_response):
    start_response("200 OK", TEXT)
    yield 5


def none(environ, start_response):
    start_response("200 OK", TEXT)


def no_start(environ, start_response):
    return [b"body without a head"]


def start_in_generator(environ, start_response):
    start_response("200 OK", TEXT)
    yield b"ok"


def info_before(environ, start_response):
    start_response("200 OK", [*TEXT, ("X-First", "yes")])
    try:
        raise ValueError("caught")
    except ValueError:
        start_response("503 Later", TEXT, sys.exc_info())
    return [b"replaced"]


def info_after(environ, start_response):
    start_response("200 OK", TEXT)
    yield b"part"
    try:
        raise KeyError("re-raised by start_response")
    except KeyError:
        start_response("503 Later", TEXT, sys.exc_info())
    yield b"never"


def info_caught(environ, start_response):
    start_response("200 OK", TEXT)
    yield b"part,"
    try:
        try:
            raise KeyError("mine")
        except KeyError:
            start_response("503 Later", TEXT, sys.exc_info())
    except KeyError as error:
        yield repr(error).encode()


def twice(environ, start_response):
    start_response("200 OK", TEXT)
    start_response("201 Created", TEXT)
    return [b"never"]


def status_not_text(environ, start_response):
    start_response(b"200 OK", TEXT)
    return [b"never"]


def status_short(environ, start_response):
    start_response("20", TEXT)
    return [b"never"]


def status_line_break(environ, start_response):
    start_response("200 OK\r\nX-Evil: 1", TEXT)
    return [b"never"]


def headers_not_list(environ, start_response):
    start_response("200 OK", (("Content-Type", "text/plain"),))
    return [b"never"]


def header_not_tuple(environ, start_response):
    start_response("200 OK", [["Content-Type", "text/plain"]])
    return [b"never"]


def header_bytes(environ, start_response):
    start_response("200 OK", [(b"Content-Type", b"text/plain")])
    return [b"never"]


def header_not_latin(environ, start_response):
    start_response("200 OK", [("X-Name", "\u20ac")])
    return [b"never"]


def value_line_break(environ, start_response):
    start_response("200 OK", [("X-Name", "a\r\nX-Evil: 1")])
    return [b"never"]


def value_line_feed(environ, start_response):
    start_response("200 OK", [("X-Name", "a\nX-Evil: 1")])
    return [b"never"]


def value_null(environ, start_response):
    start_response("200 OK", [("X-Name", "a\0b")])
    return [b"never"]


def name_line_break(environ, start_response):
    start_response("200 OK", [("X-Evil: 1\r\nX-Name", "a")])
    return [b"never"]


def name_with_colon(environ, start_response):
    start_response("200 OK", [("X-Name:", "a")])
    return [b"never"]


def write_text(environ, start_response):
    write = start_response("200 OK", TEXT)
    write("text")
    return [b"never"]


def too_long(environ, start_response):
    start_response("200 OK", [*TEXT, ("Content-Length", "4")])
    return [b"1234", b"5678"]


def too_short(environ, start_response):
    start_response("200 OK", [*TEXT, ("Content-Length", "8")])
    return [b"1234"]


def length_not_a_number(environ, start_response):
    start_response("200 OK", [*TEXT, ("Content-Length", "four")])
    return [b"1234"]


def hello(environ, start_response):
    start_response("200 OK", TEXT)
    return [b"hello\n"]


def application(environ, start_response):
    name = environ["PATH_INFO"][1:].replace("-", "_") or "hello"
    return globals()[name](environ, start_response)
