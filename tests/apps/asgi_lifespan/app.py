"""Lifespans of every kind: LIFESPAN names it, or the file that LIFESPAN_FILE names does."""

import asyncio
import builtins
import os
import sys
from pathlib import Path
from time import monotonic

sys.path.insert(0, str(Path(__file__).parent.parent / "asgi_support"))

import asgi_support
from asgi_support import Request, at_gate

seen = []


class Slow:
    """What takes its time to go, behind the interpreter's handlers of posix signals."""

    def __del__(self):
        end = monotonic() + 0.6
        while monotonic() < end:
            pass


if os.environ.get("SLOW_END"):
    # What goes last.
    builtins.slow = Slow()


def kind():
    path = os.environ.get("LIFESPAN_FILE")
    return Path(path).read_text().strip() if path else os.environ.get("LIFESPAN", "full")


def say(what):
    asgi_support.say(f"lifespan {os.getpid()} {what}")


async def full(scope, receive, send):
    scope["state"]["text"] = "from startup"
    scope["state"]["shared"] = []
    scope["state"]["task"] = asyncio.current_task()
    message = await receive()
    assert message == {"type": "lifespan.startup"}, message
    say("startup begins")
    for _ in range(5):
        await asyncio.sleep(0.01)
    seen.append("startup")
    say("startup ends")
    await send({"type": "lifespan.startup.complete"})
    message = await receive()
    assert message == {"type": "lifespan.shutdown"}, message
    say("shutdown begins")
    await asyncio.sleep(0.01)
    say("shutdown ends")
    await send({"type": "lifespan.shutdown.complete"})


async def failed(scope, receive, send):
    await receive()
    await send({"type": "lifespan.startup.failed", "message": "no database, said the test"})


async def failed_and_stays(scope, receive, send):
    await failed(scope, receive, send)
    await asyncio.sleep(3600)


async def raises(scope, receive, send):
    raise NotImplementedError("no lifespan here")


async def raises_in_startup(scope, receive, send):
    await receive()
    await asyncio.sleep(0)
    raise ValueError("in the startup")


async def raises_after_startup(scope, receive, send):
    await receive()
    await send({"type": "lifespan.startup.complete"})
    raise ValueError("after the startup")


async def returns(scope, receive, send):
    say("returns")


async def returns_after_startup(scope, receive, send):
    await receive()
    await send({"type": "lifespan.startup.complete"})
    say("returns")


async def shutdown_failed(scope, receive, send):
    await receive()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await send({"type": "lifespan.shutdown.failed", "message": "not in order, said the test"})


async def shutdown_raises(scope, receive, send):
    await receive()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    raise ValueError("in the shutdown")


async def state(request):
    """What it finds, and then leaves behind."""
    found = dict(request.scope.get("state", {"none": True}))
    task = found.pop("task", None)
    found["shared"] = list(found.get("shared", []))
    found["begun"] = list(seen)
    found["runs"] = task is not None and not task.done()
    await request.json(found)
    own = request.scope.get("state", {})
    own["of this request"] = 1
    own["text"] = "changed"
    own.get("shared", []).append(1)


async def hold(request):
    await request.start()
    await request.part(b"%d" % os.getpid())
    await at_gate()
    await request.part(b" released", more=False)
    say("request ends")


async def application(scope, receive, send):
    if scope["type"] == "lifespan":
        assert scope["asgi"]["version"] == "3.0", scope
        return await globals()[kind()](scope, receive, send)
    assert scope["type"] == "http"
    request = Request(scope, receive, send)
    if scope["path"] == "/hold":
        return await hold(request)
    await state(request)


async def second(scope, receive, send):
    """Another application of the same worker, with a state of its own."""
    if scope["type"] == "lifespan":
        scope["state"]["text"] = "of the second"
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        say("second shutdown")
        return await send({"type": "lifespan.shutdown.complete"})
    await state(Request(scope, receive, send))
