"""Servers with each of the loops that have asyncio's interface."""

from __future__ import annotations

import pytest

from tests.contract.engines import ON_ASYNCIO, Engine, pair_of, with_engine
from tests.harness.fixtures import Serve


@pytest.fixture(params=ON_ASYNCIO)
def pair(request: pytest.FixtureRequest) -> Engine:
    """The pair of a loop. Without its package nothing is tested, which CI does not put up with."""
    return pair_of(request.param)


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
