"""wsgi.file_wrapper around files and things like files; QUERY_STRING is the file's path."""

import io
import os

import uwsgi

TEXT = [("Content-Type", "application/octet-stream")]


class Logged(io.BytesIO):
    def close(self):
        uwsgi.log("bytes closed")
        super().close()


class NoRead:
    pass


def opened_at(path, position):
    found = open(path, "rb")  # noqa: SIM115 (the server closes it)
    found.seek(position)
    return found


def application(environ, start_response):
    how = environ["PATH_INFO"][1:]
    path = environ["QUERY_STRING"]
    wrapper = environ["wsgi.file_wrapper"]
    if how == "whole":
        start_response("200 OK", TEXT)
        return wrapper(open(path, "rb"), 8192)
    if how == "length":
        start_response("200 OK", [*TEXT, ("Content-Length", str(os.path.getsize(path)))])
        return wrapper(open(path, "rb"), 8192)
    if how == "no-size":
        start_response("200 OK", TEXT)
        return wrapper(open(path, "rb"))
    if how == "offset":
        start_response("200 OK", TEXT)
        return wrapper(opened_at(path, 1000), 8192)
    if how == "bytes":
        start_response("200 OK", TEXT)
        return wrapper(Logged(b"0123456789" * 1000), 512)
    if how == "iterated":
        start_response("200 OK", TEXT)
        return iter(wrapper(open(path, "rb"), 8192))
    start_response("200 OK", TEXT)
    return wrapper(NoRead())
