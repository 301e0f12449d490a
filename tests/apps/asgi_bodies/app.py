"""Bodies of requests: read whole, in pieces, echoed while they come, late, or not at all."""

import asyncio
import hashlib
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "asgi_support"))

from asgi_support import application_of, for_go, notes


async def collect(request):
    digest = hashlib.sha256()
    length, sizes = 0, []
    while True:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            notes.append(f"{request.name} disconnected after {length}")
            return
        assert set(message) <= {"type", "body", "more_body"}, message
        piece = message.get("body", b"")
        assert type(piece) is bytes
        digest.update(piece)
        length += len(piece)
        sizes.append(len(piece))
        if not message.get("more_body", False):
            break
    await request.json(
        {"length": length, "sha256": digest.hexdigest(), "largest": max(sizes), "times": len(sizes)}
    )


async def disconnected(request):
    """Answers though its body will not be complete: nobody should read that."""
    body = await request.body()
    await request.answer(b"incomplete" if body is None else b"complete")


async def echo(request):
    """Each piece goes back before the next one is asked for."""
    await request.start()
    while True:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            notes.append("echo disconnected")
            return
        more = message.get("more_body", False)
        await request.part(message.get("body", b""), more)
        if not more:
            return


async def both_ways(request):
    """One task reads, another one writes, and neither waits for the other."""
    await request.start()
    sent = 0

    async def read():
        length = 0
        while True:
            message = await request.receive()
            assert message["type"] == "http.request"
            length += len(message["body"])
            if not message["more_body"]:
                return length

    async def write():
        nonlocal sent
        for _ in range(100):
            await request.part(b"w" * 10_000)
            sent += 10_000
            await asyncio.sleep(0)

    length, _ = await asyncio.gather(read(), write())
    await request.part(b"%d %d" % (length, sent), more=False)


async def never(request):
    await request.answer(b"never read")


async def one_message(request):
    """Reads a piece, and no more."""
    message = await request.receive()
    assert message["type"] == "http.request", message
    await request.answer(b"read a piece")


async def late(request):
    """Begins to read only after /go."""
    await for_go()
    body = await request.body()
    await request.answer(b"%d" % len(body))


async def late_answer(request):
    """Has begun to answer before it reads."""
    await request.start()
    await request.part(b"begun ")
    body = await request.body()
    await request.part(b"none" if body is None else b"%d" % len(body), more=False)


async def started(request):
    """A note as soon as it runs."""
    notes.append(f"{request.name} started")
    body = await request.body()
    notes.append(f"{request.name} {'disconnected' if body is None else 'complete'}")
    if body is not None:
        await request.answer(b"%d" % len(body))


async def after_the_end(request):
    """What receive() gives after the body: nothing until the response is complete."""
    await request.body()
    more = asyncio.create_task(request.receive())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    early = more.done()
    await request.answer(b"early" if early else b"waits")
    notes.append((await more)["type"])
    notes.append((await request.receive())["type"])


async def two_readers(request):
    """Two tasks at the same receive(): together they get all of it, and nothing twice."""
    total = 0
    ended = asyncio.Event()

    async def read():
        nonlocal total
        while not ended.is_set():
            message = await request.receive()
            if message["type"] == "http.disconnect":
                return
            total += len(message["body"])
            if not message["more_body"]:
                ended.set()

    tasks = [asyncio.create_task(read()) for _ in range(2)]
    await ended.wait()
    await request.answer(b"%d" % total)
    await asyncio.gather(*tasks)


async def cancelled_receive(request):
    """A receive() that is given up loses no bytes."""
    while True:
        task = asyncio.create_task(request.receive())
        await asyncio.sleep(0)
        if task.done():
            first = task.result()
            break
        task.cancel()
        await asyncio.sleep(0.001)
    body = first["body"]
    while first["more_body"]:
        first = await request.receive()
        body += first["body"]
    await request.answer(body)


application = application_of(globals())
