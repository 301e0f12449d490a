"""Requests whose clients leave: what waits writes into the log how it ended."""

import asyncio
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "asgi_support"))

from asgi_support import application_of, for_go, is_waiting, notes

BLOCK = b"d" * 65_536
FOR_EVER_S = 3600


async def sleeps(request):
    """Nobody listens for the client."""
    request.say("began")
    try:
        if "mid" in request.query:
            await request.start()
            await request.part(b"part\n")
        await asyncio.sleep(FOR_EVER_S)
    except asyncio.CancelledError:
        request.say("CancelledError")
        raise
    finally:
        request.say("finally")


async def busy(request):
    """Gives way, and comes back at once."""
    request.say("began")
    try:
        while True:
            await asyncio.sleep(0)
    finally:
        request.say("finally")


async def listens(request):
    """Waits for the end in receive(), and ends by itself."""
    request.say("began")
    await request.receive()
    message = await request.receive()
    request.say(message["type"])
    again = await request.receive()
    request.say(f"again {again['type']}")


async def listens_and_stays(request):
    """Hears that its client is gone, and does not mind."""
    request.say("began")
    try:
        await request.receive()
        message = await request.receive()
        request.say(message["type"])
        await asyncio.sleep(FOR_EVER_S)
    except asyncio.CancelledError:
        request.say("CancelledError")
        raise


async def listens_and_cleans_up(request):
    """Needs a moment after the message, less than it is given."""
    request.say("began")
    await request.receive()
    await request.receive()
    for _ in range(20):
        await asyncio.sleep(0)
    request.say("cleaned up")


async def as_starlette_does(request):
    """One task listens, another one sends; who ends first ends the other."""
    request.say("began")

    async def listen():
        while True:
            message = await request.receive()
            if message["type"] == "http.disconnect":
                request.say(message["type"])
                return

    async def stream():
        await request.start()
        try:
            for number in range(int(request.query.get("parts", "1000000"))):
                await request.part(b"%d\n" % number)
                await asyncio.sleep(0.001)
            await request.part(b"", more=False)
        except asyncio.CancelledError:
            request.say("stream cancelled")
            raise
        except OSError:
            request.say("stream OSError")

    tasks = [asyncio.create_task(listen()), asyncio.create_task(stream())]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    request.say("ended")


async def stalls(request):
    """In a send() that its client does not read."""
    await request.start()
    request.say("began")
    try:
        while True:
            await request.part(BLOCK)
    except asyncio.CancelledError:
        request.say("CancelledError")
        raise
    except OSError:
        request.say("OSError")
        raise
    finally:
        request.say("finally")


async def sends_to_nobody(request):
    """Hears of the end first, and sends nevertheless."""
    request.say("began")
    await request.receive()
    await request.receive()
    try:
        await request.start()
        await request.part(b"to nobody", more=False)
    except OSError as error:
        request.say(f"OSError {isinstance(error, RuntimeError)}")
    else:
        request.say("accepted")


async def after_the_answer(request):
    """The client may go: its response is complete."""
    await request.answer(b"complete")
    request.say("began")
    try:
        await for_go()
    except asyncio.CancelledError:
        request.say("CancelledError")
        raise
    notes.append(f"{request.name} went on")


async def listens_after_the_answer(request):
    await request.receive()
    listener = asyncio.create_task(request.receive())
    await asyncio.sleep(0)
    early = listener.done()
    await request.answer(b"complete")
    message = await listener
    notes.append([early, message["type"]])


async def answers_late(request):
    """For a half-closed client that still reads."""
    request.say("began")
    with is_waiting():
        await for_go()
    await request.answer(b"late")


async def quick(request):
    """A few turns of the loop, then an answer."""
    for _ in range(10):
        await asyncio.sleep(0)
    await request.answer(b"quick")


async def shielded(request):
    """What is shielded from its cancellation goes on without it."""
    request.say("began")

    async def work():
        await for_go()
        notes.append("shielded work done")

    task = asyncio.ensure_future(work())
    request.scope["state"]["task"] = task
    await asyncio.shield(task)


async def swallows(request):
    """Once; then it is done."""
    request.say("began")
    try:
        await asyncio.sleep(FOR_EVER_S)
    except asyncio.CancelledError:
        request.say("swallowed")
    await asyncio.sleep(0)
    request.say("returned")


application = application_of(globals())
