"""One of two ASGI applications for mount tests: says its name and its paths."""

import asyncio
import json


async def answer(name, scope, send):
    keys = ("root_path", "path")
    found = [name, *(scope[key] for key in keys), scope["raw_path"].decode("latin-1")]
    await asyncio.sleep(0)
    start = {"type": "http.response.start", "status": 200, "headers": []}
    await send(start)
    await send({"type": "http.response.body", "body": json.dumps(found).encode()})


async def application(scope, receive, send):
    assert scope["type"] == "http"
    await answer("one", scope, send)


async def named(scope, receive, send):
    assert scope["type"] == "http"
    await answer("named", scope, send)


class Callable:
    """An instance whose call is a coroutine function."""

    async def __call__(self, scope, receive, send):
        assert scope["type"] == "http"
        await answer("instance", scope, send)


instance = Callable()
