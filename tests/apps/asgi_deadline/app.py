"""Requests that outlive their deadline, each in its own way; what happens is a line of the log."""

import asyncio
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "asgi_support"))

import uwsgi
from asgi_support import application_of

FOR_EVER_S = 3600
BLOCK = b"d" * 65_536


async def begin(request):
    if "mid" in request.query:
        await request.start()
        await request.part(b"part\n")


async def sleeps(request):
    await begin(request)
    try:
        await asyncio.sleep(FOR_EVER_S)
    except asyncio.CancelledError:
        request.say("CancelledError")
        raise


async def deep(request):
    """The innermost await hears of it first, each one around it in turn."""

    async def inner():
        try:
            await asyncio.sleep(FOR_EVER_S)
        finally:
            request.say("inner")

    async def outer():
        try:
            await inner()
        finally:
            request.say("outer")

    await begin(request)
    try:
        await outer()
    finally:
        request.say("outermost")


async def busy(request):
    await begin(request)
    try:
        while True:
            await asyncio.sleep(0)
    finally:
        request.say("finally")


async def receives(request):
    """Waits for its client, who stays."""
    await begin(request)
    try:
        await request.receive()
        await request.receive()
    except asyncio.CancelledError:
        request.say("CancelledError")
        raise
    request.say("returned")


async def stalls(request):
    await request.start()
    try:
        while True:
            await request.part(BLOCK)
    finally:
        request.say("finally")


async def in_a_group(request):
    """The tasks of a group end with it."""

    async def member(number):
        try:
            await asyncio.sleep(FOR_EVER_S)
        finally:
            request.say(f"member {number}")

    await begin(request)
    async with asyncio.TaskGroup() as group:
        for number in range(3):
            group.create_task(member(number))


async def cleans_up(request):
    """Waits in its `finally`, and comes to its end there."""
    await begin(request)
    try:
        await asyncio.sleep(FOR_EVER_S)
    finally:
        for _ in range(20):
            await asyncio.sleep(0.001)
        request.say("cleaned up")


async def cleans_up_for_long(request):
    """Longer than until the next telling, which ends it."""
    try:
        await asyncio.sleep(FOR_EVER_S)
    finally:
        try:
            await asyncio.sleep(FOR_EVER_S)
        except asyncio.CancelledError:
            request.say("told again")
            raise


async def catches_exception(request):
    try:
        await asyncio.sleep(FOR_EVER_S)
    except Exception:
        request.say("caught")
        raise


async def swallows_once(request):
    """And answers too late, for what it is worth."""
    await begin(request)
    try:
        await asyncio.sleep(FOR_EVER_S)
    except asyncio.CancelledError:
        request.say("swallowed")
    try:
        if "mid" not in request.query:
            await request.start()
        await request.part(b"too late", more=False)
    except Exception as error:
        request.say(f"refused {type(error).__name__}")
    request.say("returned")


async def swallows_for_ever(request):
    while True:
        try:
            await asyncio.sleep(FOR_EVER_S)
        except asyncio.CancelledError:
            request.say("swallowed")


async def raises_another(request):
    try:
        await asyncio.sleep(FOR_EVER_S)
    except asyncio.CancelledError:
        raise ValueError("instead of it") from None


async def in_time(request):
    for _ in range(int(request.query["times"])):
        await asyncio.sleep(float(request.query["seconds"]))
    await request.answer(request.name.encode())


async def computes(request):
    """Never gives way, so nobody can tell it anything before it has answered."""
    end = time.monotonic() + 0.4
    while time.monotonic() < end:
        pass
    await request.answer(b"computed\n")


async def computes_then_waits(request):
    end = time.monotonic() + 0.4
    while time.monotonic() < end:
        pass
    await asyncio.sleep(0.001)
    await request.answer(b"too late\n")


async def allows_itself(request):
    """`uwsgi.set_user_harakiri`, from the request's own task."""
    uwsgi.set_user_harakiri(int(request.query["seconds"]))
    if "back" in request.query:
        uwsgi.set_user_harakiri(0)
        await asyncio.sleep(1.2)
        return await request.answer(b"taken back")
    try:
        await asyncio.sleep(FOR_EVER_S)
    except asyncio.CancelledError:
        request.say("CancelledError")
        raise


async def timeout_of_its_own(request):
    """asyncio's own deadlines are told from the server's."""
    try:
        async with asyncio.timeout(0.01):
            await asyncio.sleep(FOR_EVER_S)
    except TimeoutError:
        await request.answer(b"its own")


async def reads_body(request):
    body = await request.body()
    await request.answer(b"none" if body is None else b"%d" % len(body))


application = application_of(globals())
