"""Runs the contract tests once per pair of engines, and sums up each pair at the end.

`engine` gives any pair, `suspending` only those where `uwsgi.suspend()` works; `serve_engine` and
`fresh_engine` start servers with the pair of the test. `@pytest.mark.engines("ugreen")` is for what
only one engine does.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable

import pytest

from tests.contract.engines import Engine, engines, interpreter, usable, with_engine
from tests.harness.fixtures import Serve

PAIR = "engine"
"""The property of a test's report that names its pair."""

WITHOUT = "no engine"
OUTCOMES = {"passed": "passed", "failed": "failed", "error": "failed", "skipped": "skipped"}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Asks the server for its pairs only when a test wants them."""
    if "engine" not in metafunc.fixturenames:
        return
    only_suspending = "suspending" in metafunc.fixturenames
    wanted = [engine for engine in engines() if engine.suspends or not only_suspending]
    mark = metafunc.definition.get_closest_marker("engines")
    if mark is not None:
        wanted = [engine for engine in wanted if engine.name in mark.args]
    # By module: all tests of one pair follow each other, on the same servers.
    metafunc.parametrize(
        "engine", wanted, ids=[engine.id for engine in wanted], indirect=True, scope="module"
    )


@pytest.fixture(scope="module")
def engine(request: pytest.FixtureRequest) -> Engine:
    """A legal, built pair. One whose package is missing is skipped, and fails in CI."""
    return usable(request.param)


@pytest.fixture(scope="module")
def suspending(engine: Engine) -> Engine:
    """Like `engine`, but only pairs where `uwsgi.suspend()` works."""
    return engine


@pytest.fixture
def serve_engine(serve: Serve, engine: Engine) -> Serve:
    """`serve_engine(app, *options, cores=8, **how)`: `serve` with the pair of this test."""
    return with_engine(serve, engine)


@pytest.fixture
def fresh_engine(fresh: Serve, engine: Engine) -> Serve:
    """`fresh_engine(...)`: `serve_engine` with a server of its own."""
    return with_engine(fresh, engine)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Notes the pair where the summary finds it."""
    callspec = getattr(item, "callspec", None)
    pair = callspec.params.get("engine") if callspec else None
    item.user_properties.append((PAIR, pair.id if isinstance(pair, Engine) else WITHOUT))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """One line per pair: what ran on which interpreter."""
    where = interpreter()
    for pair, counts in by_pair(terminalreporter.stats).items():
        outcome = ", ".join(f"{counts[word]} {word}" for word in ("passed", "failed", "skipped"))
        terminalreporter.write_line(f"contract: {where}, {pair}: {outcome}")


def by_pair(stats: dict[str, Iterable[object]]) -> dict[str, Counter[str]]:
    """The outcomes of pytest's reports, counted for each pair in the order of their first test."""
    found: dict[str, Counter[str]] = defaultdict(Counter)
    for category, word in OUTCOMES.items():
        for report in stats.get(category, ()):
            pair = dict(getattr(report, "user_properties", ())).get(PAIR)
            if pair is not None:
                found[pair][word] += 1
    return dict(sorted(found.items()))
