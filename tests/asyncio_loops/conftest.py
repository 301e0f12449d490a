"""Servers with each of the loops that have asyncio's interface."""

from __future__ import annotations

import pytest

from tests.contract.engines import Engine, engines, in_ci, with_engine
from tests.harness.fixtures import Serve

LOOPS = ("asyncio", "uvloop", "tornado")


@pytest.fixture(params=LOOPS)
def pair(request: pytest.FixtureRequest) -> Engine:
    """The pair of a loop. Without its package nothing is tested, which CI does not put up with."""
    (pair,) = [engine for engine in engines() if engine.loop == request.param]
    reason = pair.missing()
    if reason is not None:
        (pytest.fail if in_ci() else pytest.skip)(reason)
    return pair


@pytest.fixture
def loop(pair: Engine) -> str:
    """The name of the test's loop."""
    return pair.loop


@pytest.fixture
def serve_loop(serve: Serve, pair: Engine) -> Serve:
    """`serve_loop(app, *options, cores=8, **how)`: `serve` on the loop of this test."""
    return with_engine(serve, pair)


@pytest.fixture
def fresh_loop(fresh: Serve, pair: Engine) -> Serve:
    """`serve_loop` with a server of its own."""
    return with_engine(fresh, pair)
