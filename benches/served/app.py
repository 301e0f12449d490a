"""The application that every server of benches/http.py runs, unchanged."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

HELLO = b"Hello, World!"
CHUNK = b"0123456789abcdef" * 3 + b"0123456789abcde\n"
CHUNKS = 10


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Answer ``/stream`` with ten pieces of 64 bytes, everything else with a hello."""
    if environ["PATH_INFO"] == "/stream":
        start_response("200 OK", [("Content-Type", "text/plain")])
        return stream()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "13")])
    return [HELLO]


def stream() -> Iterator[bytes]:
    """Yield each piece on its own."""
    for _ in range(CHUNKS):
        yield CHUNK
