"""What ASGI applications of the tests share: a request with its answer, notes, and a place to wait.

An application puts this folder on its path. Its handlers are found by the last part of the path,
so that options can be bound to whatever stands in front of it.
"""

import asyncio
import json
import os
from contextlib import contextmanager
from urllib.parse import parse_qs

TEXT = (b"content-type", b"text/plain")

notes = []
waits = []


class Go:
    """What requests wait for until /go."""

    event = asyncio.Event()


class Request:
    """One request: what it asks for, and the ways to answer it."""

    def __init__(self, scope, receive, send):
        self.scope, self.receive, self.send = scope, receive, send
        query = parse_qs(scope["query_string"].decode(), keep_blank_values=True)
        self.query = {name: values[0] for name, values in query.items()}
        self.name = self.query.get("name", "")

    async def start(self, status=200, headers=(TEXT,)):
        await self.send({"type": "http.response.start", "status": status, "headers": list(headers)})

    async def part(self, body, more=True):
        await self.send({"type": "http.response.body", "body": body, "more_body": more})

    async def answer(self, body=b"", status=200, headers=(TEXT,)):
        await self.start(status, headers)
        await self.part(body, more=False)

    async def json(self, value):
        await self.answer(json.dumps(value).encode(), headers=[(b"content-type", b"text/json")])

    async def body(self):
        """The whole body, and None when it will not be complete."""
        parts = []
        while True:
            message = await self.receive()
            if message["type"] == "http.disconnect":
                return None
            parts.append(message.get("body", b""))
            if not message.get("more_body", False):
                return b"".join(parts)

    def say(self, what):
        """A line of the log."""
        say(f"{self.name} {what}")


def say(line):
    """In one write: other processes have the same log."""
    print(f"{line}\n", end="", flush=True)


async def hello(request):
    await request.answer(b"hello\n")


async def go(request):
    event, Go.event = Go.event, asyncio.Event()
    event.set()
    await request.json("gone")


async def waiting(request):
    await request.json(len(waits))


async def take_notes(request):
    taken, notes[:] = list(notes), []
    await request.json(taken)


@contextmanager
def is_waiting():
    """Counted by /waiting meanwhile."""
    me = object()
    waits.append(me)
    try:
        yield
    finally:
        waits.remove(me)


async def for_go():
    with is_waiting():
        await Go.event.wait()


async def at_gate():
    """Waits for a byte in the FIFO named by GATE: for what outlives its worker's listeners."""
    loop = asyncio.get_running_loop()
    gate = os.open(os.environ["GATE"], os.O_RDWR | os.O_NONBLOCK)
    try:
        while True:
            ready = asyncio.Event()
            loop.add_reader(gate, ready.set)
            try:
                await ready.wait()
            finally:
                loop.remove_reader(gate)
            try:
                os.read(gate, 1)
            except BlockingIOError:
                continue
            return
    finally:
        os.close(gate)


async def lifespan(receive, send):
    """The protocol, and nothing else."""
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return


COMMON = {"": hello, "hello": hello, "go": go, "waiting": waiting, "notes": take_notes}


def application_of(names):
    """The application of a module: its functions by their names."""

    async def application(scope, receive, send):
        if scope["type"] == "lifespan":
            return await lifespan(receive, send)
        name = scope["path"].rpartition("/")[2]
        await (COMMON.get(name) or names[name])(Request(scope, receive, send))

    return application
