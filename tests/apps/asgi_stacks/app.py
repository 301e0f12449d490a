"""Requests that stand still somewhere deep: the names of the functions must be found in the log."""

import os
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "asgi_support"))

from asgi_support import application_of, at_gate


async def awaiting_outer(request):
    await awaiting_middle(request)


async def awaiting_middle(request):
    await awaiting_inner(request)


async def awaiting_inner(request):
    await at_gate()
    await request.answer(b"awaited\n")


async def generator_outer(request):
    async for part in generator_inner():
        await request.answer(part)


async def generator_inner():
    await at_gate()
    yield b"generated\n"


async def receiving_outer(request):
    await receiving_inner(request)
    await request.answer(b"received\n")


async def receiving_inner(request):
    await request.body()


async def busy_outer(request):
    await busy_inner(request)


async def busy_inner(request):
    gate = os.open(os.environ["GATE"], os.O_RDWR | os.O_NONBLOCK)
    try:
        end = time.monotonic() + 20
        while not passed(gate) and time.monotonic() < end:
            pass
    finally:
        os.close(gate)
    await request.answer(b"computed\n")


def passed(gate):
    try:
        return bool(os.read(gate, 1))
    except BlockingIOError:
        return False


async def resting_outer(request):
    await request.answer(b"answered\n")
    await at_gate()


application = application_of(globals())
