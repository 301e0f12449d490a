"""Requests that are more than one task: others send and listen, and what they leave to be sent."""

import asyncio
import gc
import os
import sys
import weakref
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "asgi_support"))

from asgi_support import application_of, for_go, notes

SIZE = 8_000_000
LARGE = bytes(range(256)) * (SIZE // 256)

scopes = weakref.WeakSet()


class Note:
    """What a scope can hold that lets itself be counted."""


async def fails_behind_the_last_part(request):
    """The client has not read all of it yet."""
    await request.start()
    await request.part(b"begin ")
    last = asyncio.create_task(request.part(LARGE, more=False))
    await asyncio.sleep(0)
    notes.append(last.done())
    last.cancel()
    raise ValueError("behind the last part")


async def gives_up(request):
    """Waits for the last part no longer than that."""
    await request.start()
    try:
        await asyncio.wait_for(request.part(LARGE, more=False), 0.01)
    except TimeoutError:
        notes.append("gave up")


async def two_senders(request):
    """One is overtaken by the end."""
    await request.start()
    first = asyncio.create_task(request.part(LARGE))
    await asyncio.sleep(0)
    await request.part(b" end", more=False)
    await first
    notes.append("both sent")


async def answered_by_another(request):
    """The request's own task rests meanwhile."""

    async def answers():
        await request.answer(b"answered")
        await for_go()

    await asyncio.create_task(answers())
    notes.append("rested")


async def gives_up_often(request):
    """Each leaves something to be sent, and nothing else."""
    await request.start()
    await asyncio.wait({asyncio.create_task(request.part(LARGE))}, timeout=0.01)
    gc.collect()
    before = sum(isinstance(found, asyncio.Future) for found in gc.get_objects())
    for _ in range(200):
        await asyncio.wait({waits := asyncio.create_task(request.part(b"x"))}, timeout=0)
        waits.cancel()
        await asyncio.sleep(0)
    gc.collect()
    after = sum(isinstance(found, asyncio.Future) for found in gc.get_objects())
    notes.append(after - before)
    await request.part(b"", more=False)


async def keeps_its_task(request):
    """In its own scope: a ring."""
    request.scope["note"] = note = Note()
    scopes.add(note)
    request.scope["task"] = asyncio.current_task()
    await request.answer(b"kept")


async def kept(request):
    gc.collect()
    await request.json(len(scopes))


async def looks_for_its_body(request):
    """Gives up waiting, does something else for longer than a client may take, and reads on."""
    receives = asyncio.create_task(request.receive())
    await asyncio.wait({receives}, timeout=0.01)
    receives.cancel()
    notes.append("gave up")
    await for_go()
    await request.answer(await request.body() or b"no body")


async def fifo(request):
    """Nobody writes into it."""
    path = request.query["path"]
    os.mkfifo(path)
    await request.start()
    try:
        await request.send({"type": "http.response.pathsend", "path": path})
    except OSError as error:
        await request.part(type(error).__name__.encode(), more=False)


async def sleeps(request):
    await asyncio.sleep(float(request.query["seconds"]))
    await request.answer(b"slept")


application = application_of(globals())
