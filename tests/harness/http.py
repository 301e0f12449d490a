"""A raw HTTP/1.1 client: it sends exactly the bytes it is told to, and reads strictly."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterable
from dataclasses import dataclass, field

TIMEOUT_S = 10.0
BODYLESS = {204, 304}


class Malformed(AssertionError):
    """The peer sent something that is not HTTP/1.1."""


class Truncated(AssertionError):
    """The peer closed in the middle of a response."""


@dataclass
class Response:
    """One response; `framing` says how its end was found: length, chunked, close or none."""

    version: str
    status: int
    reason: str
    headers: list[tuple[str, str]]
    body: bytes = b""
    framing: str = "none"
    chunks: list[bytes] = field(default_factory=list)
    raw_head: bytes = b""

    def get_all(self, name: str) -> list[str]:
        return [v for k, v in self.headers if k.lower() == name.lower()]

    def header(self, name: str) -> str | None:
        values = self.get_all(name)
        assert len(values) <= 1, f"{name} is repeated: {values}"
        return values[0] if values else None

    def json(self):
        import json

        return json.loads(self.body)


def parse_head(raw: bytes) -> Response:
    """Strict: CRLF, no control bytes, a blank after the status."""
    lines = raw.decode("latin-1").split("\r\n")
    version, _, rest = lines[0].partition(" ")
    status, blank, reason = rest.partition(" ")
    if version not in ("HTTP/1.1", "HTTP/1.0") or not status.isdigit() or len(status) != 3:
        raise Malformed(f"status line {lines[0]!r}")
    if not blank:
        raise Malformed(f"no blank after the status in {lines[0]!r}")
    headers = []
    for line in lines[1:]:
        name, colon, value = line.partition(":")
        if not colon or not name or name != name.strip() or "\n" in line or "\r" in line:
            raise Malformed(f"header line {line!r}")
        headers.append((name, value.strip(" \t")))
    return Response(version, int(status), reason, headers, raw_head=raw)


class Client:
    """One connection."""

    def __init__(
        self,
        address: tuple[str, int] | str,
        timeout_s: float = TIMEOUT_S,
        receive_buffer: int | None = None,
    ) -> None:
        family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
        self.socket = socket.socket(family, socket.SOCK_STREAM)
        self.socket.settimeout(timeout_s)
        if receive_buffer is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.connect(address)
        if family == socket.AF_INET:
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = b""

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    # Sending.

    def send(self, data: bytes | str) -> None:
        self.socket.sendall(data.encode("latin-1") if isinstance(data, str) else data)

    def send_pieces(self, data: bytes, size: int = 1) -> None:
        """Each piece is a segment of its own (TCP_NODELAY is on)."""
        for start in range(0, len(data), size):
            self.socket.sendall(data[start : start + size])

    def send_request(
        self,
        method: str = "GET",
        target: str = "/",
        headers: Iterable[tuple[str, str]] = (),
        body: bytes | None = None,
        version: str = "HTTP/1.1",
    ) -> None:
        lines = [f"{method} {target} {version}", "Host: example.org"]
        lines += [f"{name}: {value}" for name, value in headers]
        if body is not None:
            lines.append(f"Content-Length: {len(body)}")
        self.send("\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + (body or b""))

    def half_close(self) -> None:
        """FIN: nothing more will be sent, answers are still read."""
        self.socket.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """RST instead of FIN."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def close(self) -> None:
        self.socket.close()

    # Receiving.

    def fill(self, size: int = 65536) -> bool:
        """False at the end of the stream."""
        data = self.socket.recv(size)
        self.buffer += data
        return bool(data)

    def read_until(self, mark: bytes) -> bytes:
        """Everything up to and including `mark`."""
        while mark not in self.buffer:
            if not self.fill():
                raise Truncated(f"closed before {mark!r}; got {self.buffer[:200]!r}")
        end = self.buffer.index(mark) + len(mark)
        data, self.buffer = self.buffer[:end], self.buffer[end:]
        return data

    def read_exactly(self, size: int) -> bytes:
        parts = []
        missing = size
        while True:
            part, self.buffer = self.buffer[:missing], self.buffer[missing:]
            parts.append(part)
            missing -= len(part)
            if not missing:
                return b"".join(parts)
            if not self.fill(1 << 20):
                raise Truncated(f"closed with {missing} of {size} bytes missing")

    def read_to_end(self) -> bytes:
        """All bytes until the peer closes."""
        parts = [self.buffer]
        self.buffer = b""
        while True:
            data = self.socket.recv(1 << 20)
            if not data:
                return b"".join(parts)
            parts.append(data)

    def read_head(self) -> Response:
        return parse_head(self.read_until(b"\r\n\r\n")[:-4])

    def read_chunk(self) -> bytes:
        """The next chunk of a chunked body; empty for the last one (trailers are refused)."""
        line = self.read_until(b"\r\n")[:-2]
        try:
            size = int(line, 16)
        except ValueError:
            raise Malformed(f"chunk size {line!r}") from None
        data = self.read_exactly(size)
        if self.read_exactly(2) != b"\r\n":
            raise Malformed("no CRLF after a chunk")
        return data

    def read_body(self, response: Response, method: str = "GET") -> Response:
        lengths = set(response.get_all("content-length"))
        coding = response.header("transfer-encoding")
        if coding is not None and lengths:
            raise Malformed("Transfer-Encoding together with Content-Length")
        if len(lengths) > 1:
            raise Malformed(f"several lengths {lengths}")
        if method == "HEAD" or response.status in BODYLESS or response.status < 200:
            if response.status in {204} | set(range(100, 200)) and (lengths or coding):
                raise Malformed(f"{response.status} with a framing header")
            return response
        if coding is not None:
            if coding.lower() != "chunked":
                raise Malformed(f"Transfer-Encoding {coding!r}")
            response.framing = "chunked"
            while chunk := self.read_chunk():
                response.chunks.append(chunk)
            response.body = b"".join(response.chunks)
        elif lengths:
            response.framing = "length"
            response.body = self.read_exactly(int(lengths.pop()))
        else:
            response.framing = "close"
            response.body = self.read_to_end()
        return response

    def read_response(self, method: str = "GET") -> Response:
        """The next final response; interim ones are dropped."""
        while True:
            response = self.read_head()
            if response.status >= 200:
                return self.read_body(response, method)

    def request(
        self,
        method: str = "GET",
        target: str = "/",
        headers: Iterable[tuple[str, str]] = (),
        body: bytes | None = None,
        version: str = "HTTP/1.1",
    ) -> Response:
        self.send_request(method, target, headers, body, version)
        return self.read_response(method)

    def get(self, target: str = "/", **headers: str) -> Response:
        return self.request("GET", target, [(k.replace("_", "-"), v) for k, v in headers.items()])

    def closed_by_peer(self) -> bool:
        """True when the next thing that arrives is the end of the stream (FIN or RST)."""
        assert not self.buffer, f"unread bytes: {self.buffer[:200]!r}"
        try:
            data = self.socket.recv(65536)
        except ConnectionResetError:
            return True
        self.buffer += data
        return not data


def chunked(*chunks: bytes, last: bytes = b"0\r\n\r\n") -> bytes:
    """A chunked body."""
    return b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks) + last
