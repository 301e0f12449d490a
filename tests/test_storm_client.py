"""The storm's clients notice each way to lose something: here is a server that does it."""

from __future__ import annotations

import asyncio
import math
import socket
import struct
import time
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.storm.load import KILL_S, Mix, Storm, repeated
from tests.storm.tally import Kind, Violation
from tests.storm.wire import Wire

NOBODY = {
    "fresh": 0, "keeping": 0, "pipelined": 0, "dripped": 0, "uploads": 0,
    "slow": 0, "streams": 0, "packets": 0, "idle": 0,
}  # fmt: skip
ENOUGH = 30
FAULTY_EVERY = 7


class Lossy:
    """A server that answers as the application does, but for each seventh request."""

    def __init__(self, fault: str | None) -> None:
        self.fault = fault
        self.requests = 0

    async def connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await self.request(reader, writer):
                pass
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def request(self, reader, writer) -> bool:
        """One request and its answer; whether more may follow."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        first, *lines = head[:-4].split("\r\n")
        last = "Connection: close" in lines
        target = urlsplit(first.split(" ")[1])
        query = {key: values[0] for key, values in parse_qs(target.query).items()}
        body = repeated(query["token"], int(query["size"]))
        self.requests += 1
        fault = self.fault if self.requests % FAULTY_EVERY == 0 else None
        return not await self.answer(writer, body, last, fault) and not last

    async def answer(self, writer, body: bytes, last: bool, fault: str | None) -> bool:
        """Whether the connection ends with it, though nobody asked for that."""
        if fault == "silent":
            await asyncio.sleep(math.inf)
        if fault == "closed unanswered":
            return True
        if fault == "reset":
            linger = struct.pack("ii", 1, 0)
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            return True
        status = "503 Busy" if fault == "status" else "200 OK"
        head = f"HTTP/1.1 {status}\r\nX-Storm: load 1\r\n"
        if last or fault == "announced":
            head += "Connection: close\r\n"
        if fault == "cut head":
            writer.write(head[:-9].encode())
            return True
        if fault == "flipped":
            body = body[:-1] + b"?"
        if fault == "doubled":
            body = 2 * body
        if fault == "cut end":
            writer.write(head.replace("Connection: close\r\n", "").encode() + b"\r\n" + body[:-1])
            return True
        if fault == "cut chunks":
            framed = b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n" % (len(body), body)
        elif self.requests % 2:
            framed = b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
        else:
            framed = b"Content-Length: %d\r\n\r\n%s" % (len(body), body)
        if fault == "cut length":
            framed = b"Content-Length: %d\r\n\r\n%s" % (len(body), body[:-1])
        writer.write(head.encode() + framed + (b"!" if fault == "unsolicited" else b""))
        await writer.drain()
        return fault in ("closed idle", "cut chunks", "cut length")


def run(fault: str | None, habits: dict[str, int]) -> Storm:
    """Some clients and one server, until there were enough answers."""

    async def both() -> Storm:
        server = await asyncio.start_server(Lossy(fault).connection, "127.0.0.1", 0)
        address = server.sockets[0].getsockname()
        mix = Mix(**(NOBODY | habits), idle_s=0.02, pace_s=0.001)
        # Only one that never answers is not waited for: a busy machine may be slow.
        timeout_s = 0.3 if fault == "silent" else 20
        storm = Storm([address], None, mix, enough=ENOUGH, timeout_s=timeout_s)
        await asyncio.wait_for(storm.during(storm.until_enough()), 60)
        server.close()
        return storm

    return asyncio.run(both())


MIXED = {"fresh": 1, "keeping": 2, "pipelined": 1, "dripped": 1, "idle": 3}


def test_a_server_that_loses_nothing_is_found_to():
    storm = run(None, MIXED)
    assert not storm.tally.violations
    assert not storm.tally.described
    assert storm.tally.total >= ENOUGH
    assert set(storm.tally.answers) == {name for name, count in MIXED.items() if count}
    assert storm.tally.loads == {"load": storm.tally.total}


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ("reset", Kind.RESET),
        ("cut head", Kind.TRUNCATED),
        ("cut chunks", Kind.TRUNCATED),
        ("cut length", Kind.TRUNCATED),
        ("flipped", Kind.WRONG),
        ("status", Kind.STATUS),
        ("closed unanswered", Kind.CLOSED_UNANSWERED),
        ("silent", Kind.TIMEOUT),
    ],
)
@pytest.mark.parametrize("habit", ["fresh", "keeping", "idle"])
def test_each_loss_is_noticed_and_named(habit, fault, kind):
    storm = run(fault, {habit: 2})
    assert set(storm.tally.violations) == {kind}, storm.tally.described
    assert storm.tally.total >= ENOUGH


@pytest.mark.parametrize(
    ("habit", "fault", "kinds"),
    [
        # HTTP/1.0: the end of the connection is the end of the body, and came too early.
        ("fresh", "cut end", {Kind.TRUNCATED}),
        ("keeping", "announced", {Kind.CLOSED_ANNOUNCED}),
        ("idle", "announced", {Kind.CLOSED_ANNOUNCED}),
        ("fresh", "unsolicited", {Kind.UNSOLICITED}),
        ("idle", "unsolicited", {Kind.UNSOLICITED}),
        # What is too much for one answer is where the next one's head is due.
        ("pipelined", "unsolicited", {Kind.WRONG, Kind.UNSOLICITED}),
        ("fresh", "doubled", {Kind.WRONG}),
        # The client may be sending just then, and learns of it by a reset.
        ("idle", "closed idle", {Kind.CLOSED_IDLE, Kind.RESET, Kind.CLOSED_UNANSWERED}),
        ("pipelined", "closed idle", {Kind.CLOSED_UNANSWERED, Kind.RESET, Kind.CLOSED_IDLE}),
    ],
)
def test_what_only_some_connections_can_see(habit, fault, kinds):
    storm = run(fault, {habit: 2})
    assert storm.tally.violations, fault
    assert set(storm.tally.violations) <= kinds, storm.tally.described


def test_nobody_listens():
    async def ask() -> Storm:
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            mix = Mix(**(NOBODY | {"fresh": 1}), pace_s=0.001)
            storm = Storm([unused.getsockname()], None, mix)
            await storm.during(asyncio.sleep(0.3))
            return storm

    assert set(asyncio.run(ask()).tally.violations) == {Kind.REFUSED}


def test_a_unix_socket_that_is_gone_refuses(tmp_path):
    async def ask() -> None:
        async with Wire(str(tmp_path / "gone")):
            pass

    with pytest.raises(Violation, match="refused"):
        asyncio.run(ask())


class TestExcuses:
    """What a deliberate kill or stop explains, and what it does not."""

    def judged(self, kind: Kind, *, opened: float, asked: float, prepare) -> bool:
        """Whether it counts."""
        storm = Storm([("127.0.0.1", 1)], None, Mix())
        wire = Wire(("127.0.0.1", 1))
        wire.opened, wire.asked = opened, asked
        prepare(storm)
        storm.judge("test", wire, Violation(kind, ""))
        assert sum(storm.tally.violations.values()) + sum(storm.tally.excused.values()) == 1
        return bool(storm.tally.violations)

    @pytest.mark.parametrize("kind", list(Kind))
    def test_a_kill(self, kind):
        now = time.monotonic()
        lost = {Kind.RESET, Kind.TRUNCATED, Kind.CLOSED_IDLE, Kind.CLOSED_UNANSWERED}
        assert self.judged(
            kind, opened=now - 1, asked=now - 1, prepare=Storm.killed
        ) == (kind not in lost)  # fmt: skip
        # It cannot have held what came later, and a client waits for no loss for so long.
        assert self.judged(kind, opened=now + 1, asked=now + 1, prepare=Storm.killed)

        def killed_long_ago(storm: Storm) -> None:
            storm.killed_at = now - KILL_S - 1

        assert self.judged(kind, opened=now - 9, asked=now - 1, prepare=killed_long_ago)

    @pytest.mark.parametrize("kind", list(Kind))
    def test_a_stop(self, kind):
        now = time.monotonic()
        ends = {Kind.REFUSED, Kind.CLOSED_IDLE, Kind.CLOSED_ANNOUNCED}
        assert self.judged(
            kind, opened=now - 1, asked=now - 1, prepare=Storm.stopped
        ) == (kind not in ends)  # fmt: skip
        ends |= {Kind.RESET, Kind.CLOSED_UNANSWERED}
        assert self.judged(
            kind, opened=now - 1, asked=now + 1, prepare=Storm.stopped
        ) == (kind not in ends)  # fmt: skip
