"""Fixtures of tests/ and conformance/, and the outcome of a test for its fixtures."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pytest

from tests.harness.fixtures import (
    autobahn,
    chromium,
    chromium_process,
    counter,
    fresh,
    fresh_native,
    gate,
    modes,
    module_counter,
    module_gate,
    native,
    nginx,
    pool,
    postgres,
    redis,
    serve,
)
from tests.harness.unprivileged import unprivileged, unprivileged_native

__all__ = [
    "autobahn",
    "chromium",
    "chromium_process",
    "counter",
    "fresh",
    "fresh_native",
    "gate",
    "modes",
    "module_counter",
    "module_gate",
    "native",
    "nginx",
    "pool",
    "postgres",
    "redis",
    "serve",
    "unprivileged",
    "unprivileged_native",
]


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, None]:
    """Marks a failed item: the look around would only add noise to it."""
    outcome = yield
    report = outcome.get_result()
    if report.when == "call" and report.failed:
        item.failed = True
