"""The clients of a storm: many at once, each with one habit, until somebody says that it is over.

What a client may hold against the server is `wire`'s business. Here is decided which requests are
made, and which violations a deliberate kill or stop excuses (`judge`).
"""

from __future__ import annotations

import asyncio
import itertools
import random
import time
import zlib
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, fields
from typing import Any, TypeVar

from tests.storm.tally import Kind, Tally, Violation
from tests.storm.wire import TIMEOUT_S, Address, Wire, http_request, packet_request

T = TypeVar("T")

KILL_S = 5.0
"""So long after a kill a lost connection is one of the killed process: a client waits on each."""

LOSSES = {
    Kind.RESET,
    Kind.TRUNCATED,
    Kind.CLOSED_IDLE,
    Kind.CLOSED_UNANSWERED,
}
"""What a kill may do to what the killed process held."""

ENDINGS = {
    Kind.REFUSED,
    Kind.CLOSED_IDLE,
    Kind.CLOSED_ANNOUNCED,
}
"""What a stop may do."""

LATE_ENDINGS = {
    Kind.RESET,
    Kind.CLOSED_UNANSWERED,
}
"""What it may do to requests that were sent after it."""

LARGE = 1_500_000
"""An upload above what a worker keeps in memory."""


@dataclass
class Mix:
    """How many clients of each habit run at once."""

    fresh: int = 3
    """A connection for each request."""
    keeping: int = 3
    """Many requests on one connection."""
    pipelined: int = 1
    """The next requests are sent before the answers are there."""
    dripped: int = 3
    """Requests come in pieces, and a piece of the next one before the answer has been read."""
    uploads: int = 2
    slow: int = 3
    """Requests that take `slow_s`."""
    streams: int = 3
    """Responses that take `stream_s`, part by part."""
    packets: int = 2
    """The uwsgi protocol."""
    idle: int = 500
    """Connections that mostly wait, up to `idle_s` between two requests."""

    slow_s: float = 1.0
    stream_s: float = 10.0
    idle_s: float = 5.0
    pace_s: float = 0.02
    """Pause of a client between two connections, on average."""

    def habits(self) -> dict[str, int]:
        """The counts by name."""
        return {f.name: getattr(self, f.name) for f in fields(self) if not f.name.endswith("_s")}


class Storm:
    """One run of all clients against one server."""

    def __init__(
        self,
        http: list[Address],
        packets: Address | None,
        mix: Mix,
        seed: int = 1,
        enough: int | None = None,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        self.http = http
        self.packet_address = packets
        self.mix = mix
        self.seed = seed
        self.enough = enough
        """Answers after which it is over by itself."""
        self.timeout_s = timeout_s
        self.tally = Tally()
        self.ended = False
        self.killed_at = -KILL_S
        self.stopped_at: float | None = None
        self._tokens = 0

    # --- from outside ---

    def killed(self) -> None:
        """A process that holds connections is being killed now: what it held may be lost."""
        self.killed_at = time.monotonic()

    def stopped(self) -> None:
        """The server was told to stop: what is asked from now on may be refused."""
        self.stopped_at = time.monotonic()

    @property
    def over(self) -> bool:
        """Whether clients end with their present turn."""
        return self.ended or (self.enough is not None and self.tally.total >= self.enough)

    async def during(self, action: Awaitable[T]) -> T:
        """Runs all clients as long as the action takes, and then until each has had its answer."""
        crowd = [
            asyncio.create_task(self._client(habit, number))
            for habit, count in self.mix.habits().items()
            for number in range(count)
        ]
        try:
            return await action
        finally:
            self.ended = True
            # A client that fails has a defect: nothing that a server does ends one.
            await asyncio.gather(*crowd)

    async def until_enough(self) -> None:
        """An action: as long as `enough` takes."""
        while not self.over:
            await asyncio.sleep(0.05)

    def judge(self, what: str, wire: Wire, violation: Violation) -> None:
        """Counts a violation, or excuses it."""
        now = time.monotonic()
        kind = violation.kind
        lost = kind in LOSSES and wire.opened < self.killed_at > now - KILL_S
        ended = self.stopped_at is not None and (
            kind in ENDINGS or (kind in LATE_ENDINGS and wire.asked > self.stopped_at)
        )
        if lost or ended:
            self.tally.excuse(violation)
        else:
            self.tally.violated(what, violation)

    # --- clients ---

    async def _client(self, habit: str, number: int) -> None:
        draw = random.Random(f"{self.seed}.{habit}.{number}")
        turn: Callable[..., Coroutine[Any, Any, None]] = getattr(self, f"_{habit}")
        while not self.over:
            address = self.packet_address if habit == "packets" else draw.choice(self.http)
            if address is None:
                return
            wire = Wire(address, self.timeout_s)
            try:
                await turn(wire, draw)
            except Violation as violation:
                self.judge(habit, wire, violation)
                if self.stopped_at is not None:
                    return
                # A server that fails at once must not make this a busy loop.
                await asyncio.sleep(0.05)
            await asyncio.sleep(draw.expovariate(1 / self.mix.pace_s) if self.mix.pace_s else 0)

    async def _fresh(self, wire: Wire, draw: random.Random) -> None:
        target, expected = self._bytes(draw)
        version = draw.choice(("1.0", "1.1"))
        async with wire:
            await wire.send(http_request(target, last=True, version=version))
            await self._answer("fresh", wire, expected, last=True)

    async def _keeping(self, wire: Wire, draw: random.Random) -> None:
        async with wire:
            for left in reversed(range(draw.randrange(1, 40))):
                last = left == 0 or self.over
                target, expected = self._bytes(draw)
                await wire.send(http_request(target, last=last))
                await self._answer("keeping", wire, expected, last=last)
                if last:
                    return
                if draw.random() < 0.3:
                    await wire.idle(draw.uniform(0, 0.2))

    async def _pipelined(self, wire: Wire, draw: random.Random) -> None:
        async with wire:
            for left in reversed(range(draw.randrange(1, 10))):
                wanted = [self._bytes(draw) for _ in range(draw.randrange(2, 5))]
                requests = [
                    http_request(target, last=left == 0 and number == len(wanted) - 1)
                    for number, (target, _) in enumerate(wanted)
                ]
                await wire.send(b"".join(requests))
                for number, (_, expected) in enumerate(wanted):
                    last = left == 0 and number == len(wanted) - 1
                    await self._answer("pipelined", wire, expected, last=last)

    async def _dripped(self, wire: Wire, draw: random.Random) -> None:
        async with wire:
            target, expected = self._bytes(draw)
            unsent = http_request(target, last=False)
            for left in reversed(range(draw.randrange(2, 8))):
                for _ in range(draw.randrange(3)):
                    cut = draw.randrange(1, len(unsent))
                    if len(unsent) - cut < 2:
                        break
                    await wire.send(unsent[:cut])
                    unsent = unsent[cut:]
                    await asyncio.sleep(draw.uniform(0, 0.2))
                if left == 0:
                    await wire.send(unsent)
                    await self._answer("dripped", wire, expected, last=False)
                    return
                target, following = self._bytes(draw)
                ahead = http_request(target, last=False)
                cut = draw.randrange(len(ahead) - 1)
                await wire.send(unsent + ahead[:cut])
                await self._answer("dripped", wire, expected, last=False)
                await wire.idle(draw.uniform(0, 0.3))
                unsent, expected = ahead[cut:], following

    async def _uploads(self, wire: Wire, draw: random.Random) -> None:
        size = LARGE if draw.random() < 0.05 else int(10 ** draw.uniform(0, 5.5))
        token, body = self._token(), draw.randbytes(size)
        expected = b"%s %d %08x\n" % (token.encode(), size, zlib.crc32(body))
        request = http_request(f"/upload?token={token}", body, last=True)
        async with wire:
            for begin, end in pieces(len(request), draw):
                await wire.send(request[begin:end])
                await asyncio.sleep(draw.uniform(0, 0.1))
            await self._answer("uploads", wire, expected, last=True)

    async def _slow(self, wire: Wire, draw: random.Random) -> None:
        async with wire:
            for last in (False, True):
                token = self._token()
                target = f"/sleep?token={token}&size=100&seconds={self.mix.slow_s}"
                await wire.send(http_request(target, last=last))
                await self._answer("slow", wire, repeated(token, 100), last=last)

    async def _streams(self, wire: Wire, draw: random.Random) -> None:
        token, parts = self._token(), max(2, int(self.mix.stream_s * 10))
        expected = b"".join(b"%s %d\n" % (token.encode(), number) for number in range(parts))
        target = f"/stream?token={token}&seconds={self.mix.stream_s}&parts={parts}"
        if draw.random() < 0.5:
            target += f"&length={len(expected)}"
        async with wire:
            await wire.send(http_request(target, last=True))
            await self._answer("streams", wire, expected, last=True)

    async def _packets(self, wire: Wire, draw: random.Random) -> None:
        if draw.random() < 0.3:
            token, body = self._token(), draw.randbytes(draw.randrange(100_000))
            expected = b"%s %d %08x\n" % (token.encode(), len(body), zlib.crc32(body))
            request = packet_request(f"/upload?token={token}", body)
        else:
            target, expected = self._bytes(draw)
            request = packet_request(target)
        async with wire:
            cut = draw.randrange(1, len(request))
            await wire.send(request[:cut])
            if draw.random() < 0.5:
                await asyncio.sleep(draw.uniform(0, 0.2))
            await wire.send(request[cut:])
            await self._answer("packets", wire, expected, last=True)

    async def _idle(self, wire: Wire, draw: random.Random) -> None:
        # Not all at once: a queue of connections that nobody has taken is another test.
        await asyncio.sleep(draw.uniform(0, min(1.0, self.mix.idle_s)))
        async with wire:
            last = False
            while not last:
                last = self.over
                target, expected = self._bytes(draw)
                await wire.send(http_request(target, last=last))
                await self._answer("idle", wire, expected, last=last)
                if not last:
                    await wire.idle(draw.uniform(0, self.mix.idle_s))

    # --- requests and answers ---

    async def _answer(self, what: str, wire: Wire, expected: bytes, *, last: bool) -> None:
        answer = await wire.answer(expected, last=last)
        seconds = time.monotonic() - wire.asked
        self.tally.answered(what, answer.load, answer.pid, len(answer.body), seconds)

    def _token(self) -> str:
        self._tokens += 1
        return f"{self.seed}-{self._tokens}-"

    def _bytes(self, draw: random.Random) -> tuple[str, bytes]:
        token = self._token()
        size = int(10 ** draw.uniform(0, 3.5)) if draw.random() < 0.95 else draw.randrange(200_000)
        length = f"&length={size}" if draw.random() < 0.6 else ""
        return f"/bytes?token={token}&size={size}{length}", repeated(token, size)


def repeated(token: str, size: int) -> bytes:
    """The body that the application makes of a token."""
    data = token.encode()
    return (data * (size // len(data) + 1))[:size]


def pieces(size: int, draw: random.Random) -> list[tuple[int, int]]:
    """Up to five pieces of that many bytes."""
    cuts = sorted({0, size, *(draw.randrange(size) for _ in range(draw.randrange(5)))})
    return list(itertools.pairwise(cuts))
