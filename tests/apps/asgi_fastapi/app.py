"""FastAPI as it is: models, dependencies, and path operations that are plain functions."""

import asyncio
import threading
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import BackgroundTasks, Depends, FastAPI, Header, HTTPException, Request
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

notes = []
inside = threading.Barrier(4)


class Item(BaseModel):
    name: str
    price: float
    tags: list[str] = []


@asynccontextmanager
async def lifespan(app):
    app.state.ready = True
    yield
    print("fastapi ends in order", flush=True)


application = FastAPI(lifespan=lifespan)


@application.get("/hello")
async def hello():
    return {"hello": "world"}


@application.post("/items/{number}", status_code=201)
async def create(number: int, item: Item, q: str | None = None):
    return {"number": number, "q": q, **item.model_dump()}


async def session():
    notes.append("opened")
    try:
        yield "session"
    except HTTPException:
        notes.append("rolled back")
        raise
    finally:
        await asyncio.sleep(0)
        notes.append("closed")


def sync_session():
    notes.append("sync opened")
    yield "sync session"
    notes.append("sync closed")


@application.get("/dependency")
async def dependency(
    found: Annotated[str, Depends(session)], other: Annotated[str, Depends(sync_session)]
):
    return [found, other]


@application.get("/dependency_fails")
async def dependency_fails(found: Annotated[str, Depends(session)]):
    raise HTTPException(409, "as the test asks")


@application.get("/thread")
def in_a_thread():
    return threading.current_thread() is threading.main_thread()


@application.get("/four_threads")
def four_threads():
    """Ends only when four of it run at the same time."""
    inside.wait(8)
    return "met"


@application.get("/background")
async def background(tasks: BackgroundTasks):
    tasks.add_task(notes.append, "background")
    return "answered"


@application.get("/headers")
async def headers(x_token: Annotated[list[str] | None, Header()] = None):
    return x_token


@application.get("/stream")
async def stream():
    async def parts():
        for number in range(5):
            yield f"data: {number}\n\n"
            await asyncio.sleep(0)

    return StreamingResponse(parts(), media_type="text/event-stream")


@application.get("/urls")
async def urls(request: Request):
    return [request.scope["root_path"], str(request.url_for("hello")), request.app.state.ready]


@application.get("/notes")
async def take_notes():
    taken, notes[:] = list(notes), []
    return taken
