"""Servers of ASGI applications on each of the loops that have asyncio's interface."""

from __future__ import annotations

import pytest

from tests.contract.engines import ON_ASYNCIO, Engine, pair_of
from tests.harness.fixtures import Serve
from tests.harness.server import APPS

CORES = 8
FULL = r"\[DANGER\] async queue is full !!!$"


# By module: all tests of one loop follow each other, on the same servers.
@pytest.fixture(params=ON_ASYNCIO, scope="module")
def pair(request: pytest.FixtureRequest) -> Engine:
    """The pair of a loop. Without its package nothing is tested, which CI does not put up with."""
    return pair_of(request.param)


@pytest.fixture
def loop(pair: Engine) -> str:
    """The name of the test's loop."""
    return pair.loop


def on_loop(start: Serve, pair: Engine) -> Serve:
    """`start` with the options of a loop; `app` is a folder with an ASGI application, or None."""

    def start_on_loop(app: str | None, *options: str, cores: int = CORES, **how):
        site = [] if app is None else ["--chdir", str(APPS / app), "--asgi", "app"]
        # With few cores it is a matter of pace whether they are all taken for a moment.
        how["allow"] = [*how.get("allow", []), FULL]
        return start(None, *pair.arguments(cores), *site, *options, **how)

    return start_on_loop


@pytest.fixture
def serve_asgi(serve: Serve, pair: Engine) -> Serve:
    """`serve_asgi(app, *options, cores=8, **how)`: `serve` on the loop of this test."""
    return on_loop(serve, pair)


@pytest.fixture
def fresh_asgi(fresh: Serve, pair: Engine) -> Serve:
    """`serve_asgi` with a server of its own."""
    return on_loop(fresh, pair)
