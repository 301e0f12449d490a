"""Servers with each of the loops that have asyncio's interface."""

from __future__ import annotations

import importlib

import pytest

from tests.contract.engines import in_ci
from tests.harness.fixtures import Serve

LOOPS = {
    "asyncio": ["--asyncio", "N"],
    "uvloop": ["--asyncio", "N", "--asyncio-loop", "uvloop"],
    "tornado": ["--tornado", "N"],
}


@pytest.fixture(params=LOOPS)
def loop(request: pytest.FixtureRequest) -> str:
    """Its name. Without its package there is nothing to test, which CI does not put up with."""
    try:
        importlib.import_module(request.param)
    except ImportError as error:
        (pytest.fail if in_ci() else pytest.skip)(f"{request.param} cannot be imported: {error}")
    return request.param


@pytest.fixture
def serve_loop(serve: Serve, loop: str) -> Serve:
    """`serve_loop(app, *options, cores=8, **how)`: `serve` on the loop of this test."""
    return on_loop(serve, loop)


@pytest.fixture
def fresh_loop(fresh: Serve, loop: str) -> Serve:
    """`serve_loop` with a server of its own."""
    return on_loop(fresh, loop)


def on_loop(start: Serve, loop: str) -> Serve:
    def start_loop(app: str, *options: str, cores: int = 8, **how):
        words = [str(cores) if word == "N" else word for word in LOOPS[loop]]
        return start(app, *words, *options, **how)

    return start_loop
