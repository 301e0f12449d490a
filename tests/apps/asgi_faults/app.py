"""Applications that go wrong, each as its name says; `/caught` answers with what send() raised."""

import asyncio
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "asgi_support"))

from asgi_support import TEXT, application_of, say

OK = {"type": "http.response.start", "status": 200, "headers": [TEXT]}
LAST = {"type": "http.response.body", "body": b"last"}
PART = {"type": "http.response.body", "body": b"part", "more_body": True}


def start(**changes):
    return {**OK, **changes}


def head(name, value):
    return start(headers=[(name, value)])


# What send() must refuse, after what may go before.
REFUSED = {
    "body-first": [LAST],
    "two-starts": [OK, OK],
    "start-in-the-body": [OK, PART, OK],
    "text": [OK, {**LAST, "body": "text"}],
    "number": [OK, {**LAST, "body": 17}],
    "none": [OK, {**LAST, "body": None}],
    "no-type": [{"status": 200}],
    "other-type": [{"type": "http.response.nonsense"}],
    "websocket-type": [{"type": "websocket.accept"}],
    "no-message": [None],
    "list": [[("type", "http.response.start")]],
    "no-status": [{"type": "http.response.start"}],
    "status-text": [start(status="200")],
    "status-small": [start(status=99)],
    "status-large": [start(status=1000)],
    "status-interim": [start(status=100)],
    "status-none": [start(status=None)],
    "headers-number": [start(headers=5)],
    "headers-none-pair": [start(headers=[None])],
    "headers-triple": [start(headers=[(b"a", b"b", b"c")])],
    "name-text": [head("x-a", b"b")],
    "value-text": [head(b"x-a", "b")],
    "name-empty": [head(b"", b"b")],
    "name-blank": [head(b"x a", b"b")],
    "name-colon": [head(b"x:a", b"b")],
    "name-line-break": [head(b"x\r\nEvil", b"b")],
    "value-line-break": [head(b"x-a", b"b\r\nEvil: 1")],
    "value-line-feed": [head(b"x-a", b"b\nEvil: 1")],
    "value-return": [head(b"x-a", b"b\rEvil: 1")],
    "value-null": [head(b"x-a", b"b\0c")],
    "length-text": [head(b"content-length", b"many"), LAST],
    "length-negative": [head(b"content-length", b"-1"), LAST],
    "two-lengths": [
        start(headers=[(b"content-length", b"4"), (b"content-length", b"5")]),
        LAST,
    ],
    "after-the-end": [OK, LAST, LAST],
    "start-after-the-end": [OK, LAST, OK],
}


class OfItsOwn(BaseException):
    pass


ERRORS = {
    "error": ValueError("on purpose"),
    "exit": SystemExit("on purpose"),
    "interrupt": KeyboardInterrupt("on purpose"),
    "base": OfItsOwn("on purpose"),
    "cancelled": asyncio.CancelledError("on purpose"),
    "group": ExceptionGroup("on purpose", [ValueError("inner")]),
    "stop": StopAsyncIteration("on purpose"),
}


async def refused(request):
    """Sends without catching anything."""
    for message in REFUSED[request.query["case"]]:
        await request.send(message)


async def caught(request):
    """Goes on after the refusal as if nothing had been: with an answer, where one can follow."""
    messages = REFUSED[request.query["case"]]
    for message in messages[:-1]:
        await request.send(message)
    try:
        await request.send(messages[-1])
    except Exception as error:
        said = f"{type(error).__name__}: {error}"
    else:
        said = "accepted"
    say(f"caught {said}")
    if len(messages) == 1:
        await request.answer(said.encode())
    elif len(messages) == 2 or messages[1] is PART:
        await request.part(said.encode(), more=False)


async def raises(request):
    if "pause" in request.query:
        await asyncio.sleep(0)
    if request.query["when"] in ("start", "part"):
        await request.start()
    if request.query["when"] == "part":
        await request.part(b"part")
    if request.query["when"] == "end":
        await request.answer(b"whole")
    raise ERRORS[request.query["what"]]


async def cancels_itself(request):
    asyncio.current_task().cancel("by itself")
    await asyncio.sleep(60)


async def returns(request):
    if request.query["when"] == "start":
        await request.start()
    if request.query["when"] == "part":
        await request.start()
        await request.part(b"part")


async def short(request):
    """Less than it has promised."""
    await request.start(headers=[(b"content-length", b"100")])
    await request.part(b"not a hundred bytes", more=False)


async def long(request):
    """More than it has promised."""
    await request.start(headers=[(b"content-length", b"5")])
    await request.part(b"12345")
    await request.part(b"HTTP/1.1 200 Evil\r\n\r\n", more=False)


async def returns_a_value(request):
    await request.answer(b"whole")
    return 17


async def unretrieved(request):
    """A task of its own fails; this one is none the worse for it."""

    async def fails():
        raise ValueError("in a task of its own")

    task = asyncio.create_task(fails())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    del task
    await request.answer(b"whole")


async def pid(request):
    await request.answer(b"%d" % os.getpid())


application = application_of(globals())
