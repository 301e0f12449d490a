"""Starlette: a stream, server-sent events, and work behind the response."""

import asyncio
import contextlib

from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.responses import JSONResponse, PlainTextResponse, StreamingResponse
from starlette.routing import Route

PAUSE_S = 0.5
HEARTBEAT_S = 15


@contextlib.asynccontextmanager
async def lifespan(app):
    """Once in each worker; here belong pools of connections."""
    yield {"listeners": set(), "mails": []}
    print("no request is left", flush=True)


async def hello(request):
    return PlainTextResponse("Hello from Starlette\n")


async def count(request):
    async def lines():
        for number in range(1, 6):
            yield f"line {number}\n"
            await asyncio.sleep(PAUSE_S)

    return StreamingResponse(lines(), media_type="text/plain")


async def events(request):
    """Everything that is said from now on, and a comment when nothing is said for long."""
    said = asyncio.Queue(100)
    listeners = request.state.listeners

    async def messages():
        listeners.add(said)
        try:
            yield ": you are listening\n\n"
            while True:
                try:
                    async with asyncio.timeout(HEARTBEAT_S):
                        text = await said.get()
                except TimeoutError:
                    yield ": nothing new\n\n"
                else:
                    yield "".join(f"data: {line}\n" for line in text.splitlines()) + "\n"
        finally:
            listeners.discard(said)

    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(messages(), media_type="text/event-stream", headers=headers)


async def say(request):
    text = (await request.body()).decode(errors="replace")
    for listener in request.state.listeners:
        with contextlib.suppress(asyncio.QueueFull):
            listener.put_nowait(text)
    return PlainTextResponse(f"{len(request.state.listeners)} listen\n")


async def order(request):
    """The client has its answer before the mail is written."""

    async def write(mails):
        await asyncio.sleep(PAUSE_S)
        mails.append(f"mail {len(mails) + 1}")

    work = BackgroundTask(write, request.state.mails)
    return PlainTextResponse("ordered\n", status_code=202, background=work)


async def mails(request):
    return JSONResponse(request.state.mails)


app = Starlette(
    lifespan=lifespan,
    routes=[
        Route("/", hello),
        Route("/count", count),
        Route("/events", events),
        Route("/say", say, methods=["POST"]),
        Route("/order", order, methods=["POST"]),
        Route("/mails", mails),
    ],
)
