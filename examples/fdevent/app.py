"""The fdevent extension of WSGI: waiting for descriptors with nothing but the environ.

    /steps           a socket pair: writable, readable, and a wait that times out
    /hello           a line of text
    /upstream/PATH   fetches PATH from this very server without blocking it, and passes it on

This application imports no server: it runs on any server that offers `x-wsgiorg.fdevent.readable`,
`x-wsgiorg.fdevent.writable` and `x-wsgiorg.fdevent.timeout`. UPSTREAM=host:port in the process
environment names another server to fetch from.
"""

import errno
import os
import socket
from urllib.parse import quote


def application(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/hello":
        return text(start_response, "200 OK", b"hello\n")
    if path in ("", "/"):
        return text(start_response, "200 OK", __doc__.encode())
    if "x-wsgiorg.fdevent.readable" not in environ:
        return text(start_response, "501 Not Implemented", b"start the server with --async N\n")
    if path == "/steps":
        return steps(environ, start_response)
    if path.startswith("/upstream/"):
        return upstream(environ, start_response, path.removeprefix("/upstream"))
    return text(start_response, "404 Not Found", b"no such page\n")


def text(start_response, status, body):
    start_response(status, [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]


def steps(environ, start_response):
    readable = environ["x-wsgiorg.fdevent.readable"]
    writable = environ["x-wsgiorg.fdevent.writable"]
    here, there = socket.socketpair()
    with here, there:
        start_response("200 OK", [("Content-Type", "text/plain")])
        writable(here.fileno(), 10)
        yield b""
        yield b"1 writable, timed out: %d\n" % bool(environ["x-wsgiorg.fdevent.timeout"])
        here.send(b"ping")
        readable(there.fileno(), 10)
        yield b""
        yield b"2 readable, timed out: %d\n" % bool(environ["x-wsgiorg.fdevent.timeout"])
        yield b"3 received %s\n" % there.recv(100)
        readable(there.fileno(), 0.1)
        yield b""
        yield b"4 nothing to read, timed out: %d\n" % bool(environ["x-wsgiorg.fdevent.timeout"])


def upstream(environ, start_response, path):
    """A small HTTP client whose every step waits instead of blocking."""
    default = f"127.0.0.1:{environ['SERVER_PORT']}"
    host, _, port = os.environ.get("UPSTREAM", default).rpartition(":")
    target = quote(environ.get("SCRIPT_NAME", "") + path, encoding="latin-1")
    with socket.socket() as connection:
        connection.setblocking(False)
        error = connection.connect_ex((host, int(port)))
        if error == errno.EINPROGRESS:
            environ["x-wsgiorg.fdevent.writable"](connection.fileno(), 10)
            yield b""
            error = connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if error or environ["x-wsgiorg.fdevent.timeout"]:
            yield from text(start_response, "502 Bad Gateway", b"the upstream does not answer\n")
            return
        connection.send(f"GET {target} HTTP/1.0\r\nHost: {host}\r\n\r\n".encode("latin-1"))
        head = b""
        while b"\r\n\r\n" not in head:
            data = yield from receive(environ, connection)
            if not data:
                yield from text(start_response, "502 Bad Gateway", b"no answer\n")
                return
            head += data
        head, _, body = head.partition(b"\r\n\r\n")
        status = head.split(b"\r\n")[0].split(b" ", 1)[1].decode("latin-1")
        start_response(status, [("Content-Type", "text/plain")])
        while True:
            yield body
            body = yield from receive(environ, connection)
            if not body:
                return


def receive(environ, connection):
    """The next bytes; none at the end, or when nothing came for ten seconds."""
    environ["x-wsgiorg.fdevent.readable"](connection.fileno(), 10)
    yield b""
    if environ["x-wsgiorg.fdevent.timeout"]:
        return b""
    return connection.recv(65536)
