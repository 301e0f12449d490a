"""Endless and large responses; `/counted` says how much each of them could send."""

import asyncio
import hashlib
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "asgi_support"))

from asgi_support import application_of

PART = hashlib.sha256(b"part").digest() * 2048
counts = {}


async def large(request):
    """`?parts=` of 64 KiB, counted when send() has come back."""
    await request.start()
    counts[request.name] = 0
    for _ in range(int(request.query["parts"])):
        await request.part(PART)
        counts[request.name] += len(PART)
    await request.part(b"", more=False)


async def at_once(request):
    """One message of 20 MiB."""
    counts[request.name] = 0
    await request.answer(PART * 320)
    counts[request.name] = len(PART) * 320


async def drops(request):
    """Many parts, each let go of as soon as it is sent."""
    await request.start()
    for number in range(2000):
        await request.part(b"%06d\n" % number * 1000)
    await request.part(b"", more=False)


async def two_senders(request):
    """Two tasks at the same send(): whole parts, in some order."""
    await request.start()

    async def send(letter):
        for _ in range(50):
            await request.part(letter * 20_000)

    await asyncio.gather(send(b"a"), send(b"b"))
    await request.part(b"", more=False)


async def counted(request):
    await request.json(counts.get(request.name, 0))


application = application_of(globals())
