"""A client of the uwsgi protocol: packets out, an HTTP response in."""

from __future__ import annotations

import struct
from collections.abc import Iterable

from tests.harness.http import Client, Response, parse_head

Variables = Iterable[tuple[str, str]]


def block(variables: Variables) -> bytes:
    """The variables, each as length, key, length, value (little endian)."""
    parts = []
    for key, value in variables:
        for text in (key, value):
            data = text.encode("latin-1")
            parts.append(struct.pack("<H", len(data)) + data)
    return b"".join(parts)


def packet(variables: Variables, modifier1: int = 0, modifier2: int = 0) -> bytes:
    """Header and variables."""
    data = block(variables)
    return struct.pack("<BHB", modifier1, len(data), modifier2) + data


def variables(
    method: str = "GET",
    path: str = "/",
    query: str = "",
    length: int | str | None = None,
    extra: Variables = (),
) -> list[tuple[str, str]]:
    """What a front-end server sends for a request."""
    found = [
        ("QUERY_STRING", query),
        ("REQUEST_METHOD", method),
        ("CONTENT_TYPE", ""),
        ("CONTENT_LENGTH", "" if length is None else str(length)),
        ("REQUEST_URI", path + ("?" + query if query else "")),
        ("PATH_INFO", path),
        ("DOCUMENT_ROOT", "/usr/share/nginx/html"),
        ("SERVER_PROTOCOL", "HTTP/1.1"),
        ("REQUEST_SCHEME", "http"),
        ("REMOTE_ADDR", "192.0.2.7"),
        ("REMOTE_PORT", "40000"),
        ("SERVER_PORT", "80"),
        ("SERVER_NAME", "example.org"),
        ("HTTP_HOST", "example.org"),
    ]
    return found + list(extra)


class PacketClient(Client):
    """One connection that carries one request."""

    def ask(
        self,
        method: str = "GET",
        path: str = "/",
        query: str = "",
        body: bytes | None = None,
        extra: Variables = (),
    ) -> Response:
        length = None if body is None else len(body)
        self.send(packet(variables(method, path, query, length, extra)) + (body or b""))
        return self.read_answer()

    def read_answer(self) -> Response:
        """The response ends where the connection ends."""
        head, blank, body = self.read_to_end().partition(b"\r\n\r\n")
        assert blank, f"no head in {head[:200]!r}"
        response = parse_head(head)
        response.body = body
        response.framing = "close"
        return response
