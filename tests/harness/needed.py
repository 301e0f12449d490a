"""What a test needs and a machine may lack."""

from __future__ import annotations

import os
from typing import NoReturn

import pytest


def missing(what: str) -> NoReturn:
    """Skips the test, and fails it in CI, where nothing may be skipped."""
    (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(what)
