"""The `uwsgi` module in the tasks of requests, and requests with a known number of switches."""

import asyncio
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "asgi_support"))

import uwsgi
from asgi_support import application_of


async def sleeps(request):
    for _ in range(int(request.query["times"])):
        await asyncio.sleep(float(request.query.get("seconds", "0")))
    await request.answer(b"slept")


async def does_not_wait(request):
    """Awaits only what is done already, and sends what fits."""

    async def child():
        return 1

    done = asyncio.get_running_loop().create_future()
    done.set_result(2)
    await child()
    await done
    await asyncio.Lock().acquire()
    await request.receive()
    await request.start()
    for _ in range(10):
        await request.part(b"part")
    await request.part(b"", more=False)


async def child_tasks(request):
    """Their own steps are not those of the request."""

    async def child():
        for _ in range(20):
            await asyncio.sleep(0)

    await asyncio.gather(*(child() for _ in range(5)))
    await request.answer(b"gathered")


async def in_an_async_generator(request):
    async def numbers():
        for number in range(5):
            await asyncio.sleep(0)
            yield number

    async for _ in numbers():
        pass
    await request.answer(b"generated")


async def logvar(request):
    uwsgi.set_logvar("who", request.name)
    await asyncio.sleep(0)
    found = uwsgi.get_logvar("who")
    await request.answer(found)


async def logvar_in_helpers(request):
    """Where code of the request runs that is not its outermost coroutine."""

    async def helper():
        uwsgi.set_logvar("who", request.name)
        await asyncio.sleep(0)

    await helper()
    await request.answer(uwsgi.get_logvar("who"))


async def log_this(request):
    uwsgi.log_this_request()
    await request.answer(b"logged")


async def connection(request):
    fd = uwsgi.connection_fd()
    await request.json([uwsgi.is_connected(fd), os.readlink(f"/proc/self/fd/{fd}")[:7]])


async def facts(request):
    uwsgi.log("said with uwsgi.log")
    await request.json(
        [uwsgi.worker_id(), uwsgi.numproc, uwsgi.loop.decode(), uwsgi.opt.get("asgi") is not None]
    )


CALLS = {
    "suspend": lambda: uwsgi.suspend(),
    "async_sleep": lambda: uwsgi.async_sleep(1),
    "wait_fd_read": lambda: uwsgi.wait_fd_read(0),
    "wait_fd_write": lambda: uwsgi.wait_fd_write(1),
    "signal_wait": lambda: uwsgi.signal_wait(),
    "chunked_read": lambda: uwsgi.chunked_read(),
    "chunked_read_nb": lambda: uwsgi.chunked_read_nb(),
    "send": lambda: uwsgi.send(b"raw"),
    "sendfile": lambda: uwsgi.sendfile(__file__),
    "disconnect": lambda: uwsgi.disconnect(),
    "lock": lambda: uwsgi.lock(),
}


async def refused(request):
    """What would suspend a greenlet that is not there."""
    found = {}
    # One that is free can be taken.
    uwsgi.lock()
    for name, call in CALLS.items():
        try:
            call()
        except RuntimeError as error:
            found[name] = str(error)
        else:
            found[name] = "accepted"
    uwsgi.unlock()
    await asyncio.sleep(0)
    await request.json(found)


application = application_of(globals())
