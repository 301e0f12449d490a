"""Servers with scripts: the executable without an interpreter, and one beside an application."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cgi.scripts import MOUNT, Notes, adopt_helpers, plain
from tests.harness.fixtures import Pool, Serve, has_failed
from tests.harness.look_around import check_log, look_at_running
from tests.harness.server import Server


@pytest.fixture
def beside(fresh: Serve) -> Iterator[Serve]:
    """`beside(app, *options, **how)`: `fresh` for servers that start helper threads."""
    running: list[Server] = []

    def start(app: str | None, *options: str, **how) -> Server:
        server = fresh(app, *options, **how)
        running.append(server)
        return server

    yield start
    for server in running:
        adopt_helpers(server)


@pytest.fixture
def alone(beside: Serve) -> Serve:
    """`alone(*options, allow=[], **how)`: the plain executable with just these options."""

    def start(*options: str, **how) -> Server:
        return beside(None, *options, probe=False, program=plain(), **how)

    return start


@pytest.fixture
def scripts(alone: Serve) -> Serve:
    """`alone` with the scripts of tests/apps/cgi below /cgi-bin."""

    def start(*options: str, **how) -> Server:
        return alone(*MOUNT, *options, **how)

    return start


@pytest.fixture
def server(pool: Pool, request: pytest.FixtureRequest) -> Iterator[Server]:
    """The plain executable with these scripts and no options; shared by a module's tests."""
    running = pool.take(None, MOUNT, {"program": plain(), "probe": False})
    yield running
    try:
        if not has_failed(request):
            adopt_helpers(running)
            look_at_running(running)
            check_log(running, [])
    except BaseException:
        request.node.failed = True
        raise
    finally:
        if has_failed(request):
            pool.drop(running)


@pytest.fixture
def notes(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Notes]:
    """Notes of scripts; `*notes.options` on the server's command line.

    A test takes it before the servers, so that it looks when they have stopped.
    """
    made = Notes(tmp_path / "notes")
    yield made
    try:
        if not has_failed(request):
            made.wait_gone()
    finally:
        made.end_all()
