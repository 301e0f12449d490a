"""The application of benches/soak.py as ASGI: each request does what its path tells it to.

`/STEPS?TOKEN`; the steps stand behind each other, separated by dots:

    lN      announce N bytes (first, if at all)
    hN      answer with N bytes of the token at once, without a look at the request's body
    e       send the request's body back, as it comes
    d       listen for the client's leave beside all that follows
    yN sN   give way N times, sleep N milliseconds
    p       wait for a pipe that a thread writes to
    zN tN   send N bytes of the token, tN: made by a thread
    ZN      send N bytes, and with them the end of the answer
    bN      go on for N milliseconds when the answer is complete

The answer begins with the CRC of the request's body, eight digits, unless h or e has sent it.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import time
import zlib
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from typing import Any

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

PATIENCE_S = 30.0
TYPE = (b"content-type", b"application/octet-stream")

active = 0
inside = 0
rounds = 0


class Left(OSError):
    """The client has left; an OSError, as what send() raises then."""


async def application(scope: Scope, receive: Receive, send: Send) -> None:
    """Follow the steps, or answer one of the questions at the end."""
    global active
    if scope["type"] == "lifespan":
        await live(receive, send)
    elif scope["path"] == "/state":
        said = state()
        await begin(send, b"%d" % len(said))
        await piece(send, said, more=False)
    elif scope["path"] == "/together":
        await begin(send, b"4")
        await piece(send, await together(int(scope["query_string"])), more=False)
    else:
        active += 1
        try:
            with suppress(OSError):
                steps = [step for step in scope["path"][1:].split(".") if step]
                await follow(steps, scope["query_string"], receive, send)
        finally:
            active -= 1


async def live(receive: Receive, send: Send) -> None:
    """Say yes to the beginning and to the end."""
    for phase in ("startup", "shutdown"):
        message = await receive()
        if message["type"] != f"lifespan.{phase}":
            raise ValueError(message)
        await send({"type": f"lifespan.{phase}.complete"})


async def follow(steps: list[str], token: bytes, receive: Receive, send: Send) -> None:
    """Take the request's body, then do one step after the other."""
    length = steps.pop(0)[1:].encode() if steps and steps[0][0] == "l" else None
    first = steps[0][0] if steps else ""
    if first == "h":
        await begin(send, length)
        await piece(send, filler(token, int(steps[0][1:])), more=False)
        return
    if first == "e":
        del steps[0]
        await begin(send, length)
    crc, more = 0, True
    while more:
        data, more = await received(receive)
        crc = zlib.crc32(data, crc)
        if first == "e":
            await piece(send, data)
    if first != "e":
        await begin(send, length)
        await piece(send, b"%08x" % crc)
    if steps and steps[0] == "d":
        await unless_left(run(steps[1:], token, send), receive)
    else:
        await run(steps, token, send)


async def run(steps: list[str], token: bytes, send: Send) -> None:
    """Whatever comes behind the body."""
    more = True
    for step in steps:
        kind, count = step[0], int(step[1:] or 0)
        if kind in "zZ":
            more = kind == "z"
            await piece(send, filler(token, count), more=more)
        elif kind == "t":
            await piece(send, await asyncio.to_thread(filler, token, count))
        elif kind == "y":
            for _ in range(count):
                await asyncio.sleep(0)
        elif kind == "s":
            await asyncio.sleep(count / 1000)
        elif kind == "p":
            await fed()
        elif kind == "b":
            if more:
                await piece(send, b"", more=False)
            more = False
            await asyncio.sleep(count / 1000)
        else:
            raise ValueError(step)
    if more:
        await piece(send, b"", more=False)


async def unless_left(work: Coroutine[Any, Any, None], receive: Receive) -> None:
    """Do it as frameworks do: until it is done or the client has left, in tasks of their own."""
    doing = asyncio.ensure_future(work)
    listening = asyncio.ensure_future(left(receive))
    try:
        await asyncio.wait((doing, listening), return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (doing, listening):
            task.cancel()
        await asyncio.gather(doing, listening, return_exceptions=True)
    for task in (doing, listening):
        if not task.cancelled():
            task.result()


async def left(receive: Receive) -> None:
    """Wait for nothing but the end."""
    message = await receive()
    if message["type"] != "http.disconnect":
        raise ValueError(message)


async def begin(send: Send, length: bytes | None) -> None:
    """Send the head of the answer."""
    headers = [TYPE] if length is None else [TYPE, (b"content-length", length)]
    await send({"type": "http.response.start", "status": 200, "headers": headers})


async def piece(send: Send, data: bytes, *, more: bool = True) -> None:
    """Send a piece of its body."""
    await send({"type": "http.response.body", "body": data, "more_body": more})


async def received(receive: Receive) -> tuple[bytes, bool]:
    """The next piece of the request's body, and whether more will come."""
    message = await receive()
    if message["type"] == "http.disconnect":
        raise Left
    return message.get("body", b""), message.get("more_body", False)


def filler(token: bytes, count: int) -> bytes:
    """Make ``count`` bytes that belong to this request only."""
    return (token * (count // len(token) + 1))[:count]


async def fed() -> None:
    """Wait for one byte from a thread, which owns the other end from here on."""
    loop = asyncio.get_running_loop()
    reader, writer = os.pipe()
    readable = asyncio.Event()
    try:
        loop.run_in_executor(None, feed, writer)
        loop.add_reader(reader, readable.set)
        await readable.wait()
        if os.read(reader, 2) != b"!":
            raise ValueError("the pipe gave something else")
    finally:
        loop.remove_reader(reader)
        os.close(reader)


def feed(writer: int) -> None:
    """Write to a pipe that somebody waits for, or has waited for."""
    try:
        with suppress(BrokenPipeError):
            os.write(writer, b"!")
    finally:
        os.close(writer)


def state() -> bytes:
    """Say what is left of all requests."""
    gc.collect()
    return json.dumps({"active": active, "objects": len(gc.get_objects())}).encode()


async def together(count: int) -> bytes:
    """Answer once as many requests are inside at the same time."""
    global inside, rounds
    inside += 1
    mine, end = rounds, time.monotonic() + PATIENCE_S
    while rounds == mine and inside < count and time.monotonic() < end:
        await asyncio.sleep(0.005)
    if rounds == mine and inside < count:
        inside -= 1
        return b"lost"
    if rounds == mine:
        inside, rounds = 0, rounds + 1
    return b"free"
