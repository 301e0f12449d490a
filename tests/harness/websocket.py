"""A raw websocket client: it sends exactly the frames it is told to, and reads strictly.

The handshake goes over HTTP or over the uwsgi protocol; what follows is the same.
"""

from __future__ import annotations

import base64
import hashlib
import os
import struct
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tests.harness.http import Client, Response, Truncated
from tests.harness.uwsgi import PacketClient, packet, variables

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
RSV1, RSV2, RSV3 = 0x4, 0x2, 0x1
DEFLATE = "permessage-deflate"
GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
KEY = base64.b64encode(b"greenloom-tests!").decode()
LARGEST_READ = 256 << 20
"""No test receives more; a length beyond it is nonsense."""
DEFLATE_TAIL = b"\x00\x00\xff\xff"


class BadFrame(AssertionError):
    """The peer sent what a server must not send."""


@dataclass(frozen=True)
class Frame:
    """One frame as it came."""

    opcode: int
    payload: bytes
    fin: bool = True
    rsv: int = 0


def accept_of(key: str) -> str:
    """What the server answers to a key."""
    return base64.b64encode(hashlib.sha1(key.encode() + GUID).digest()).decode()


def masked(payload: bytes, mask: bytes) -> bytes:
    """Also takes a mask off."""
    if mask == b"\0\0\0\0" or not payload:
        return payload
    size = len(payload)
    pattern = (mask * (size // 4 + 1))[:size]
    mixed = int.from_bytes(payload, "little") ^ int.from_bytes(pattern, "little")
    return mixed.to_bytes(size, "little")


def encode(
    opcode: int,
    payload: bytes = b"",
    *,
    fin: bool = True,
    rsv: int = 0,
    mask: bytes | None = b"\x12\x34\x56\x78",
    length: int | None = None,
    form: int | None = None,
) -> bytes:
    """The bytes of a frame, right or wrong.

    `mask=None` leaves the mask out. `length` is what the head says instead of the truth, and `form`
    the bits (7, 16 or 64) that it says it with, where the shortest form is not wanted.
    """
    size = len(payload) if length is None else length
    form = form or (7 if size < 126 else 16 if size < 1 << 16 else 64)
    first = fin << 7 | rsv << 4 | opcode
    bit = 0 if mask is None else 0x80
    if form == 7:
        head = struct.pack("!BB", first, bit | size)
    elif form == 16:
        head = struct.pack("!BBH", first, bit | 126, size)
    else:
        head = struct.pack("!BBQ", first, bit | 127, size)
    return head + (payload if mask is None else mask + masked(payload, mask))


def close_payload(code: int | None = None, reason: bytes | str = b"") -> bytes:
    """Nothing without a code."""
    data = reason.encode() if isinstance(reason, str) else reason
    return data if code is None else struct.pack("!H", code) + data


def deflated(payload: bytes, bits: int = 15) -> bytes:
    """A message's payload under permessage-deflate, without context; its first frame has RSV1."""
    squeeze = zlib.compressobj(wbits=-bits)
    data = squeeze.compress(payload) + squeeze.flush(zlib.Z_SYNC_FLUSH)
    return data.removesuffix(DEFLATE_TAIL)


def inflated(payload: bytes, bits: int = 15) -> bytes:
    """The opposite; whole messages without context only."""
    return zlib.decompressobj(wbits=-bits).decompress(payload + DEFLATE_TAIL)


def upgrade_headers(
    protocols: Sequence[str] = (),
    extensions: str | None = None,
    origin: str | None = None,
    key: str = KEY,
    version: str = "13",
) -> list[tuple[str, str]]:
    """What a client asks for a websocket with."""
    headers = [
        ("Connection", "Upgrade"),
        ("Upgrade", "websocket"),
        ("Sec-WebSocket-Key", key),
        ("Sec-WebSocket-Version", version),
    ]
    if protocols:
        headers.append(("Sec-WebSocket-Protocol", ", ".join(protocols)))
    if extensions is not None:
        headers.append(("Sec-WebSocket-Extensions", extensions))
    if origin is not None:
        headers.append(("Origin", origin))
    return headers


def ask(client: Client, target: str, headers: Iterable[tuple[str, str]]) -> None:
    """Sends the request in the language of the client: `server.packets()` speaks uwsgi."""
    if not isinstance(client, PacketClient):
        client.send_request(target=target, headers=headers)
        return
    path, _, query = target.partition("?")
    extra = [("HTTP_" + name.upper().replace("-", "_"), value) for name, value in headers]
    client.send(packet(variables(path=path, query=query, extra=extra)))


def handshake(
    client: Client,
    target: str = "/",
    headers: Iterable[tuple[str, str]] = (),
    **how,
) -> Response:
    """Asks as `upgrade_headers(**how)` says, and returns the answer, whatever it is."""
    ask(client, target, [*upgrade_headers(**how), *headers])
    return client.read_head()


class WebSocket:
    """An open websocket on a connection: `WebSocket.open(server.http(), "/echo")`.

    `server.packets()` instead goes over the uwsgi protocol, `nginx(server).client()` through nginx.
    """

    def __init__(self, client: Client, answer: Response) -> None:
        self.client = client
        self.answer = answer

    @classmethod
    def open(
        cls,
        client: Client,
        target: str = "/",
        headers: Iterable[tuple[str, str]] = (),
        *,
        key: str = KEY,
        **how,
    ) -> WebSocket:
        """Fails unless the answer is a correct 101; `how` as in `upgrade_headers`."""
        answer = handshake(client, target, headers, key=key, **how)
        assert answer.status == 101, (answer.raw_head, client.buffer)
        assert answer.header("Upgrade").lower() == "websocket", answer.raw_head
        assert answer.header("Connection").lower() == "upgrade", answer.raw_head
        assert answer.header("Sec-WebSocket-Accept") == accept_of(key), answer.raw_head
        return cls(client, answer)

    def __enter__(self) -> WebSocket:
        return self

    def __exit__(self, *exc: object) -> None:
        self.client.close()

    @property
    def protocol(self) -> str | None:
        """The subprotocol that the server chose."""
        return self.answer.header("Sec-WebSocket-Protocol")

    @property
    def extensions(self) -> str | None:
        """The extensions that the server accepted, as it wrote them."""
        return self.answer.header("Sec-WebSocket-Extensions")

    # Sending.

    def send(self, opcode: int, payload: bytes = b"", **how) -> None:
        """One frame; `how` as in `encode`. The mask is a new one unless it is given."""
        how.setdefault("mask", os.urandom(4))
        self.client.send(encode(opcode, payload, **how))

    def send_bytes(self, data: bytes) -> None:
        """Anything: frames in one segment, half a frame, nonsense."""
        self.client.send(data)

    def text(self, text: str) -> None:
        self.send(TEXT, text.encode())

    def binary(self, data: bytes) -> None:
        self.send(BINARY, data)

    def ping(self, payload: bytes = b"") -> None:
        self.send(PING, payload)

    def pong(self, payload: bytes = b"") -> None:
        self.send(PONG, payload)

    def close_frame(self, code: int | None = 1000, reason: bytes | str = b"") -> None:
        self.send(CLOSE, close_payload(code, reason))

    def fragments(self, opcode: int, *parts: bytes, rsv: int = 0) -> None:
        """One message in as many frames as there are parts, each a segment of its own."""
        for number, part in enumerate(parts):
            self.send(
                CONTINUATION if number else opcode,
                part,
                fin=number == len(parts) - 1,
                rsv=0 if number else rsv,
            )

    # Receiving.

    def read_frame(self, rsv: int = 0) -> Frame:
        """The next frame, which must be one that a server may send; `rsv` are the bits allowed."""
        first, second = self.client.read_exactly(2)
        frame_rsv, opcode, fin, size = first >> 4 & 7, first & 15, first >= 0x80, second & 0x7F
        if second & 0x80:
            raise BadFrame("a masked frame")
        if frame_rsv & ~rsv:
            raise BadFrame(f"reserved bits {frame_rsv:03b}")
        if opcode not in (CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG):
            raise BadFrame(f"opcode {opcode}")
        if opcode >= CLOSE and (not fin or size > 125):
            raise BadFrame(f"a control frame with fin={fin} and length {size}")
        if size == 126:
            (size,) = struct.unpack("!H", self.client.read_exactly(2))
            shortest = size >= 126
        elif size == 127:
            (size,) = struct.unpack("!Q", self.client.read_exactly(8))
            shortest = size >= 1 << 16
        else:
            shortest = True
        if not shortest or size > LARGEST_READ:
            raise BadFrame(f"length {size}, in the shortest form: {shortest}")
        return Frame(opcode, self.client.read_exactly(size), fin, frame_rsv)

    def expect(self, opcode: int) -> bytes:
        """The payload of the next frame, which is whole and of this kind."""
        frame = self.read_frame()
        assert (frame.opcode, frame.fin) == (opcode, True), frame
        return frame.payload

    def read_message(self, pongs: bool = True) -> tuple[int, bytes]:
        """Opcode and payload of the next message, put together, and inflated if it was deflated.

        Pings before it are answered unless `pongs` is false; pongs are dropped.
        """
        opcode, parts, deflate = None, [], False
        while True:
            frame = self.read_frame(rsv=RSV1 if opcode is None and self.extensions else 0)
            if frame.opcode == PING:
                if pongs:
                    self.pong(frame.payload)
                continue
            if frame.opcode == PONG:
                continue
            if frame.opcode == CLOSE:
                raise Truncated(f"closed instead of a message: {frame.payload!r}")
            if (frame.opcode == CONTINUATION) is (opcode is None):
                raise BadFrame(f"{frame} where opcode {opcode} is under way")
            if opcode is None:
                opcode, deflate = frame.opcode, bool(frame.rsv)
            parts.append(frame.payload)
            if frame.fin:
                data = b"".join(parts)
                return opcode, inflated(data) if deflate else data

    def read_text(self) -> str:
        opcode, data = self.read_message()
        assert opcode == TEXT, (opcode, data[:200])
        return data.decode()

    def read_binary(self) -> bytes:
        opcode, data = self.read_message()
        assert opcode == BINARY, (opcode, data[:200])
        return data

    def read_close(self) -> tuple[int | None, str]:
        """Code and reason of the close frame, which is the next thing that comes."""
        payload = self.expect(CLOSE)
        assert len(payload) != 1, payload
        if not payload:
            return None, ""
        return struct.unpack("!H", payload[:2])[0], payload[2:].decode()

    def finish(self, code: int = 1000, reason: str = "") -> tuple[int | None, str]:
        """The whole close handshake, begun here; the server ends the connection."""
        self.close_frame(code, reason)
        answer = self.read_close()
        assert self.client.closed_by_peer()
        return answer

    def failed(self) -> int | None:
        """The code that the server failed the connection with: close frame, then the end."""
        code, _ = self.read_close()
        assert self.client.closed_by_peer()
        return code
