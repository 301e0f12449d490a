"""One connection of a storm: it sends requests, reads answers strictly, and says what was wrong.

Whatever the server does to a connection ends in a `Violation` of one kind. What a connection cannot
know is whether somebody has just killed the server: excusing that is the load's business.
"""

from __future__ import annotations

import asyncio
import math
import time
from dataclasses import dataclass

from tests.harness.uwsgi import packet, variables
from tests.storm.tally import Kind, Violation

TIMEOUT_S = 60.0
"""For one answer: longer than any wait in a queue, so that it is spent by losses alone."""

LIMIT = 1 << 20
SHOWN = 60

Address = tuple[str, int] | str


@dataclass
class Answer:
    """A complete response with status 200."""

    body: bytes
    load: str
    pid: str
    closes: bool
    """The server has said that it will close."""


class Wire:
    """One connection."""

    def __init__(self, address: Address, timeout_s: float = TIMEOUT_S) -> None:
        self.address = address
        self.timeout_s = timeout_s
        self.opened = time.monotonic()
        self.asked = self.opened
        """When the last request had been handed to the kernel."""
        self.answering = ""
        """Which load of the application answers, once the head is there."""
        self._reader: asyncio.StreamReader
        self._writer: asyncio.StreamWriter | None = None

    async def __aenter__(self) -> Wire:
        # Before it is there: a server may have taken it before its client knows.
        self.opened = self.asked = time.monotonic()
        try:
            async with asyncio.timeout(self.timeout_s):
                if isinstance(self.address, str):
                    opening = asyncio.open_unix_connection(self.address, limit=LIMIT)
                else:
                    opening = asyncio.open_connection(*self.address, limit=LIMIT)
                self._reader, self._writer = await opening
        except (ConnectionRefusedError, FileNotFoundError, BlockingIOError) as error:
            # A UNIX socket whose queue is full answers EAGAIN: refused, for its client.
            raise Violation(Kind.REFUSED, f"{type(error).__name__}") from None
        except ConnectionResetError:
            raise Violation(Kind.RESET, "while connecting") from None
        except TimeoutError:
            raise Violation(Kind.TIMEOUT, "while connecting") from None
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._writer is not None:
            self._writer.close()

    # --- sending ---

    async def send(self, data: bytes) -> None:
        """All of it."""
        assert self._writer is not None
        if self._reader.at_eof():
            raise Violation(Kind.CLOSED_IDLE, "before a request")
        self.asked = math.inf
        try:
            async with asyncio.timeout(self.timeout_s):
                self._writer.write(data)
                await self._writer.drain()
        except (ConnectionResetError, BrokenPipeError):
            raise Violation(Kind.RESET, "while sending") from None
        except TimeoutError:
            raise Violation(Kind.TIMEOUT, "while sending") from None
        self.asked = time.monotonic()

    # --- reading ---

    async def idle(self, seconds: float) -> None:
        """Nothing may come meanwhile, not even the end."""
        try:
            async with asyncio.timeout(seconds):
                data = await self._reader.read(SHOWN)
        except TimeoutError:
            return
        except ConnectionError:
            raise Violation(Kind.RESET, "while idle") from None
        if data:
            raise Violation(Kind.UNSOLICITED, repr(data))
        seconds = time.monotonic() - self.opened
        raise Violation(Kind.CLOSED_IDLE, f"{seconds:.2f} s after the connect")

    async def answer(self, expected: bytes, *, last: bool) -> Answer:
        """The next answer; `last` is one after which the client itself wants the end."""
        self.answering = ""
        try:
            async with asyncio.timeout(self.timeout_s):
                return await self._answer(expected, last=last)
        except TimeoutError:
            raise Violation(Kind.TIMEOUT, f"no whole answer in {self.timeout_s:.0f} s") from None
        except ConnectionError:
            where = "in an answer" if self.answering else "before an answer"
            raise Violation(Kind.RESET, where) from None

    async def _answer(self, expected: bytes, *, last: bool) -> Answer:
        status, headers = await self._head()
        if status != 200:
            raise Violation(Kind.STATUS, f"{status}")
        self.answering, _, pid = headers.get("x-storm", "").partition(" ")
        length, coding = headers.get("content-length"), headers.get("transfer-encoding")
        try:
            if coding is not None:
                body = await self._chunks()
            elif length is not None:
                body = await self._reader.readexactly(int(length))
            elif last:
                body = await self._reader.read(-1)
            else:
                raise Violation(Kind.WRONG, "an answer without an end on a connection that stays")
        except asyncio.IncompleteReadError as error:
            behind = error.partial[-SHOWN:]
            raise Violation(Kind.TRUNCATED, f"in the body, behind {behind!r}") from None
        if body != expected:
            framed = length is not None or coding is not None
            if not framed and expected.startswith(body):
                # The end of the connection is the only end that this framing has.
                raise Violation(Kind.TRUNCATED, f"{len(body)} of {len(expected)} bytes")
            raise Violation(Kind.WRONG, difference(body, expected))
        closes = headers.get("connection", "").lower() == "close"
        if last:
            await self._end()
        elif closes:
            raise Violation(Kind.CLOSED_ANNOUNCED, f"by load {self.answering}, process {pid}")
        return Answer(body, self.answering, pid, closes)

    async def _head(self) -> tuple[int, dict[str, str]]:
        try:
            head = await self._reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError as error:
            if error.partial:
                raise Violation(Kind.TRUNCATED, f"in the head {error.partial[-SHOWN:]!r}") from None
            raise Violation(Kind.CLOSED_UNANSWERED, "the request had been sent") from None
        except asyncio.LimitOverrunError:
            raise Violation(Kind.WRONG, "a head without an end") from None
        lines = head[:-4].decode("latin-1").split("\r\n")
        version, _, rest = lines[0].partition(" ")
        if version not in ("HTTP/1.1", "HTTP/1.0") or not rest[:3].isdigit():
            raise Violation(Kind.WRONG, f"where a head was due: {lines[0][:SHOWN]!r}")
        headers = {}
        for line in lines[1:]:
            name, colon, value = line.partition(":")
            if not colon or name.lower() in headers:
                raise Violation(Kind.WRONG, f"header line {line[:SHOWN]!r}")
            headers[name.lower()] = value.strip()
        return int(rest[:3]), headers

    async def _chunks(self) -> bytes:
        parts = []
        while True:
            line = await self._reader.readuntil(b"\r\n")
            try:
                size = int(line, 16)
            except ValueError:
                raise Violation(Kind.WRONG, f"chunk size {line[:SHOWN]!r}") from None
            part = await self._reader.readexactly(size + 2)
            if part[size:] != b"\r\n":
                raise Violation(Kind.WRONG, f"behind a chunk {part[size:]!r}")
            if size == 0:
                return b"".join(parts)
            parts.append(part[:size])

    async def _end(self) -> None:
        rest = await self._reader.read(SHOWN)
        if rest:
            raise Violation(Kind.UNSOLICITED, f"behind the last answer {rest!r}")


def difference(body: bytes, expected: bytes) -> str:
    """Where two bodies part."""
    same = next((i for i, (a, b) in enumerate(zip(body, expected, strict=False)) if a != b), None)
    at = min(len(body), len(expected)) if same is None else same
    return (
        f"{len(body)} bytes for {len(expected)}, from {at} on "
        f"{body[at : at + SHOWN]!r} for {expected[at : at + SHOWN]!r}"
    )


def http_request(
    target: str, body: bytes | None = None, *, last: bool, version: str = "1.1"
) -> bytes:
    """The bytes of one request."""
    lines = [f"{'GET' if body is None else 'POST'} {target} HTTP/{version}", "Host: storm"]
    if body is not None:
        lines.append(f"Content-Length: {len(body)}")
    if last:
        lines.append("Connection: close")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + (body or b"")


def packet_request(target: str, body: bytes | None = None) -> bytes:
    """The same for the uwsgi protocol."""
    path, _, query = target.partition("?")
    method, length = ("GET", None) if body is None else ("POST", len(body))
    return packet(variables(method, path, query, length)) + (body or b"")
