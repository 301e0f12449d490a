"""ASGI as it is: a scope, messages to receive, messages to send."""

import asyncio
import hashlib
import json
from pathlib import Path

PAUSE_S = 0.5


async def lifespan(receive, send, state):
    """Once in each worker: before its first request, and after its last."""
    await receive()  # lifespan.startup
    state["begun"] = asyncio.get_running_loop().time()
    await send({"type": "lifespan.startup.complete"})
    await receive()  # lifespan.shutdown
    print("nobody is left", flush=True)
    await send({"type": "lifespan.shutdown.complete"})


async def start(send, kind="text/plain", status=200):
    headers = [(b"content-type", kind.encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})


async def hello(scope, receive, send):
    await start(send)
    await send({"type": "http.response.body", "body": b"Hello from ASGI\n"})


async def shown(scope, receive, send):
    """The scope, as far as JSON has it."""
    await start(send, "application/json")
    found = {name: scope[name] for name in ("path", "root_path", "scheme", "client", "server")}
    found["begun"] = scope["state"]["begun"]
    await send({"type": "http.response.body", "body": json.dumps(found).encode() + b"\n"})


async def ticks(scope, receive, send):
    """Parts with pauses between them, until the client leaves."""
    await start(send)
    number = 0
    try:
        while True:
            number += 1
            part = b"%d\n" % number
            await send({"type": "http.response.body", "body": part, "more_body": True})
            await asyncio.sleep(PAUSE_S)
    finally:
        print(f"the client has left after {number}", flush=True)


async def digest(scope, receive, send):
    """A body of any size, a piece at a time."""
    found, length, more = hashlib.sha256(), 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        found.update(message["body"])
        length += len(message["body"])
        more = message["more_body"]
    await start(send)
    text = f"{length} bytes, sha256 {found.hexdigest()}\n"
    await send({"type": "http.response.body", "body": text.encode()})


async def source(scope, receive, send):
    """This file; the server reads and sends it."""
    await start(send)
    await send({"type": "http.response.pathsend", "path": str(Path(__file__).resolve())})


async def missing(scope, receive, send):
    await start(send, status=404)
    await send({"type": "http.response.body", "body": b"no such path\n"})


PATHS = {"/": hello, "/scope": shown, "/ticks": ticks, "/digest": digest, "/source": source}


async def application(scope, receive, send):
    if scope["type"] == "lifespan":
        await lifespan(receive, send, scope["state"])
    else:
        await PATHS.get(scope["path"], missing)(scope, receive, send)
