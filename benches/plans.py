"""What the requests of benches/soak.py ask for: random plans, and the answer to each of them."""

from __future__ import annotations

import random
import zlib
from dataclasses import dataclass

LARGE = 200_000


@dataclass
class WsgiPlans:
    """Plans for served/soak.py; ``suspends``: also those that need a suspend engine."""

    draw: random.Random
    name: str
    suspends: bool

    def make(self, close: bool) -> tuple[bytes, bytes]:
        """A random request, and the body of its answer."""
        draw = self.draw
        token = b"%s.%x" % (self.name.encode(), draw.getrandbits(64))
        upload = draw.randbytes(size(draw)) if draw.random() < 0.1 else b""
        steps, parts = [], [b"%08x" % zlib.crc32(upload)]
        for _ in range(draw.randrange(1, 5)):
            step, count = self.step()
            steps.append(step)
            if count:
                parts.append(filler(token, count))
        expected = b"".join(parts)
        if draw.random() < 0.7:
            steps.insert(0, f"l{len(expected)}")
        version = b"HTTP/1.0" if close and draw.random() < 0.3 else b"HTTP/1.1"
        head = b"%s /%s?%s %s\r\nHost: soak\r\n" % (
            b"POST" if upload else b"GET",
            ".".join(steps).encode(),
            token,
            version,
        )
        if close:
            head += b"Connection: close\r\n"
        if upload:
            head += b"Content-Length: %d\r\n" % len(upload)
        return head + b"\r\n" + upload, expected

    def step(self) -> tuple[str, int]:
        """One step, and how many bytes it sends."""
        draw = self.draw
        kind = draw.choices("zwysp", (5, 1, 3, 1, 0.3))[0]
        if kind in "zw":
            count = size(draw)
            return f"{kind}{count}", count
        if self.suspends and draw.random() < 0.6:
            kind = {"y": "u", "s": "S", "p": "P"}[kind]
        if kind in "yu":
            return f"{kind}{draw.randrange(1, 6)}", 0
        return (kind, 0) if kind in "pP" else (f"{kind}{draw.randrange(6)}", 0)


def filler(token: bytes, count: int) -> bytes:
    """Make ``count`` bytes that belong to one request only."""
    return (token * (count // len(token) + 1))[:count]


def size(draw: random.Random) -> int:
    """Small as a rule, and large enough for every path through the server."""
    return int(10 ** draw.uniform(0, 3.3)) if draw.random() < 0.97 else draw.randrange(LARGE)
