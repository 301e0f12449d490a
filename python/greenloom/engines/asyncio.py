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

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from greenloom.engines.worker import Worker

FAILURES = 100
"""A loop that fails so often within a second does not run any more."""

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
    over = False

    def leave() -> None:
        nonlocal over
        over = True
        loop.stop()

    worker.on_leave(leave)
    loop.add_reader(worker.fd, worker.turn)
    loop.call_soon(worker.ready)
    failures: deque[float] = deque(maxlen=FAILURES)
    # An application may stop its loop, and what asyncio takes for an order to end the process
    # (SystemExit, KeyboardInterrupt) comes out here; but nobody else's requests end by that.
    while not over:
        try:
            loop.run_forever()
        except BaseException as error:
            failures.append(time.monotonic())
            if len(failures) == FAILURES and failures[-1] < failures[0] + 1:
                raise
            worker.report(error)
    loop.remove_reader(worker.fd)
    _finish(loop, worker)


def _finish(loop: asyncio.AbstractEventLoop, worker: Worker) -> None:
    """Let what belongs to no request end in order, as `asyncio.run` does."""
    _complete(loop, worker, _cancel_tasks(loop, worker))
    _complete(loop, worker, loop.shutdown_asyncgens())
    _complete(loop, worker, loop.shutdown_default_executor())
    loop.close()


async def _cancel_tasks(loop: asyncio.AbstractEventLoop, worker: Worker) -> None:
    tasks = asyncio.all_tasks(loop) - {asyncio.current_task()}
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
