"""A chat: many listeners wait, one message wakes them all.

    /              the chat page
    /listen        an endless stream of server-sent events, one per message
    /say           POST: the body is the message
    /who           how many listen

Each listener is a plain generator that waits for an eventfd of its own; while it waits it costs a
core and a few KiB, no thread. The room lives in this process: run the example with one worker.
"""

import os
from collections import deque
from pathlib import Path

import uwsgi

LONGEST_MESSAGE = 2000
# A line that says nothing, so that proxies between here and the browser do not lose patience.
HEARTBEAT_SECONDS = 15

PAGE = Path(__file__).with_name("page.html").read_bytes()


class Room:
    """The last messages, each with its number, and the eventfds of those who listen."""

    def __init__(self):
        self.messages = deque(maxlen=200)
        self.count = 0
        self.listeners = set()

    def say(self, text):
        self.count += 1
        self.messages.append((self.count, text))
        for fd in self.listeners:
            os.eventfd_write(fd, 1)

    def after(self, number):
        return [message for message in self.messages if message[0] > number]


room = Room()


def application(env, start_response):
    match env["REQUEST_METHOD"], env["PATH_INFO"]:
        case "GET", "/listen":
            return listen(env, start_response)
        case "POST", "/say":
            return say(env, start_response)
        case "GET", "/who":
            return answer(start_response, "200 OK", b"%d\n" % len(room.listeners))
        case "GET", "" | "/":
            start_response("200 OK", [("Content-Type", "text/html; charset=utf-8")])
            return [PAGE]
        case _, "/listen" | "/say" | "/who" | "" | "/":
            return answer(start_response, "405 Method Not Allowed", b"not this way\n")
        case _:
            return answer(start_response, "404 Not Found", b"no such page\n")


def answer(start_response, status, body):
    start_response(status, [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]


def say(env, start_response):
    text = env["wsgi.input"].read(LONGEST_MESSAGE + 1)
    if not text.strip() or len(text) > LONGEST_MESSAGE:
        return answer(start_response, "400 Bad Request", b"1 to 2000 bytes of text, please\n")
    room.say(text)
    return answer(start_response, "200 OK", b"%d listen\n" % len(room.listeners))


def listen(env, start_response):
    try:
        # A browser that lost its connection says which message it saw last.
        seen = int(env["HTTP_LAST_EVENT_ID"])
    except (KeyError, ValueError):
        seen = room.count
    wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
    room.listeners.add(wake)
    try:
        start_response(
            "200 OK",
            [
                ("Content-Type", "text/event-stream"),
                ("Cache-Control", "no-cache"),
                ("X-Accel-Buffering", "no"),  # the same as nginx's `uwsgi_buffering off`
            ],
        )
        yield b": you are listening\n\n"
        while True:
            for number, text in room.after(seen):
                seen = number
                yield event(number, text)
            # Anything said during the yields above has left the eventfd readable: nothing is lost.
            uwsgi.wait_fd_read(wake, HEARTBEAT_SECONDS)
            yield b""
            if env["x-wsgiorg.fdevent.timeout"]:
                yield b": still here\n\n"
            else:
                os.eventfd_read(wake)
    finally:
        # Runs also when the client leaves in the middle of a wait.
        room.listeners.discard(wake)
        os.close(wake)


def event(number, text):
    lines = text.decode("utf-8", "replace").splitlines() or [""]
    return "".join([f"id: {number}\n", *[f"data: {line}\n" for line in lines], "\n"]).encode()
