"""Conditions with deadlines: the only way a test may wait."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

DEADLINE_S = 10.0
"""Generous, because a loaded machine must not fail a test; it is spent only by failures."""


def until(condition: Callable[[], T], what: str, deadline_s: float = DEADLINE_S) -> T:
    """Polls until `condition` gives something true and returns that."""
    end = time.monotonic() + deadline_s
    while True:
        result = condition()
        if result:
            return result
        if time.monotonic() > end:
            raise AssertionError(f"not within {deadline_s} s: {what}")
        time.sleep(0.005)
