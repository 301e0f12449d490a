"""Starlette as it is: what its applications use of a server."""

import asyncio
import contextlib
import hashlib
import os
import threading
from pathlib import Path

from starlette.applications import Starlette
from starlette.background import BackgroundTask, BackgroundTasks
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.responses import (
    FileResponse,
    JSONResponse,
    PlainTextResponse,
    RedirectResponse,
    Response,
    StreamingResponse,
)
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

FILES = Path(os.environ["FILES"])
notes = []


class Go:
    event = asyncio.Event()


async def hello(request):
    return PlainTextResponse("hello\n")


async def item(request):
    return JSONResponse(
        {
            "id": request.path_params["id"],
            "query": dict(request.query_params),
            "cookies": request.cookies,
            "agent": request.headers.get("user-agent"),
            "client": request.client.host,
            "url": str(request.url),
            "url_for": str(request.url_for("item", id=7)),
            "base": str(request.base_url),
        }
    )


async def state(request):
    return JSONResponse([request.state.name, request.app.state.name])


def in_a_thread(request):
    return PlainTextResponse("from a thread\n")


def which_thread(request):
    return JSONResponse(threading.get_ident())


async def numbers(count, finished="stream"):
    try:
        for number in range(count):
            yield f"{number}\n"
            await asyncio.sleep(0)
    finally:
        notes.append(f"{finished} ends")


async def stream(request):
    count = int(request.query_params.get("count", "10"))
    return StreamingResponse(numbers(count), media_type="text/plain")


async def sync_stream(request):
    return StreamingResponse((f"{number}\n" for number in range(10)), media_type="text/plain")


async def background(request):
    async def asynchronous(name):
        await Go.event.wait()
        notes.append(f"async {name}")

    def synchronous(name):
        notes.append(f"sync {name}")

    tasks = BackgroundTasks([BackgroundTask(asynchronous, "a"), BackgroundTask(synchronous, "b")])
    return PlainTextResponse("answered\n", background=tasks)


async def go(request):
    event, Go.event = Go.event, asyncio.Event()
    event.set()
    return PlainTextResponse("gone")


async def take_notes(request):
    taken, notes[:] = list(notes), []
    return JSONResponse(taken)


async def file(request):
    return FileResponse(FILES / request.query_params["name"])


async def upload(request):
    digest = hashlib.sha256()
    length = 0
    async for chunk in request.stream():
        digest.update(chunk)
        length += len(chunk)
    return JSONResponse([length, digest.hexdigest()])


async def echo(request):
    return StreamingResponse(request.stream(), media_type="application/octet-stream")


async def body(request):
    return Response(await request.body())


async def disconnected(request):
    """Asks again and again, as its documentation shows."""
    # The first answer is the request's body; who asks behind that wants to hear of the end.
    await request.is_disconnected()
    await request.is_disconnected()
    notes.append("began")
    try:
        while not await request.is_disconnected():
            await asyncio.sleep(0.01)
    except asyncio.CancelledError:
        notes.append("CancelledError")
        raise
    notes.append("disconnected")
    return PlainTextResponse("nobody reads this")


async def connected(request):
    return JSONResponse([await request.is_disconnected() for _ in range(3)])


async def fails(request):
    raise ValueError("on purpose")


async def redirect(request):
    return RedirectResponse("/hello")


async def cookie(request):
    response = PlainTextResponse("set")
    response.set_cookie("a", "1")
    response.set_cookie("b", "2")
    return response


class Adding(BaseHTTPMiddleware):
    """The kind that runs the application in a task of its own."""

    async def dispatch(self, request, call_next):
        response = await call_next(request)
        response.headers["X-Added"] = "yes"
        return response


@contextlib.asynccontextmanager
async def lifespan(app):
    app.state.name = "of the app"
    yield {"name": "of the lifespan"}
    print("starlette ends in order", flush=True)


COMMON = [
    Route("/hello", hello),
    Route("/items/{id:int}", item, name="item"),
    Route("/state", state),
    Route("/thread", in_a_thread),
    Route("/which_thread", which_thread),
    Route("/stream", stream),
    Route("/sync_stream", sync_stream),
    Route("/background", background),
    Route("/go", go),
    Route("/notes", take_notes),
    Route("/file", file),
    Route("/upload", upload, methods=["POST"]),
    Route("/echo", echo, methods=["POST"]),
    Route("/body", body, methods=["POST"]),
    Route("/disconnected", disconnected),
    Route("/connected", connected),
    Route("/fails", fails),
    Route("/redirect", redirect),
    Route("/cookie", cookie),
    Mount("/static", StaticFiles(directory=FILES)),
]
wrapped = Starlette(
    routes=[
        Route("/hello", hello),
        Route("/stream", stream),
        Route("/echo", echo, methods=["POST"]),
    ],
    middleware=[Middleware(Adding), Middleware(GZipMiddleware, minimum_size=100)],
)
application = Starlette(
    routes=[*COMMON, Mount("/sub", routes=COMMON), Mount("/wrapped", wrapped)], lifespan=lifespan
)
