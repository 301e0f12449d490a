"""An application behind nginx: what nginx sends, a body, and a stream that must not be held back.

/              the request as the application sees it
/upload        POST: the size of the body
/stream/NAME   says "waiting", and "done" after a request for /go/NAME
/go/NAME
"""

import os

import uwsgi

# name -> the eventfd that the stream of that name waits for
streams = {}

SHOWN = [
    "REQUEST_METHOD",
    "SCRIPT_NAME",
    "PATH_INFO",
    "QUERY_STRING",
    "SERVER_PROTOCOL",
    "HTTP_HOST",
]


def application(env, start_response):
    match env["PATH_INFO"].strip("/").split("/"):
        case ["stream", name] if name not in streams:
            return stream(start_response, name)
        case ["go", name] if name in streams:
            os.eventfd_write(streams[name], 1)
            return answer(start_response, b"gone\n")
        case ["upload"]:
            size = sum(map(len, iter(lambda: env["wsgi.input"].read(65536), b"")))
            return answer(start_response, b"%d bytes\n" % size)
        case [""]:
            return answer(
                start_response, "".join(f"{k}={env.get(k, '')}\n" for k in SHOWN).encode()
            )
    return answer(start_response, b"no such page\n", "404 Not Found")


def answer(start_response, body, status="200 OK"):
    start_response(status, [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]


def stream(start_response, name):
    fd = streams[name] = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
    try:
        start_response("200 OK", [("Content-Type", "text/plain")])
        yield b"waiting\n"
        yield uwsgi.wait_fd_read(fd, 60)
        yield b"done\n"
    finally:
        streams.pop(name, None)
        os.close(fd)
