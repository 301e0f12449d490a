"""Measure the loops of asyncio's interface, beside bjoern and uvicorn.

One worker process each on CPU 0, the load on CPU 1, request logs off. The servers take turns in
every round; a ratio is that of two servers in one round, and what is judged is the median over the
rounds, printed with the smallest and the largest. CPU is the server's own, user and system.

    make bench-asyncio
    .venv/bin/python benches/on_asyncio.py [--seconds 3] [--rounds 5] [--json FILE] [--strict]
"""

from __future__ import annotations

import signal
import statistics
import sys

from answers import ask
from load import become_the_client
from rounds import (
    Arguments,
    Found,
    cpu_us,
    note,
    print_settings,
    rate_asleep,
    say_cpu,
    say_ratio,
    spread,
)
from served.app import HELLO
from servers import BJOERN, HOST, SERVER_CPU, Kind, Server, greenloom, peer
from verdicts import Verdicts

APP = "loops:application"
CORES = 100
SLEEPERS = 1_000
IDEAL = SLEEPERS / 0.05
LOOPS = {
    "asyncio": ("--asyncio", "{cores}"),
    "uvloop": ("--asyncio", "{cores}", "--asyncio-loop", "uvloop"),
    "tornado": ("--tornado", "{cores}"),
}


def _greenloom(loop: str, cores: int) -> Kind:
    words = [word.format(cores=cores) for word in LOOPS[loop]]
    return Kind(loop, greenloom(APP, *words), keeps_alive=True)


def _uvicorn(port: str) -> list[str]:
    return [
        *(peer("uvicorn"), "--host", HOST, "--port", port),
        *("--loop", "uvloop", "--http", "httptools"),
        *("--no-access-log", "--log-level", "warning", "--lifespan", "off", "loops:hello_asgi"),
    ]


UVICORN = Kind("uvicorn", _uvicorn, keeps_alive=True)


def main() -> int:
    """Measure everything; 1 when a limit is broken and ``--strict`` asks for it."""
    args = Arguments.parse(__doc__)
    # A polite end must unwind the `with` blocks that own the servers.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    become_the_client()
    kinds = [*(_greenloom(loop, CORES) for loop in LOOPS), BJOERN, UVICORN]
    print_settings(kinds)
    for kind in kinds:
        with Server(kind, SERVER_CPU) as server:
            ask(HOST, server.port, "/", keep_alive=True).check(HELLO)
    verdicts, found = Verdicts(), Found()
    hello(verdicts, found, kinds, args.rounds, args.seconds)
    asleep(verdicts, found, args.rounds, args.seconds)
    return args.conclude(verdicts, found)


def hello(verdicts: Verdicts, found: Found, kinds: list[Kind], rounds: int, seconds: int) -> None:
    """What a hello costs on connections that are kept, and on new ones."""
    for keep_alive in (True, False):
        what = f"hello, {'keep-alive' if keep_alive else 'new connections'}"
        for _ in range(rounds):
            for kind in kinds:
                with Server(kind, SERVER_CPU) as server:
                    used_us = cpu_us(server, "/", seconds, keep_alive=keep_alive)
                    note(found, what, kind, used_us)
        print(f"{what}: CPU per request")
        say_cpu(verdicts, found[what])
        for loop in LOOPS:
            limits = (1.05, 0.4) if keep_alive and loop == "asyncio" else (None, None)
            for other, limit in zip((BJOERN, UVICORN), limits, strict=True):
                say_ratio(verdicts, found[what], other.name, limit, ours=loop)


def asleep(verdicts: Verdicts, found: Found, rounds: int, seconds: int) -> None:
    """A thousand clients, each of whose requests sleeps on the loop."""
    print(f"{SLEEPERS:,} requests asleep for 50 ms at a time, {SLEEPERS + 100} cores")
    rate, cpu = "asleep, requests per second", "asleep, CPU"
    for _ in range(rounds):
        for loop in LOOPS:
            with Server(_greenloom(loop, SLEEPERS + 100), SERVER_CPU) as server:
                rate_asleep(found, server, rate, cpu, SLEEPERS, seconds)
    for name, figures in found[rate].items():
        kept = statistics.median(figures) >= 0.75 * IDEAL
        limit = f">= {0.75 * IDEAL:,.0f}"
        what = f"{name}, of the ideal {IDEAL:,.0f} per second"
        verdicts.say(what, spread(figures, ",.0f"), limit, kept=kept)
    say_cpu(verdicts, found[cpu])


if __name__ == "__main__":
    sys.exit(main())
