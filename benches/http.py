"""Compare greenloom with its peers over HTTP: requests/s, CPU per request, latency.

Every server runs the same application in one worker process pinned to CPU 0, with its request log
off; the load generator is pinned to CPU 1: wrk (HTTP/1.1) over keep-alive connections, ab
(HTTP/1.0, `Connection: close`) with a new connection for each request. wrk is not used there as it
opens a second, useless connection whenever an answer ends with the connection, which burdens just
those peers that end answers so. The servers take turns, several rounds each; every figure is the
median of the rounds, every ratio the median of the ratios within a round. Before anything is
measured, each server's answers are checked byte by byte. The figure to trust is CPU per request:
requests/s depends on the load generator and on whatever else the machine does.

    make bench
    .venv/bin/python benches/http.py --seconds 3 --rounds 3 --json result.json
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import signal
import statistics
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from answers import Answer, WrongAnswer, ask
from load import CLIENT_CPU, CLIENTS, TOOLS, describe_tools, load_keep_alive, load_new_connections
from served.app import CHUNK, CHUNKS, HELLO
from servers import HOST, KINDS, SERVER_CPU, Kind, Server

WARM_UP_S = 1


@dataclass(frozen=True)
class Scenario:
    """One kind of load."""

    name: str
    path: str
    body: bytes
    keep_alive: bool


@dataclass(frozen=True)
class Limit:
    """greenloom's CPU per request is at most ``factor`` times the peer's."""

    scenario: str
    peer: str
    factor: float


@dataclass(frozen=True)
class Figures:
    """One measurement, or the medians of several."""

    requests_per_s: float
    cpu_us: float
    p50_ms: float
    p99_ms: float
    errors: float


SCENARIOS = [
    Scenario("hello, keep-alive", "/hello", HELLO, keep_alive=True),
    Scenario("hello, new connections", "/hello", HELLO, keep_alive=False),
    Scenario("stream, keep-alive", "/stream", CHUNK * CHUNKS, keep_alive=True),
    Scenario("stream, new connections", "/stream", CHUNK * CHUNKS, keep_alive=False),
]

LIMITS = [
    Limit("hello, keep-alive", "bjoern", 1.0),
    Limit("hello, new connections", "uwsgi", 1.0),
    Limit("stream, new connections", "uwsgi-async", 0.5),
]

# By scenario and server.
Rounds = dict[tuple[str, str], list[Figures]]
Medians = dict[tuple[str, str], Figures]


def main() -> int:
    """Check, measure, print; 1 when a limit is broken and ``--strict`` asks for it."""
    args = parse_arguments()
    # A polite end must unwind the `with` blocks that own the servers.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    kinds = [kind for kind in KINDS if not args.only or kind.name in args.only]
    demand_tools()

    print_settings(args, kinds)
    plan = check_answers(kinds)
    results: Rounds = {}
    for number in range(1, args.rounds + 1):
        for kind in kinds:
            print(f"round {number}/{args.rounds}: {kind.name}", file=sys.stderr)
            measure(kind, plan[kind.name], args.seconds, results)

    medians = {key: median(figures) for key, figures in results.items()}
    print_table(medians, kinds)
    kept = print_limits(results)
    if args.json:
        write_json(args, medians)
    return 0 if kept or not args.strict else 1


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = [kind.name for kind in KINDS]
    parser.add_argument("--seconds", type=int, default=3, help="of load per figure (default 3)")
    parser.add_argument("--rounds", type=int, default=3, help="per server (default 3)")
    parser.add_argument("--only", action="append", choices=names, help="one server; repeatable")
    parser.add_argument("--json", type=Path, help="also write the medians to this file")
    parser.add_argument("--strict", action="store_true", help="exit 1 when a limit is broken")
    return parser.parse_args()


def demand_tools() -> None:
    """Stop with a sentence when the machine cannot give comparable figures."""
    for tool, package in TOOLS.items():
        if not shutil.which(tool):
            sys.exit(f"{tool} is missing; Debian: apt-get install {package}, or use `make bench`")
    if not {SERVER_CPU, CLIENT_CPU} <= os.sched_getaffinity(0):
        sys.exit(f"CPUs {SERVER_CPU} and {CLIENT_CPU} are needed: one each for server and load")


def check_answers(kinds: list[Kind]) -> dict[str, list[Scenario]]:
    """Check every answer of every server; return which scenarios each of them can run.

    A wrong answer ends the run. A server that is not asked to keep connections open is left out of
    the scenarios that need it, and what it did is printed.
    """
    plan: dict[str, list[Scenario]] = {}
    print("Answers, each checked byte by byte:")
    for kind in kinds:
        plan[kind.name] = []
        with Server(kind, SERVER_CPU) as server:
            for scenario in SCENARIOS:
                try:
                    answer = ask(HOST, server.port, scenario.path, keep_alive=scenario.keep_alive)
                    answer.check(scenario.body)
                except WrongAnswer as wrong:
                    if kind.keeps_alive or not scenario.keep_alive:
                        sys.exit(f"{kind.name}, {scenario.name}: {wrong}")
                    print(f"  {kind.name:13} {scenario.name:24} left out: {wrong}")
                    continue
                print(f"  {kind.name:13} {scenario.name:24} {describe(answer)}")
                plan[kind.name].append(scenario)
    print()
    return plan


def describe(answer: Answer) -> str:
    """Tell the header set and how the end of the body is known."""
    headers = ", ".join(name for name, _ in answer.headers)
    return f"{answer.version} [{headers}], body ends by {answer.framing}"


def measure(kind: Kind, scenarios: list[Scenario], seconds: int, results: Rounds) -> None:
    """One round of one server: every scenario it can run, on a fresh process."""
    with Server(kind, SERVER_CPU) as server:
        for scenario in scenarios:
            load = load_keep_alive if scenario.keep_alive else load_new_connections
            url = f"http://{HOST}:{server.port}{scenario.path}"
            load(url, WARM_UP_S)
            before = server.cpu_seconds()
            report = load(url, seconds)
            cpu_us = (server.cpu_seconds() - before) * 1e6 / report.requests
            figures = Figures(
                requests_per_s=report.requests_per_s,
                cpu_us=cpu_us,
                p50_ms=report.p50_ms,
                p99_ms=report.p99_ms,
                errors=report.errors,
            )
            results.setdefault((scenario.name, kind.name), []).append(figures)


def median(figures: list[Figures]) -> Figures:
    """Take the median of each figure by itself."""
    rows = [asdict(each) for each in figures]
    return Figures(**{name: statistics.median(row[name] for row in rows) for name in rows[0]})


def print_settings(args: argparse.Namespace, kinds: list[Kind]) -> None:
    """Say everything a reader needs to judge the figures."""
    print(f"machine   {platform.platform()}, {os.cpu_count()} CPUs, load {os.getloadavg()[0]:.2f}")
    print(f"clients   on CPU {CLIENT_CPU}, 1 thread, {CLIENTS} connections at a time")
    for line in describe_tools():
        print(f"          {line}")
    print(
        f"servers   1 worker process each, on CPU {SERVER_CPU}, request log off, one application:"
    )
    print(
        "          benches/served/app.py, which sends Content-Type and, for hello, Content-Length"
    )
    print(f"figures   medians of {args.rounds} rounds of {args.seconds} s, servers taking turns")
    for kind in kinds:
        program, *words = kind.command("PORT")
        shown = [Path(program).name, *(f'"{w}"' if " " in w else w for w in words)]
        print(f"  {kind.name:13} {' '.join(shown)}")
    print(f"started   {time.strftime('%Y-%m-%d %H:%M:%S %z')}\n")


def print_table(medians: Medians, kinds: list[Kind]) -> None:
    """One block per scenario, one line per server."""
    for scenario in SCENARIOS:
        print(f"{scenario.name:30}{'req/s':>10}{'CPU us/req':>12}", end="")
        print(f"{'p50 ms':>10}{'p99 ms':>10}{'errors':>9}")
        for kind in kinds:
            row = medians.get((scenario.name, kind.name))
            if row is None:
                print(f"  {kind.name:28}{'-':>10}{'-':>12}{'-':>10}{'-':>10}{'-':>9}")
                continue
            print(f"  {kind.name:28}{row.requests_per_s:>10,.0f}{row.cpu_us:>12.2f}", end="")
            print(f"{row.p50_ms:>10.2f}{row.p99_ms:>10.2f}{row.errors:>9.0f}")
        print()


def print_limits(results: Rounds) -> bool:
    """Compare greenloom's CPU per request with each limit; True when all that apply are kept."""
    kept = True
    print("greenloom / peer, CPU per request")
    for limit in LIMITS:
        ours = results.get((limit.scenario, "greenloom"), [])
        theirs = results.get((limit.scenario, limit.peer), [])
        judged = f"not measured (limit {limit.factor:.2f})"
        if ours and theirs:
            # Within a round the machine is about as busy for both.
            ratios = [a.cpu_us / b.cpu_us for a, b in zip(ours, theirs, strict=True)]
            ratio = statistics.median(ratios)
            verdict = "kept" if ratio <= limit.factor else "BROKEN"
            kept = kept and ratio <= limit.factor
            judged = f"{ratio:.2f} ({min(ratios):.2f} to {max(ratios):.2f};"
            judged += f" limit {limit.factor:.2f}: {verdict})"
        print(f"  {limit.scenario:26}{limit.peer:14}{judged}")
    return kept


def write_json(args: argparse.Namespace, medians: Medians) -> None:
    """Write the medians, for a program to compare with an earlier run."""
    rows = [
        {"scenario": scenario, "server": server, **asdict(figures)}
        for (scenario, server), figures in medians.items()
    ]
    settings = {"seconds": args.seconds, "rounds": args.rounds, "clients": CLIENTS}
    args.json.write_text(json.dumps({"settings": settings, "medians": rows}, indent=2) + "\n")


if __name__ == "__main__":
    sys.exit(main())
