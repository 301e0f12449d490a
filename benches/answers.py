"""A plain HTTP/1.1 client that believes nothing: the check before any measurement."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from typing import BinaryIO

DEADLINE_S = 5.0


class WrongAnswer(Exception):
    """What a server sent that it should not have sent, or did not send."""


@dataclass(frozen=True)
class Answer:
    """One parsed answer; ``framing`` tells how the end of the body was known."""

    version: str
    status: str
    headers: list[tuple[str, str]]
    body: bytes
    framing: str

    def check(self, body: bytes, content_type: str = "text/plain") -> None:
        """Raise WrongAnswer unless status, type, length and body are the application's."""
        types = [value for name, value in self.headers if name.lower() == "content-type"]
        if self.status != "200 OK":
            raise WrongAnswer(f"status {self.status!r}")
        if types != [content_type]:
            raise WrongAnswer(f"Content-Type {types}")
        if self.body != body:
            raise WrongAnswer(f"body of {len(self.body)} bytes: {self.body[:80]!r}")


def ask(host: str, port: int, path: str, *, keep_alive: bool) -> Answer:
    """Send one request, with ``keep_alive`` two on one connection; return the last answer."""
    with socket.create_connection((host, port), timeout=DEADLINE_S) as connection:
        stream = connection.makefile("rb")
        try:
            if not keep_alive:
                connection.sendall(_request("1.0", host, port, path, "Connection: close\r\n"))
                answer = _read_answer(stream)
                if stream.read(1):
                    raise WrongAnswer("bytes behind the end of the answer")
                return answer
            for _ in range(2):
                connection.sendall(_request("1.1", host, port, path, ""))
                answer = _read_answer(stream)
                if answer.framing == "close":
                    raise WrongAnswer("the connection closes after the answer")
            return answer
        except (TimeoutError, ConnectionError) as error:
            raise WrongAnswer(f"the connection does not stay usable: {error}") from error


def _request(version: str, host: str, port: int, path: str, more: str) -> bytes:
    return f"GET {path} HTTP/{version}\r\nHost: {host}:{port}\r\n{more}\r\n".encode()


def _read_answer(stream: BinaryIO) -> Answer:
    version, _, status = _line(stream).partition(" ")
    if not version.startswith("HTTP/1."):
        raise WrongAnswer(f"no answer: {version!r}")
    headers: list[tuple[str, str]] = []
    while line := _line(stream):
        name, _, value = line.partition(":")
        headers.append((name, value.strip()))
    fields = {name.lower(): value for name, value in headers}
    if fields.get("transfer-encoding", "").lower() == "chunked":
        return Answer(version, status, headers, _read_chunks(stream), "chunks")
    if "content-length" in fields:
        body = _exactly(stream, int(fields["content-length"]))
        return Answer(version, status, headers, body, "length")
    return Answer(version, status, headers, stream.read(), "close")


def _read_chunks(stream: BinaryIO) -> bytes:
    body = b""
    while size := int(_line(stream).partition(";")[0], 16):
        body += _exactly(stream, size)
        if _line(stream):
            raise WrongAnswer("a chunk is longer than it says")
    if _line(stream):
        raise WrongAnswer("unexpected trailer")
    return body


def _line(stream: BinaryIO) -> str:
    line = stream.readline(65536)
    if not line.endswith(b"\r\n"):
        raise WrongAnswer(f"line without end: {line!r}")
    return line[:-2].decode("latin-1")


def _exactly(stream: BinaryIO, size: int) -> bytes:
    data = stream.read(size)
    if len(data) != size:
        raise WrongAnswer(f"{len(data)} of {size} bytes")
    return data
