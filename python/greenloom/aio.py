"""Waiting for what asyncio does, from WSGI applications under the asyncio and Tornado loop engines.

In Python because asyncio's interface is.
"""

from __future__ import annotations

import asyncio
import inspect
import sys
from collections.abc import Awaitable
from types import FrameType
from typing import TypeVar

import greenlet

__all__ = ["wait"]

T = TypeVar("T")


def wait(awaitable: Awaitable[T], timeout: float | None = None) -> T:
    """Suspend the running request until `awaitable` is done; its result, or its exception.

    Others run meanwhile. Coroutines become tasks, which see the request's context variables.
    `timeout` is in seconds: after that the awaitable is cancelled and TimeoutError raised. An
    exception that ends the wait (the request is told to end, say) cancels the awaitable, too.

    To be called on the greenlet of a request, or of a handler of a uwsgi signal; elsewhere it
    raises RuntimeError: a coroutine awaits, and a callback has nobody who could wait.
    """
    me = greenlet.getcurrent()
    try:
        loop = asyncio.get_running_loop()
        here = _below_the_loop(me) and not _in_a_task()
        problem = None if here else "must be called on the greenlet of a request"
    except RuntimeError:
        problem = "needs --asyncio or --tornado: no event loop runs in this thread"
    if problem is not None:
        if inspect.iscoroutine(awaitable):
            awaitable.close()
        raise RuntimeError(f"greenloom.aio.wait() {problem}")
    if inspect.iscoroutine(awaitable):
        # Not by the loop's factory: an eager task would begin here, and nobody else could run
        # while it waits.
        awaitable = asyncio.Task(awaitable, loop=loop)
    future = asyncio.ensure_future(awaitable, loop=loop)
    return _until_done(loop, me, future, timeout)


def _below_the_loop(me: greenlet.greenlet) -> bool:
    """Whether the parent runs the loop: it is the first greenlet of its thread."""
    return me.parent is not None and me.parent.parent is None


def _in_a_task() -> bool:
    """Whether a task has begun to run on this very greenlet (an eager one)."""
    task = asyncio.current_task()
    if task is None:
        return False
    outermost = getattr(task.get_coro(), "cr_frame", None)
    frame: FrameType | None = sys._getframe()
    while frame is not None and frame is not outermost:
        frame = frame.f_back
    return frame is not None


def _until_done(
    loop: asyncio.AbstractEventLoop,
    me: greenlet.greenlet,
    future: asyncio.Future[T],
    timeout: float | None,
) -> T:
    waits, is_late = True, False

    def wake(_: object = None) -> None:
        # It may be on its way already when somebody else ends the wait.
        if waits:
            me.switch()

    def give_up() -> None:
        nonlocal is_late
        is_late = True
        wake()

    late = None if timeout is None else loop.call_later(timeout, give_up)
    future.add_done_callback(wake)
    try:
        while not future.done():
            # Somebody else may switch here, too.
            me.parent.switch()
            if is_late and not future.done():
                raise TimeoutError(f"greenloom.aio.wait(): not done after {timeout} s")
    except BaseException:
        future.cancel()
        raise
    finally:
        waits = False
        if late is not None:
            late.cancel()
    return future.result()
