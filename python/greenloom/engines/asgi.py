"""ASGI: the coroutines that an application awaits, and its lifespan.

In Python because coroutines and tasks are. What they say and hear is the extension module's
business.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from greenloom.engines.worker import Worker

Message = dict[str, Any]


class Channel(Protocol):
    """What the extension module gives for a request."""

    def receive(self) -> Message | Awaitable[None]:
        """Return the next message; or what to await before asking again."""

    def unsent(self) -> Awaitable[None] | None:
        """Return what to await before asking again; None: all that was sent has left."""


class Exchange:
    """`receive` of one request."""

    __slots__ = ("_channel",)

    def __init__(self, channel: Channel) -> None:
        """Of the request that has this channel."""
        self._channel = channel

    async def receive(self) -> Message:
        """Wait for the next message."""
        while True:
            found = self._channel.receive()
            if type(found) is dict:
                return found
            await found


async def drained(channel: Channel, future: Awaitable[None] | None) -> None:
    """Wait until what was sent has left: what `send` returns when its client reads slowly."""
    while future is not None:
        await future
        future = channel.unsent()


class Lifespan:
    """The lifespan of one application in one worker."""

    def __init__(
        self,
        worker: Worker,
        app: Callable[..., Awaitable[None]],
        scope: dict[str, object],
        name: str,
    ) -> None:
        """Of `app`, which a log calls `name`."""
        self._worker = worker
        self._app = app
        self._scope = scope
        self._name = name
        self._messages: asyncio.Queue[Message] = asyncio.Queue()
        self._started = asyncio.Event()
        self._stopped = asyncio.Event()
        self._asked = False
        self._failure: str | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def failure(self) -> str | None:
        """Why the application cannot serve; None: it can."""
        if self._failure is not None or self._started.is_set():
            return self._failure
        return self._failed("the loop was stopped meanwhile")

    async def start(self) -> None:
        """Let the application start; what has become of it says `failure`."""
        self._messages.put_nowait({"type": "lifespan.startup"})
        self._task = asyncio.create_task(self._run(), name=f"lifespan of {self._name}")
        await self._started.wait()

    async def stop(self) -> None:
        """Let the application stop, if it has started."""
        if self._task is None or self._task.done() or self._failure is not None:
            return
        self._messages.put_nowait({"type": "lifespan.shutdown"})
        await self._stopped.wait()

    async def _run(self) -> None:
        try:
            await self._app(self._scope, self._receive, self._send)
        except asyncio.CancelledError:
            self._refuse("its task was cancelled")
            raise
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt | SystemExit) and not self._started.is_set():
                self._refuse(f"{type(error).__name__}: {error}")
            else:
                self._raised(error)
        finally:
            # Nobody waits for one that has ended, whatever it has said.
            self._started.set()
            self._stopped.set()

    def _raised(self, error: BaseException) -> None:
        if self._failure is not None:
            return
        if self._asked or self._started.is_set():
            self._worker.log(f"{self._name} has raised an exception in its lifespan, and goes on:")
            self._worker.report(error)
        else:
            what = f"{type(error).__name__}: {error}".splitlines()[0]
            self._worker.log(f"{self._name} has no lifespan ({what})")

    def _refuse(self, reason: str) -> None:
        if not self._started.is_set():
            self._failure = self._failed(reason)

    def _failed(self, reason: str) -> str:
        return f"{self._name} has failed to start (lifespan.startup): {reason}"

    async def _receive(self) -> Message:
        self._asked = True
        return await self._messages.get()

    async def _send(self, message: Message) -> None:
        kind = message["type"]
        if kind == "lifespan.startup.complete":
            self._started.set()
        elif kind == "lifespan.startup.failed":
            self._refuse(message.get("message", "") or "no reason was given")
            self._started.set()
        elif kind == "lifespan.shutdown.complete":
            self._stopped.set()
        elif kind == "lifespan.shutdown.failed":
            reason = message.get("message", "")
            self._worker.log(f"{self._name} has failed to stop (lifespan.shutdown): {reason}")
            self._stopped.set()
        else:
            raise ValueError(f"{kind!r} is no message of a lifespan")
