"""Simple applications inside wsgiref's validator, which objects to every breach of PEP 3333."""

from wsgiref.validate import validator


def listed(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "5")])
    return [b"valid"]


def generated(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    yield b"va"
    yield b"lid"


def written(environ, start_response):
    write = start_response("200 OK", [("Content-Type", "text/plain")])
    write(b"va")
    return [b"lid"]


def body(environ, start_response):
    data = environ["wsgi.input"].read(100)
    environ["wsgi.errors"].write("validated body\n")
    environ["wsgi.errors"].flush()
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [data]


def nothing(environ, start_response):
    start_response("204 No Content", [])
    return [b""]


APPS = {
    "/listed": validator(listed),
    "/generated": validator(generated),
    "/written": validator(written),
    "/body": validator(body),
    "/nothing": validator(nothing),
}


def application(environ, start_response):
    return APPS[environ["PATH_INFO"]](environ, start_response)
