"""FastAPI: endpoints on the loop and in threads, a checked body, a dependency, an upload."""

import asyncio
import time
from typing import Annotated

from fastapi import Depends, FastAPI, HTTPException, Request
from pydantic import BaseModel

PAUSE_S = 0.2

app = FastAPI(title="Shop")
items = {1: "teapot"}


class Item(BaseModel):
    name: str
    price: float


async def session():
    """As a session of a database: there for one request, and closed in any case."""
    session = {"open": True}
    try:
        yield session
    finally:
        session["open"] = False


@app.get("/")
async def hello():
    return {"message": "Hello from FastAPI"}


@app.get("/items/{number}")
async def item(number: int, session: Annotated[dict, Depends(session)]):
    if number not in items:
        raise HTTPException(404, "no such item")
    return {"name": items[number], "session": session["open"]}


@app.post("/items", status_code=201)
async def add(item: Item):
    number = max(items) + 1
    items[number] = item.name
    return {"number": number, "price": item.price}


@app.get("/sleep")
async def sleep():
    """On the loop: others run meanwhile."""
    await asyncio.sleep(PAUSE_S)
    return {"slept": PAUSE_S}


@app.get("/blocks")
def blocks():
    """No `async`: FastAPI runs it in a thread, where it may block."""
    time.sleep(PAUSE_S)
    return {"blocked": PAUSE_S}


@app.post("/upload")
async def upload(request: Request):
    """A piece at a time, while the client is still sending."""
    length = 0
    async for piece in request.stream():
        length += len(piece)
    return {"length": length}
