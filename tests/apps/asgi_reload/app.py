"""Requests across reloads and stops: `/hold` says its process, then waits at the gate."""

import asyncio
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "asgi_support"))

from asgi_support import application_of, at_gate, notes

LOAD = os.urandom(4).hex()


async def hold(request):
    await request.start()
    await request.part(b"%d" % os.getpid())
    await at_gate()
    await request.part(b" released", more=False)


async def hold_unanswered(request):
    request.say("began")
    try:
        await at_gate()
    except asyncio.CancelledError:
        request.say("CancelledError")
        raise
    await request.answer(b"released")


async def held_begun(request):
    await request.start()
    await request.part(b"begun")
    request.say("began")
    try:
        await at_gate()
    except asyncio.CancelledError:
        request.say("CancelledError")
        raise
    await request.part(b" released", more=False)


async def upload(request):
    notes.append("began")
    request.say("began")
    body = await request.body()
    await request.answer(b"none" if body is None else b"%d" % len(body))


async def works(request):
    """Some work that gives way, and says which load of the application has done it."""
    for _ in range(3):
        await asyncio.sleep(0.001)
    await request.start()
    await request.part(f"{LOAD} ".encode())
    await asyncio.sleep(0.001)
    await request.part(request.name.encode(), more=False)


async def deaf(request):
    request.say("began")
    while True:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            request.say("swallowed")


application = application_of(globals())
