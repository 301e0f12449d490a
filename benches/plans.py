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


@dataclass
class AsgiPlans:
    """Plans for served/soak_asgi.py: hellos, echoes, and answers made step by step."""

    draw: random.Random
    name: str

    def make(self, close: bool) -> tuple[bytes, bytes]:
        """A random request, and the body of its answer."""
        draw = self.draw
        token = b"%s.%x" % (self.name.encode(), draw.getrandbits(64))
        old = close and draw.random() < 0.3
        if draw.random() < 0.25:
            count = size(draw)
            return self.framed([f"h{count}"], token, None, filler(token, count), close, old)
        upload = self.upload() if draw.random() < 0.4 else None
        steps, expected = [], b"%08x" % zlib.crc32(upload or b"")
        if upload is not None and draw.random() < 0.5:
            steps, expected = ["e"], upload
        if draw.random() < 0.3:
            steps.append("d")
        for _ in range(draw.randrange(4)):
            step, count = self.step()
            steps.append(step)
            expected += filler(token, count)
        if draw.random() < 0.3:
            count = size(draw)
            steps.append(f"Z{count}")
            expected += filler(token, count)
        if draw.random() < 0.1:
            steps.append(f"b{draw.randrange(10)}")
        return self.framed(steps, token, upload, expected, close, old)

    def framed(
        self,
        steps: list[str],
        token: bytes,
        upload: bytes | None,
        expected: bytes,
        close: bool,
        old: bool,
    ) -> tuple[bytes, bytes]:
        """The request of a plan, its body announced or in chunks."""
        draw = self.draw
        if draw.random() < 0.6:
            steps.insert(0, f"l{len(expected)}")
        head = b"%s /%s?%s %s\r\nHost: soak\r\n" % (
            b"GET" if upload is None else b"POST",
            ".".join(steps).encode(),
            token,
            b"HTTP/1.0" if old else b"HTTP/1.1",
        )
        if close:
            head += b"Connection: close\r\n"
        if upload is None:
            return head + b"\r\n", expected
        if not old and draw.random() < 0.1:
            head += b"Expect: 100-continue\r\n"
        if not old and draw.random() < 0.4:
            head += b"Transfer-Encoding: chunked\r\n"
            return head + b"\r\n" + self.chunked(upload), expected
        return head + b"Content-Length: %d\r\n\r\n" % len(upload) + upload, expected

    def upload(self) -> bytes:
        """Nothing, a little, or more than the server collects before the application starts."""
        draw = self.draw
        kind = draw.choices(("none", "small", "large"), (1, 15, 2))[0]
        if kind == "none":
            return b""
        return draw.randbytes(draw.randrange(LARGE) if kind == "large" else size(draw))

    def chunked(self, body: bytes) -> bytes:
        """The body in chunks, of which some are tiny and some are large."""
        data, at = b"", 0
        while at < len(body):
            piece = body[at : at + int(10 ** self.draw.uniform(1, 5))]
            data += b"%x\r\n%b\r\n" % (len(piece), piece)
            at += len(piece)
        return data + b"0\r\n\r\n"

    def step(self) -> tuple[str, int]:
        """One step, and how many bytes it sends."""
        draw = self.draw
        kind = draw.choices("ztysp", (6, 0.5, 1, 3, 0.3))[0]
        if kind in "zt":
            count = size(draw)
            return f"{kind}{count}", count
        if kind == "y":
            return f"y{draw.randrange(1, 6)}", 0
        return (kind, 0) if kind == "p" else (f"s{draw.randrange(6)}", 0)


Plans = WsgiPlans | AsgiPlans


def filler(token: bytes, count: int) -> bytes:
    """Make ``count`` bytes that belong to one request only."""
    return (token * (count // len(token) + 1))[:count]


def size(draw: random.Random) -> int:
    """Small as a rule, and large enough for every path through the server."""
    return int(10 ** draw.uniform(0, 3.3)) if draw.random() < 0.97 else draw.randrange(LARGE)
