"""uwsgi signals beside ASGI requests; what happens is a line of the log, `event what`."""

import asyncio
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "asgi_support"))

import uwsgi
from asgi_support import application_of, is_waiting
from uwsgidecorators import postfork

NOTE, SLOW, BAD, TASK, TICK = 30, 31, 32, 33, 34

came = []
waiters = []


def event(*words):
    uwsgi.log(" ".join(["event", *map(str, words)]))


def note(number):
    came.append(number)
    for waiter in waiters:
        waiter.set()
    event("handled", number)


def slow(number):
    """Suspended on its greenlet, beside requests."""
    event("slow begins")
    uwsgi.async_sleep(0.05)
    uwsgi.suspend()
    event("slow ends")


def bad(number):
    raise ValueError("bad on purpose")


def makes_a_task(number):
    """asyncio is there for handlers, too."""

    async def task():
        await asyncio.sleep(0.001)
        event("task ends")

    tasks.append(asyncio.get_running_loop().create_task(task()))


def tick(number):
    event("tick")


tasks = []
uwsgi.register_signal(NOTE, "", note)
uwsgi.register_signal(SLOW, "", slow)
uwsgi.register_signal(BAD, "", bad)
uwsgi.register_signal(TASK, "", makes_a_task)
uwsgi.register_signal(TICK, "", tick)
if "TICK_S" in os.environ:
    uwsgi.add_timer(TICK, float(os.environ["TICK_S"]))


@postfork
def forked():
    event("forked")


async def raises(request):
    uwsgi.signal(int(request.query["n"]))
    await request.answer(b"raised")


async def raised_in_a_thread(request):
    await asyncio.to_thread(uwsgi.signal, int(request.query["n"]))
    await request.answer(b"raised")


async def waits_for_handler(request):
    """A handler on its greenlet wakes the task of a request."""
    mine = asyncio.Event()
    waiters.append(mine)
    try:
        with is_waiting():
            await mine.wait()
    finally:
        waiters.remove(mine)
    await request.answer(b"handled")


application = application_of(globals())
