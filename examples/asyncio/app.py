"""What a WSGI application does with the event loop that serves it: one path for each way."""

import asyncio

import aiohttp
import greenlet
from greenloom import aio

PAUSE_S = 0.5


def callback_later(environ):
    """A callback that runs when the response has long left."""
    asyncio.get_event_loop().call_later(PAUSE_S, print, "Hello, the pause has elapsed")
    return [b"Hello World"]


def wait_for_callback(environ):
    """Suspended until the callback switches back."""
    myself = greenlet.getcurrent()
    asyncio.get_event_loop().call_later(PAUSE_S, myself.switch)
    # back to the event loop
    myself.parent.switch()
    return [b"Hello World"]


def generator(environ):
    """The same before each part of a response."""
    myself = greenlet.getcurrent()
    for part in b"One", b"Two":
        asyncio.get_event_loop().call_later(PAUSE_S, myself.switch)
        myself.parent.switch()
        yield part


def task(environ):
    """Suspended until a coroutine switches back."""

    async def sleeping(me):
        await asyncio.sleep(PAUSE_S)
        me.switch()

    myself = greenlet.getcurrent()
    asyncio.get_event_loop().create_task(sleeping(myself))
    myself.parent.switch()
    return [b"Hello World"]


def future(environ):
    """The coroutine's result comes in a future."""

    async def sleeping(me, result):
        await asyncio.sleep(PAUSE_S)
        result.set_result(b"Hello World")
        me.switch()

    myself = greenlet.getcurrent()
    result = asyncio.get_event_loop().create_future()
    asyncio.get_event_loop().create_task(sleeping(myself, result))
    myself.parent.switch()
    return [result.result()]


async def fetch(url):
    async with aiohttp.ClientSession() as session, session.get(url) as response:
        return await response.read()


def client(environ):
    """A library of asyncio's: asks this very server, twice at once."""
    url = f"http://{environ['HTTP_HOST']}/callback"

    async def both():
        return await asyncio.gather(fetch(url), fetch(url))

    return aio.wait(both(), timeout=10)


def waiting(environ):
    """The short way: one call that suspends until it is done."""
    return [aio.wait(asyncio.sleep(PAUSE_S, result=b"Hello World"))]


PATHS = {
    "/": callback_later,
    "/callback": wait_for_callback,
    "/generator": generator,
    "/task": task,
    "/future": future,
    "/client": client,
    "/wait": waiting,
}


def application(environ, start_response):
    handler = PATHS.get(environ["PATH_INFO"])
    if handler is None:
        start_response("404 Not Found", [("Content-Type", "text/plain")])
        return [b"no such path\n"]
    start_response("200 OK", [("Content-Type", "text/html")])
    return handler(environ)
