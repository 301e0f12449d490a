"""Serves the files below its own directory; while one of them is sent the worker serves the others.

    greenloom --http-socket :9090 -w tests.fileserve_async --async 10

`uwsgi.sendfile` gives the file to the server. With a suspend engine (`--ugreen`) the call returns
when the client has it all, without one at once; in neither case does anybody else wait for it.
"""

import mimetypes
import os

import uwsgi

ROOT = os.path.dirname(os.path.realpath(__file__))


def file_at(name):
    """The file with this name below ROOT, wherever dots and links lead; or None."""
    if "\0" in name:
        return None
    path = os.path.realpath(os.path.join(ROOT, name.lstrip("/")))
    return path if path.startswith(ROOT + os.sep) and os.path.isfile(path) else None


def application(env, start_response):
    path = file_at(env["PATH_INFO"])
    if path is None:
        start_response("404 Not Found", [("Content-Type", "text/plain")])
        yield b"There is no such file.\n"
        return
    kind = mimetypes.guess_type(path)[0] or "application/octet-stream"
    size = str(os.path.getsize(path))
    start_response("200 OK", [("Content-Type", kind), ("Content-Length", size)])
    uwsgi.sendfile(path)
    yield b""
