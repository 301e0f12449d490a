"""Which pairs of engines this interpreter can be tested with: the server's own table, filtered."""

from __future__ import annotations

import importlib
import json
import os
import platform
import sys
from dataclasses import dataclass
from functools import cache

from tests.harness.fixtures import Serve
from tests.harness.needed import missing
from tests.harness.server import run

ON_ASYNCIO = ("asyncio", "uvloop", "tornado")
"""The loop engines that have asyncio's interface."""

PACKAGES = {
    "greenlet": "greenlet",
    "gevent": "gevent",
    "uvloop": "uvloop",
    "tornado": "tornado",
}
"""The package that an engine's name asks for; engines that need none are not here."""

NOTHING_ELSE = "none"
BROUGHT_BY_THE_LOOP = "its own"
NO_WSGI = "tasks"
"""Suspend engines as the table names them, where the name is no engine's."""


@dataclass(frozen=True)
class Engine:
    """One legal, built pair of loop engine and suspend engine."""

    loop: str
    suspend: str
    ask: str

    @property
    def name(self) -> str:
        """`none`, `ugreen`, `greenlet`, `gevent`, `libuv+greenlet`: for conditions in tests."""
        if self.loop == "native":
            return self.suspend
        return self.loop if self.suspend == BROUGHT_BY_THE_LOOP else f"{self.loop}+{self.suspend}"

    @property
    def id(self) -> str:
        """The same with both engines, for ids of tests and the summary."""
        return f"native+{self.suspend}" if self.loop == "native" else self.name

    @property
    def suspends(self) -> bool:
        """Whether `uwsgi.suspend()` works at any depth."""
        return self.suspend != NOTHING_ELSE

    @property
    def options(self) -> list[str]:
        """What stands on the command line beside `--async N`."""
        words = self._words()
        if words[:2] == ["--async", "N"]:
            return words[2:]
        return [word for word in words if word != "N"]

    def arguments(self, cores: int) -> list[str]:
        """The whole request for this pair, with so many cores."""
        return [str(cores) if word == "N" else word for word in self._words()]

    def missing(self) -> str | None:
        """Why this interpreter cannot run the pair; None when it can."""
        for part in (self.loop, self.suspend):
            package = PACKAGES.get(part)
            if package is None:
                continue
            try:
                importlib.import_module(package)
            except ImportError as error:
                return f"{self.id} needs {package}, which {interpreter()} cannot import: {error}"
        return None

    def _words(self) -> list[str]:
        # "--async N, or nothing" names a second way to ask for the same pair.
        return self.ask.partition(",")[0].split()


def with_engine(start: Serve, engine: Engine) -> Serve:
    """`start` with the options of a pair, and `cores`."""

    def start_engine(app: str | None, *options: str, cores: int = 8, **how):
        return start(app, *engine.arguments(cores), *options, **how)

    return start_engine


@cache
def engines() -> tuple[Engine, ...]:
    """Every pair that is built and runs WSGI applications of CPython."""
    listed = run("--engines-json")
    assert listed.returncode == 0, f"greenloom --engines-json: {listed.stdout}{listed.stderr}"
    return tuple(
        Engine(row["loop"], row["suspend"], row["ask"])
        for row in json.loads(listed.stdout)
        if row["built"] and row["suspend"] != NO_WSGI and runs_here(row["languages"])
    )


def pair_of(loop: str) -> Engine:
    """The pair of a loop engine that has one; without its package the test is skipped, or fails."""
    (pair,) = [engine for engine in engines() if engine.loop == loop]
    return usable(pair)


def usable(pair: Engine) -> Engine:
    """The pair itself; one whose package is missing skips the test, and fails it in CI."""
    reason = pair.missing()
    if reason is not None:
        missing(reason)
    return pair


def runs_here(languages: str) -> bool:
    """Whether a list such as `Python, Perl` has this language; Stackless is another interpreter."""
    return languages == "any" or "Python" in languages.split(", ")


def interpreter() -> str:
    """What the tests and the server run on, as in `CPython 3.12.1, PYTHONMALLOC=debug`."""
    words = [f"{platform.python_implementation()} {platform.python_version()}"]
    if hasattr(sys, "gettotalrefcount"):
        words.append("debug build")
    if allocator := os.environ.get("PYTHONMALLOC"):
        words.append(f"PYTHONMALLOC={allocator}")
    return ", ".join(words)
