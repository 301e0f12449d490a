"""Servers that take turns: what is measured in each round, and how two of them are compared.

A ratio is that of two servers in one round; what is judged is the median over the rounds.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from load import describe_tools, load_keep_alive, load_new_connections
from servers import HOST, Kind, Server
from verdicts import Verdicts

WARM_UP_S = 1


@dataclass(frozen=True)
class Arguments:
    """What the command line asks for."""

    seconds: int
    rounds: int
    json: Path | None
    strict: bool

    @classmethod
    def parse(cls, doc: str | None) -> Arguments:
        """Read the command line of a benchmark that says this of itself."""
        parser = argparse.ArgumentParser(
            description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        add = parser.add_argument
        add("--seconds", type=int, default=3, help="of load per figure (default 3)")
        add("--rounds", type=int, default=5, help="of each measurement (default 5)")
        add("--json", type=Path, help="also write the figures of each round there")
        add("--strict", action="store_true", help="exit 1 when a limit is broken")
        return cls(**vars(parser.parse_args()))

    def conclude(self, verdicts: Verdicts, found: Found) -> int:
        """Write the figures where they are wanted; the exit status."""
        if self.json:
            settings = {"seconds": self.seconds, "rounds": self.rounds}
            text = json.dumps({"settings": settings, "rounds": found}, indent=2)
            self.json.write_text(text + "\n")
        return 1 if verdicts.broken and self.strict else 0


def print_settings(kinds: Iterable[Kind]) -> None:
    """Say what a reader needs to judge the figures."""
    print(f"machine   {platform.platform()}, {os.cpu_count()} CPUs, load {os.getloadavg()[0]:.2f}")
    for line in describe_tools():
        print(f"          {line}")
    for kind in kinds:
        program, *words = kind.command("PORT")
        print(f"          {' '.join([Path(program).name, *words])}")
    print()


# By what was measured and the server: a figure for each round.
Found = dict[str, dict[str, list[float]]]


def cpu_us(server: Server, path: str, seconds: int, *, keep_alive: bool) -> float:
    """Microseconds of the server's CPU for each request for a path."""
    generate = load_keep_alive if keep_alive else load_new_connections
    url = f"http://{HOST}:{server.port}{path}"
    generate(url, WARM_UP_S)
    before = server.cpu_seconds()
    report = generate(url, seconds)
    if report.errors:
        raise RuntimeError(f"{server.kind.name}, {path}: {report.errors} wrong answers")
    return (server.cpu_seconds() - before) * 1e6 / report.requests


def rate_asleep(
    found: Found, server: Server, rate: str, cpu: str, sleepers: int, seconds: int
) -> None:
    """Note how many requests that sleep are served in a second, and what each costs."""
    url = f"http://{HOST}:{server.port}/sleep"
    load_keep_alive(url, WARM_UP_S, clients=sleepers)
    before = server.cpu_seconds()
    report = load_keep_alive(url, seconds, clients=sleepers)
    if report.errors:
        raise RuntimeError(f"{server.kind.name}: {report.errors} wrong answers")
    note(found, rate, server.kind, report.requests_per_s)
    note(found, cpu, server.kind, (server.cpu_seconds() - before) * 1e6 / report.requests)


def note(found: Found, what: str, kind: Kind, figure: float) -> None:
    """Remember a figure of one round."""
    found.setdefault(what, {}).setdefault(kind.name, []).append(figure)


def say_cpu(verdicts: Verdicts, figures: dict[str, list[float]]) -> None:
    """Print each server's CPU for a request."""
    for name, rounds in figures.items():
        verdicts.say(f"{name}, us", spread(rounds, ".1f"))


def say_ratio(
    verdicts: Verdicts,
    figures: dict[str, list[float]],
    name: str,
    limit: float | None = None,
    *,
    at_least: bool = False,
    ours: str = "greenloom",
    what: str = "",
) -> None:
    """Print greenloom's share of a peer's figure, judged by its median."""
    ratios = pairwise(figures, ours, name, lambda mine, theirs: mine / theirs)
    ratio = statistics.median(ratios)
    kept = limit is None or (ratio >= limit if at_least else ratio <= limit)
    relation = "" if limit is None else f"{'>=' if at_least else '<='} {limit}"
    verdicts.say(f"{what}{ours} / {name}", spread(ratios, ".3f"), relation, kept=kept)


def pairwise(
    figures: dict[str, list[float]],
    first: str,
    second: str,
    compare: Callable[[float, float], float],
) -> list[float]:
    """Compare two servers within each round: then the machine is about as busy for both."""
    return [compare(a, b) for a, b in zip(figures[first], figures[second], strict=True)]


def spread(figures: list[float], form: str) -> str:
    """The median, and between which values it lies."""
    low, middle, high = min(figures), statistics.median(figures), max(figures)
    return f"{middle:{form}} ({low:{form}} to {high:{form}})"
