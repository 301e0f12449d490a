"""Work after the response is complete."""

import asyncio
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "asgi_support"))

from asgi_support import application_of, for_go, notes


async def work(request):
    await request.answer(b"answered")
    await for_go()
    notes.append(f"{request.name} done")


async def chunked_work(request):
    await request.start()
    await request.part(b"an")
    await request.part(b"swered", more=False)
    await for_go()
    notes.append(f"{request.name} done")


async def fails(request):
    await request.answer(b"answered")
    await asyncio.sleep(0)
    raise ValueError("after the answer")


async def late_work(request):
    """Cancelled where it works on."""
    await request.answer(b"answered")
    try:
        await asyncio.sleep(3600)
    except asyncio.CancelledError:
        request.say("CancelledError")
        raise


async def leaves_a_task(request):
    """That outlives its request and takes no core."""
    task = asyncio.create_task(for_go())
    task.add_done_callback(lambda _: notes.append(f"{request.name} task done"))
    tasks.add(task)
    await request.answer(b"answered")


tasks = set()
application = application_of(globals())
