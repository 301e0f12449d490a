"""The gevent loop engine: the hub runs the loop, and watches one descriptor of the worker's.

In Python because gevent's interface is. What a turn does, and how requests are started, suspended
and told to end, is the extension module's business; here is only what gevent has to be asked for.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import TYPE_CHECKING

import gevent
import gevent.event
import gevent.exceptions
import gevent.monkey
from gevent.hub import Hub

if TYPE_CHECKING:
    from greenloom.engines.worker import Worker

READ = 1
"""A watcher's interest, in libev as in libuv."""

NAP_S = 0.002
"""Between two looks at something that no event tells of."""


class RequestGreenlet(gevent.Greenlet):
    """What a request runs on: as good as any greenlet that the application spawns."""

    # Nobody spawned it, so there is no stack to remember.
    spawning_stack_limit = 0
    # Its one argument is what it runs. Not a method: nothing of the server's is on its stack.
    _run = operator.call


def hub() -> Hub:
    """Give the hub of this thread."""
    return gevent.get_hub()


def describe() -> str:
    """Say which loop it is, for the log."""
    loop = gevent.config.loop
    return f"gevent {gevent.__version__}, {loop.__module__}"


def suspended() -> RequestGreenlet:
    """Make one that stands in the middle of what it runs, and that nobody knows."""
    greenlet = RequestGreenlet(None, gevent.getcurrent().switch)
    greenlet.switch()
    return greenlet


def end(greenlet: RequestGreenlet) -> None:
    """Let it run to its end, and come back here: the hub does not run yet."""
    greenlet.parent = gevent.getcurrent()
    greenlet.switch()


def patch() -> None:
    """Make the standard library cooperative."""
    gevent.monkey.patch_all()


def nap() -> None:
    """Let others run for a moment."""
    gevent.sleep(NAP_S)


def after_fork() -> None:
    """Make what the application may have used while it was loaded this process's own."""
    gevent.reinit()


def run(worker: Worker, wait_for_hub: bool) -> None:
    """Serve until the worker leaves; on the greenlet that the thread began with."""
    own = hub()
    over = gevent.event.Event()
    worker.on_leave(over.set)
    watcher = own.loop.io(worker.fd, READ)
    watcher.start(worker.turn)
    worker.ready()
    try:
        wait(over.wait, worker)
    finally:
        watcher.stop()
        watcher.close()
    if wait_for_hub:
        wait(own.join, worker)


def wait(finish: Callable[[], object], worker: Worker) -> None:
    """Let the hub run until `finish` returns.

    gevent throws into this greenlet what it takes for an order to end the process (SystemExit,
    KeyboardInterrupt); but a greenlet that fails ends nobody else's requests. A hub that is dead,
    or watches nothing any more, serves nobody: then the worker has to be replaced.
    """
    while True:
        try:
            finish()
        except BaseException as error:
            if isinstance(error, gevent.exceptions.LoopExit) or hub().dead:
                raise
            worker.report(error)
        else:
            return
