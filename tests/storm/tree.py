"""A server's processes as a storm sees them: its log, line by line, and what all of them hold."""

from __future__ import annotations

import asyncio
import re
import time
from dataclasses import dataclass
from pathlib import Path

from tests.harness import procs
from tests.harness.server import READY

DEADLINE_S = 60.0


class Log:
    """Follows a log file, each byte read once."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.ready = 0
        """How often the instance was ready so far."""
        self.lines: list[str] = []
        """What it has said, without request lines."""
        self._offset = 0
        self._rest = b""

    def follow(self) -> None:
        """Reads what is new."""
        with self.path.open("rb") as file:
            file.seek(self._offset)
            data = file.read()
        self._offset += len(data)
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            text = line.decode("utf-8", "replace")
            self.ready += READY.search(text) is not None
            self.lines.append(text)

    async def wait_ready(self, count: int, deadline_s: float = DEADLINE_S) -> None:
        """Until the instance has been ready so often."""
        end = time.monotonic() + deadline_s
        while True:
            self.follow()
            if self.ready >= count:
                return
            if time.monotonic() > end:
                last = "\n".join(self.lines[-30:])
                raise AssertionError(f"not ready {count} times in {deadline_s} s:\n{last}")
            await asyncio.sleep(0.01)

    def suspicious(self) -> list[str]:
        """What a server that is well never says."""
        self.follow()
        pattern = re.compile(r"Traceback|panicked|Exception ignored|NO MERCY|respawning too fast")
        return [line for line in self.lines if pattern.search(line)]


@dataclass(frozen=True)
class Held:
    """What the processes of one instance hold together."""

    processes: int
    descriptors: int
    resident_kib: int
    master_descriptors: int
    master_kib: int

    @classmethod
    def by(cls, master: int) -> Held:
        """Looks now. A process that ends meanwhile counts as gone."""
        descriptors, resident = {}, {}
        for pid in (master, *procs.descendants(master)):
            if procs.alive(pid):
                try:
                    resident[pid] = procs.rss_bytes(pid) // 1024
                except (FileNotFoundError, ProcessLookupError):
                    continue
                descriptors[pid] = len(procs.open_files(pid))
        return cls(
            len(resident),
            sum(descriptors.values()),
            sum(resident.values()),
            descriptors.get(master, 0),
            resident.get(master, 0),
        )

    def __str__(self) -> str:
        return (
            f"{self.processes} processes, {self.descriptors} descriptors, "
            f"{self.resident_kib:,} KiB (master {self.master_descriptors}, {self.master_kib:,} KiB)"
        )


def generations(master: int) -> list[int]:
    """The master's living children: generations, and workers that outlived theirs."""
    return [pid for pid in procs.children(master) if procs.alive(pid)]


def workers(master: int) -> list[int]:
    """What its generations have forked."""
    below = {pid for one in generations(master) for pid in procs.children(one)}
    return sorted(pid for pid in below if procs.alive(pid))


async def wait_generations(master: int, at_most: int, deadline_s: float = DEADLINE_S) -> None:
    """Until no more than so many are left."""
    end = time.monotonic() + deadline_s
    while len(left := generations(master)) > at_most:
        if time.monotonic() > end:
            raise AssertionError(f"after {deadline_s} s there are still {left}")
        await asyncio.sleep(0.02)


async def settled(master: int, before: Held, deadline_s: float = DEADLINE_S) -> Held:
    """What is held once it is no more than before, or at the deadline: workers may be changing."""
    end = time.monotonic() + deadline_s
    while True:
        held = Held.by(master)
        calm = held.processes == before.processes and held.descriptors <= before.descriptors
        if calm or time.monotonic() > end:
            return held
        await asyncio.sleep(0.05)
