"""What tests and applications share on disk: order without clocks, and counts without requests."""

from __future__ import annotations

import os
import struct
from pathlib import Path

from tests.harness.server import APPS
from tests.harness.waiting import until


class Gate:
    """A FIFO. Each released byte lets one waiting request pass."""

    def __init__(self, path: Path) -> None:
        self.path = path
        os.mkfifo(path)
        # Open both ways: neither side ever blocks in open(2) or sees an end of file.
        self.fd = os.open(path, os.O_RDWR | os.O_NONBLOCK)

    @property
    def env(self) -> dict[str, str]:
        return {"GATE": str(self.path), "PYTHONPATH": str(APPS / "gate")}

    def release(self, count: int = 1) -> None:
        os.write(self.fd, b"!" * count)

    def shut(self) -> None:
        """Takes back what nobody has used."""
        try:
            while os.read(self.fd, 4096):
                pass
        except BlockingIOError:
            return

    def close(self) -> None:
        os.close(self.fd)


class Counter:
    """A number that an application writes and a test reads."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.write_bytes(bytes(8))

    @property
    def env(self) -> dict[str, str]:
        return {"COUNTER": str(self.path)}

    def value(self) -> int:
        return struct.unpack("<Q", self.path.read_bytes())[0]

    def standstill(self) -> int:
        """Returns the number once it has stayed the same through many looks."""
        found = [self.value()]

        def same() -> bool:
            found.append(self.value())
            return len(found) > 60 and len(set(found[-60:])) == 1

        until(same, "the number stands still")
        return found[-1]
