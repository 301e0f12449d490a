"""The asyncio loop engine: a loop of asyncio's interface watches one descriptor of the worker's.

In Python because asyncio's interface is. It runs asyncio's own loop, uvloop's and Tornado's, which
differ in how they are made. What a turn does, and how requests are started, suspended and told to
end, is the extension module's business.
"""

from __future__ import annotations

import asyncio
import platform
import time
from collections import deque
from typing import TYPE_CHECKING

from greenloom._greenloom import Request
from greenloom.engines.asgi import Lifespan

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from greenloom.engines.worker import Worker

FAILURES = 100
"""A loop that fails so often within a second does not run any more."""

CLEAN_UP_S = 0.4
"""How long requests that were told to end may take before they are told again.

With what follows less than a second: the master waits no longer.
"""

TOLD = 8
"""How often they are told before the loop ends without them."""

HURRY_S = 0.05
"""How long they may take each time but the first."""

_own: asyncio.AbstractEventLoop | None = None
"""The loop of this process, once it is made."""


def require(engine: str) -> None:
    """Import what the engine needs, to find out early that it is not there."""
    if engine == "uvloop":
        import uvloop  # noqa: F401
    elif engine == "tornado":
        import tornado.ioloop  # noqa: F401


def make(engine: str) -> None:
    """Make the loop of this process, current in its main thread; to be called after the fork."""
    global _own
    # An application that has found it while it was loaded may have closed it.
    if _own is None or _own.is_closed():
        _own = _new(engine)
    asyncio.set_event_loop(_own)


def _new(engine: str) -> asyncio.AbstractEventLoop:
    if engine == "uvloop":
        import uvloop

        return uvloop.new_event_loop()
    if engine == "tornado":
        from tornado.ioloop import IOLoop

        # `IOLoop.current()` finds it by the loop that is current then.
        return IOLoop(make_current=False).asyncio_loop
    return asyncio.new_event_loop()


def own() -> asyncio.AbstractEventLoop:
    """Return the loop of this process."""
    if _own is None:
        raise RuntimeError("no loop has been made")
    return _own


def describe(engine: str) -> str:
    """Say which loop it is, for the log."""
    if engine == "uvloop":
        import uvloop

        return f"uvloop {uvloop.__version__}"
    if engine == "tornado":
        import tornado

        return f"Tornado {tornado.version}"
    return f"asyncio of Python {platform.python_version()}"


def run(worker: Worker) -> None:
    """Serve until the worker leaves; on the greenlet that is the parent of all requests'."""
    loop = _own
    if loop is None or loop.is_closed():
        raise RuntimeError("the application has closed the loop of its worker (in a hook?)")
    # A hook may have run a loop of its own, after which none is current.
    asyncio.set_event_loop(loop)
    lifespans = [Lifespan(worker, *found) for found in worker.lifespans()]
    for lifespan in lifespans:
        _complete(loop, worker, lifespan.start())
        if (failure := lifespan.failure) is not None:
            worker.refuse(failure)
            return _finish(loop, worker, lifespans)
    over: asyncio.Future[None] = loop.create_future()
    worker.on_leave(lambda: over.set_result(None))
    loop.add_reader(worker.fd, worker.turn)
    loop.call_soon(worker.ready)
    failures: deque[float] = deque(maxlen=FAILURES)
    # An application may stop its loop, and what asyncio takes for an order to end the process
    # (SystemExit, KeyboardInterrupt) comes out here; but nobody else's requests end by that.
    last = None
    while not over.done():
        # Of a task that lasts longer than all requests anyio knows when to end its threads. It
        # ends before if somebody cancels all tasks there are.
        if last is None or last.done():
            last = asyncio.Task(_last(over), loop=loop)
        try:
            loop.run_until_complete(last)
        except asyncio.CancelledError:
            continue
        except RuntimeError:
            # The loop was stopped; it goes on unless it was closed, too.
            if loop.is_closed():
                raise
        except BaseException as error:
            failures.append(time.monotonic())
            if len(failures) == FAILURES and failures[-1] < failures[0] + 1:
                raise
            worker.report(error)
    loop.remove_reader(worker.fd)
    _finish(loop, worker, lifespans)


def _finish(loop: asyncio.AbstractEventLoop, worker: Worker, lifespans: list[Lifespan]) -> None:
    """Let applications and what belongs to no request end in order, as `asyncio.run` does."""
    _complete(loop, worker, _end_requests(loop, worker))
    for lifespan in reversed(lifespans):
        _complete(loop, worker, lifespan.stop())
    _complete(loop, worker, _cancel_tasks(loop, worker))
    _complete(loop, worker, loop.shutdown_asyncgens())
    _complete(loop, worker, loop.shutdown_default_executor())
    loop.close()


async def _last(over: asyncio.Future[None]) -> None:
    await asyncio.shield(over)


def _requests(loop: asyncio.AbstractEventLoop) -> set[asyncio.Task[object]]:
    return {task for task in asyncio.all_tasks(loop) if isinstance(task.get_coro(), Request)}


async def _end_requests(loop: asyncio.AbstractEventLoop, worker: Worker) -> None:
    """Wait for requests that were told to end, and tell them again."""
    patience_s = CLEAN_UP_S
    tasks = {task for task in _requests(loop) if not task.get_coro().is_over}
    # Once they were told already.
    for number in range(TOLD):
        if tasks:
            for task in tasks if number else ():
                task.cancel()
            _, tasks = await asyncio.wait(tasks, timeout=patience_s)
            patience_s = HURRY_S
    worker.give_up()


async def _cancel_tasks(loop: asyncio.AbstractEventLoop, worker: Worker) -> None:
    # Requests had their time.
    tasks = asyncio.all_tasks(loop) - _requests(loop) - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    for ended in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(ended, BaseException) and not isinstance(ended, asyncio.CancelledError):
            worker.report(ended)


def _complete(
    loop: asyncio.AbstractEventLoop, worker: Worker, what: Coroutine[object, object, None]
) -> None:
    try:
        loop.run_until_complete(what)
    except BaseException as error:
        worker.report(error)
