"""The applications of benches/on_asyncio.py: WSGI and ASGI on an event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import app

Receive = Callable[[], Awaitable[Any]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

SLEEP_S = 0.05
OK = b"ok\n"
FIELDS = [(b"content-type", b"text/plain"), (b"content-length", b"13")]


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Sleep on the loop, or do what app.py does, as the path says."""
    if environ["PATH_INFO"] != "/sleep":
        return app.application(environ, start_response)
    from greenloom import aio

    aio.wait(asyncio.sleep(SLEEP_S))
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "3")])
    return [OK]


async def hello_asgi(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    """Answer as app.py does at its root."""
    await send({"type": "http.response.start", "status": 200, "headers": FIELDS})
    await send({"type": "http.response.body", "body": app.HELLO})


async def sleep_asgi(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    """Sleep on the loop, then do the same."""
    await asyncio.sleep(SLEEP_S)
    await hello_asgi(scope, receive, send)
