"""The storm's application (tests/apps/storm), as an ASGI one."""

from __future__ import annotations

import asyncio
import os
import zlib
from urllib.parse import parse_qs

LOAD = os.urandom(4).hex()


async def application(scope, receive, send):
    if scope["type"] == "lifespan":
        await lifespan(receive, send)
        return
    query = {key: values[0] for key, values in parse_qs(scope["query_string"].decode()).items()}
    token = query.get("token", "").encode()
    size = int(query.get("size", 0))
    headers = [
        (b"x-storm", f"{LOAD} {os.getpid()}".encode()),
        (b"content-type", b"text/plain"),
    ]
    if "length" in query:
        headers.append((b"content-length", query["length"].encode()))
    kind = scope["path"][1:]
    if kind == "sleep":
        await asyncio.sleep(float(query["seconds"]))
    elif kind == "upload":
        token = await uploaded(receive, token)
        size = len(token)
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    if kind == "stream":
        parts = int(query["parts"])
        for number in range(parts):
            part = b"%s %d\n" % (token, number)
            await send({"type": "http.response.body", "body": part, "more_body": True})
            await asyncio.sleep(float(query["seconds"]) / parts)
        await send({"type": "http.response.body"})
    else:
        await send({"type": "http.response.body", "body": repeated(token, size)})


async def lifespan(receive, send):
    """Takes its time at both ends."""
    for _ in range(2):
        message = await receive()
        await asyncio.sleep(0.01)
        await send({"type": message["type"] + ".complete"})


async def uploaded(receive, token):
    """What the answer to an upload says of it."""
    checksum, length, more = 0, 0, True
    while more:
        message = await receive()
        checksum = zlib.crc32(message["body"], checksum)
        length += len(message["body"])
        more = message["more_body"]
    return b"%s %d %08x\n" % (token, length, checksum)


def repeated(token, size):
    return (token * (size // len(token) + 1))[:size] if size else b""
