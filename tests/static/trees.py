"""Folders with files in them, all changed last at one moment that is long over."""

from __future__ import annotations

import os
from email.utils import formatdate
from pathlib import Path

MODIFIED_S = 1_700_000_000
MODIFIED_NS = 123_456_789
LAST_MODIFIED = "Tue, 14 Nov 2023 22:13:20 GMT"


def plant(folder: Path, *directories: str, **files: str | bytes) -> Path:
    """`plant(folder, "empty", **{"a/b.txt": "text"})`; missing directories are made."""
    for name in directories:
        (folder / name).mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        put(folder / name, content)
    return folder


def put(path: Path, content: str | bytes) -> Path:
    """One file, of the moment above."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    age(path)
    return path


def age(path: Path, seconds: int = MODIFIED_S) -> None:
    """A file that was changed just now has a weak tag: that is for its own tests."""
    os.utime(path, ns=(seconds * 10**9, seconds * 10**9 + MODIFIED_NS))


def etag(size: int, seconds: int = MODIFIED_S) -> str:
    """The tag of a file of this module."""
    return f'"{seconds:x}-{MODIFIED_NS:x}-{size:x}"'


def http_date(seconds: float) -> str:
    return formatdate(seconds, usegmt=True)


def pattern(size: int, seed: int = 0) -> bytes:
    """Bytes that show when a part is missing or in another place."""
    block = bytes((n * 7 + (n >> 8) * 13 + seed) % 251 for n in range(64_256))
    return (block * (size // len(block) + 1))[:size]
