"""The same fixtures as in tests/."""

from __future__ import annotations

from tests.conftest import (
    counter,
    fresh,
    gate,
    modes,
    module_counter,
    module_gate,
    nginx,
    pool,
    pytest_runtest_makereport,
    serve,
)

__all__ = [
    "counter",
    "fresh",
    "gate",
    "modes",
    "module_counter",
    "module_gate",
    "nginx",
    "pool",
    "pytest_runtest_makereport",
    "serve",
]
