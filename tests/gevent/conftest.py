"""Servers with `--gevent N`, on each of the loops that gevent brings."""

from __future__ import annotations

import pytest

from tests.harness.fixtures import Serve
from tests.harness.needed import missing

LOOPS = {"libev": {}, "libuv": {"GEVENT_LOOP": "libuv"}}


@pytest.fixture(autouse=True)
def gevent_is_here() -> None:
    """Without the package there is nothing to test, which CI does not put up with."""
    try:
        import gevent  # noqa: F401
    except ImportError:
        missing("gevent is not installed: pip install gevent")


@pytest.fixture(params=LOOPS)
def loop(request: pytest.FixtureRequest) -> dict[str, str]:
    """The environment that chooses gevent's loop; a test that takes this runs on each."""
    return LOOPS[request.param]


@pytest.fixture
def serve_gevent(serve: Serve, loop: dict[str, str]) -> Serve:
    """`serve_gevent(app, *options, cores=8, env={}, **how)`: `serve` on the loop of this test."""
    return on_loop(serve, loop)


@pytest.fixture
def fresh_gevent(fresh: Serve, loop: dict[str, str]) -> Serve:
    """`serve_gevent` with a server of its own."""
    return on_loop(fresh, loop)


def on_loop(start: Serve, loop: dict[str, str]) -> Serve:
    def start_gevent(app: str, *options: str, cores: int = 8, env: dict | None = None, **how):
        return start(app, "--gevent", str(cores), *options, env={**loop, **(env or {})}, **how)

    return start_gevent
