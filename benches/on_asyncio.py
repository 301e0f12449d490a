"""Measure the loops of asyncio's interface, WSGI and ASGI, beside the servers of each.

One worker process each on CPU 0, the load on CPU 1, request logs off. The servers take turns in
every round; a ratio is that of two servers in one round, and what is judged is the median over the
rounds, printed with the smallest and the largest. CPU is the server's own, user and system, in all
its processes.

uWSGI keeps no connection open here, so it is measured with a new connection for each request. Its
asyncio dies at the start from CPython 3.12 on; there it is left out.

    make bench-asyncio
    .venv/bin/python benches/on_asyncio.py [--seconds 3] [--rounds 5] [--json FILE] [--strict]
"""

from __future__ import annotations

import signal
import statistics
import subprocess
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
from servers import BJOERN, HOST, SERVER_CPU, Kind, Server, greenloom, peer, uwsgi
from verdicts import Verdicts

WSGI, HELLO_ASGI, SLEEP_ASGI = "loops:application", "loops:hello_asgi", "loops:sleep_asgi"
CORES = 100
SLEEPERS = 1_000
IDEAL = SLEEPERS / 0.05
LOOPS = {
    "asyncio": ("--asyncio", "{cores}"),
    "uvloop": ("--asyncio", "{cores}", "--asyncio-loop", "uvloop"),
    "tornado": ("--tornado", "{cores}"),
}
ASGI_LOOPS = ("asyncio", "uvloop")


def _wsgi(loop: str, cores: int) -> Kind:
    return Kind(loop, greenloom(WSGI, *_on(loop, cores)), keeps_alive=True)


def _asgi(loop: str, cores: int, app: str = HELLO_ASGI) -> Kind:
    command = greenloom(app, *_on(loop, cores), interface="--asgi")
    return Kind(f"{loop} asgi", command, keeps_alive=True)


def _on(loop: str, cores: int) -> list[str]:
    return [word.format(cores=cores) for word in LOOPS[loop]]


def _uvicorn(app: str = HELLO_ASGI) -> Kind:
    def command(port: str) -> list[str]:
        return [
            *(peer("uvicorn"), "--host", HOST, "--port", port),
            *("--loop", "uvloop", "--http", "httptools"),
            *("--no-access-log", "--log-level", "warning", "--lifespan", "off", app),
        ]

    return Kind("uvicorn", command, keeps_alive=True)


def _granian(app: str = HELLO_ASGI) -> Kind:
    def command(port: str) -> list[str]:
        return [
            *(peer("granian"), "--host", HOST, "--port", port, "--interface", "asgi"),
            *("--workers", "1", "--runtime-threads", "1", "--loop", "uvloop"),
            *("--no-access-log", "--log-level", "warning", app),
        ]

    return Kind("granian", command, keeps_alive=True)


UWSGI = Kind("uwsgi", uwsgi(WSGI, "--asyncio", str(CORES), "--greenlet"), keeps_alive=False)

# What one of ours costs, at most so many times what a peer does; None is printed only.
Limits = dict[tuple[str, str], float | None]
KEPT: Limits = {
    ("asyncio", "bjoern"): 1.05,
    ("asyncio", "uvicorn"): 0.4,
    **{(loop, other): None for loop in ("uvloop", "tornado") for other in ("bjoern", "uvicorn")},
    **{(f"{loop} asgi", "uvicorn"): 0.4 for loop in ASGI_LOOPS},
    **{(f"{loop} asgi", "granian"): 0.5 for loop in ASGI_LOOPS},
}
NEW: Limits = {
    **dict.fromkeys(KEPT),
    **{(loop, "uwsgi"): None for loop in LOOPS},
    ("asyncio", "uwsgi"): 0.5,
}


def main() -> int:
    """Measure everything; 1 when a limit is broken and ``--strict`` asks for it."""
    args = Arguments.parse(__doc__)
    # A polite end must unwind the `with` blocks that own the servers.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    become_the_client()
    kinds = [
        *(_wsgi(loop, CORES) for loop in LOOPS),
        *(_asgi(loop, CORES) for loop in ASGI_LOOPS),
        *(BJOERN, _uvicorn(), _granian()),
    ]
    if (version := peers_version()) < (3, 12):
        kinds.append(UWSGI)
    print_settings(kinds)
    if UWSGI not in kinds:
        said = ".".join(str(number) for number in version)
        print(f"uWSGI --asyncio IS LEFT OUT: it dies at the start on CPython {said}\n")
    for kind in kinds:
        with Server(kind, SERVER_CPU) as server:
            ask(HOST, server.port, "/", keep_alive=kind.keeps_alive).check(HELLO)
    verdicts, found = Verdicts(), Found()
    hello(verdicts, found, kinds, args.rounds, args.seconds)
    asleep(verdicts, found, args.rounds, args.seconds)
    return args.conclude(verdicts, found)


def peers_version() -> tuple[int, ...]:
    """Which CPython the peers run on."""
    code = "import sys; print(*sys.version_info[:2])"
    said = subprocess.run([peer("python"), "-c", code], check=True, capture_output=True)
    return tuple(int(number) for number in said.stdout.split())


def hello(verdicts: Verdicts, found: Found, kinds: list[Kind], rounds: int, seconds: int) -> None:
    """What a hello costs on connections that are kept, and on new ones."""
    for keep_alive in (True, False):
        what = f"hello, {'keep-alive' if keep_alive else 'new connections'}"
        for _ in range(rounds):
            for kind in kinds:
                if keep_alive and not kind.keeps_alive:
                    continue
                with Server(kind, SERVER_CPU) as server:
                    used_us = cpu_us(server, "/", seconds, keep_alive=keep_alive)
                    note(found, what, kind, used_us)
        print(f"{what}: CPU per request")
        say_cpu(verdicts, found[what])
        for (ours, theirs), limit in (KEPT if keep_alive else NEW).items():
            if theirs in found[what]:
                say_ratio(verdicts, found[what], theirs, limit, ours=ours)


def asleep(verdicts: Verdicts, found: Found, rounds: int, seconds: int) -> None:
    """A thousand clients, each of whose requests sleeps on the loop."""
    cores = SLEEPERS + 100
    print(f"{SLEEPERS:,} requests asleep for 50 ms at a time, {cores} cores")
    ours = [
        *(_wsgi(loop, cores) for loop in LOOPS),
        *(_asgi(loop, cores, SLEEP_ASGI) for loop in ASGI_LOOPS),
    ]
    peers = [_uvicorn(SLEEP_ASGI), _granian(SLEEP_ASGI)]
    rate, cpu = "asleep, requests per second", "asleep, CPU"
    for _ in range(rounds):
        for kind in (*ours, *peers):
            with Server(kind, SERVER_CPU) as server:
                rate_asleep(found, server, rate, cpu, SLEEPERS, seconds)
    for kind in (*ours, *peers):
        figures = found[rate][kind.name]
        judged = kind in ours
        kept = not judged or statistics.median(figures) >= 0.75 * IDEAL
        limit = f">= {0.75 * IDEAL:,.0f}" if judged else ""
        what = f"{kind.name}, of the ideal {IDEAL:,.0f} per second"
        verdicts.say(what, spread(figures, ",.0f"), limit, kept=kept)
    say_cpu(verdicts, found[cpu])


if __name__ == "__main__":
    sys.exit(main())
