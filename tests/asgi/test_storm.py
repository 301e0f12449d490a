"""The short storms of tests/contract/test_storm.py, with the same application in ASGI."""

from __future__ import annotations

import pytest

from tests.contract.test_storm import (
    PROCESSES,
    test_a_generation_is_killed,
    test_a_stop,
    test_a_worker_is_killed,
    test_recycling,
    test_reloads,
)

__all__ = [
    "test_a_generation_is_killed",
    "test_a_stop",
    "test_a_worker_is_killed",
    "test_recycling",
    "test_reloads",
]


@pytest.fixture
def start(fresh_asgi, tmp_path):
    """`start(*options)` serves the storm's application."""

    def started(*options: str):
        return fresh_asgi(
            "asgi_storm",
            *("--processes", str(PROCESSES), "--http-socket", str(tmp_path / "http")),
            *("--listen", "200", "--disable-logging", *options),
            cores=100,
            uwsgi="127.0.0.1:0",
            probe=False,
        )

    return started
