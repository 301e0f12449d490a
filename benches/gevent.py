"""Measure the gevent loop engine, beside the servers that gevent applications run on today.

One worker process each on CPU 0, the load on CPU 1, request logs off. The servers take turns in
every round; a ratio is that of two servers in one round, and what is judged is the median over the
rounds, printed with the smallest and the largest. CPU is the server's own, user and system, in all
its processes. Before anything is measured, each server's answers are checked byte by byte.

uWSGI keeps no connection open here, so it is measured with a new connection for each request.

    make bench-gevent
    .venv/bin/python benches/gevent.py [--seconds 3] [--rounds 5] [--json result.json] [--strict]
"""

from __future__ import annotations

import signal
import statistics
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from answers import ask
from clients import HELLO, connected, latencies, open_one, read_hello, say_latencies, still_open
from load import become_the_client, load_new_connections
from rounds import (
    WARM_UP_S,
    Arguments,
    Found,
    cpu_us,
    note,
    pairwise,
    print_settings,
    rate_asleep,
    say_cpu,
    say_ratio,
    spread,
)
from served.app import CHUNK, CHUNKS
from served.app import HELLO as HELLO_WORLD
from servers import BJOERN, HOST, SERVER_CPU, Kind, Server, greenloom, peer, uwsgi
from verdicts import Verdicts

GREEN = "green:application"
CORES = 100
SLEEPERS = (1_000, 4_000)
SLEEP_S = 0.05
FASTER = 2.5
READERS = 10
HALF_HEADS = 1_000
FEW, MANY = 10, 30_000
CPUBOUND = b"".join(b"<h1>%d</h1>" % number for number in range(1, 10_000))


@dataclass(frozen=True)
class Load:
    """What is asked for over and over; greenloom's CPU is at most so many times that of peers."""

    name: str
    path: str
    body: bytes
    keep_alive: bool
    factors: dict[str, float]


LOADS = [
    Load("hello, keep-alive", "/", HELLO_WORLD, True, {"gunicorn": 0.1, "bjoern": 1.25}),
    Load("hello, new connections", "/", HELLO_WORLD, False, {"uwsgi": 0.55}),
    Load("ten chunks, new connections", "/stream", CHUNK * CHUNKS, False, {"uwsgi": 0.25}),
]


def _gunicorn(port: str) -> list[str]:
    return [
        *(peer("gunicorn"), "--bind", f"{HOST}:{port}", "--worker-class", "gevent"),
        *("--worker-connections", str(2 * max(SLEEPERS)), "--no-control-socket", GREEN),
    ]


def _greenloom(cores: int) -> Kind:
    return Kind("greenloom", greenloom(GREEN, "--gevent", str(cores)), keeps_alive=True)


GUNICORN = Kind("gunicorn", _gunicorn, keeps_alive=True)
UWSGI = Kind("uwsgi", uwsgi(GREEN, "--gevent", str(CORES)), keeps_alive=False)


def main() -> int:
    """Measure everything; 1 when a limit is broken and ``--strict`` asks for it."""
    args = Arguments.parse(__doc__)
    # A polite end must unwind the `with` blocks that own the servers.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    become_the_client()
    kinds = (_greenloom(CORES), GUNICORN, BJOERN, UWSGI)
    print_settings(kinds)
    check_answers(kinds)
    verdicts = Verdicts()
    found: Found = {}
    cpu_per_request(verdicts, found, kinds, args.rounds, args.seconds)
    for sleepers in SLEEPERS:
        asleep(verdicts, found, sleepers, args.rounds, args.seconds)
    beside_cpubound(verdicts, found, args.rounds, args.seconds)
    half_heads(verdicts, args.seconds)
    unused_cores(verdicts, found, args.rounds)
    return args.conclude(verdicts, found)


def check_answers(kinds: tuple[Kind, ...]) -> None:
    """Ask each server for whatever it will be asked for; a wrong answer ends the run."""
    for kind in kinds:
        ways = (True, False) if kind.keeps_alive else (False,)
        with Server(kind, SERVER_CPU) as server:
            for keep_alive in ways:
                asked = {load.path: load.body for load in LOADS}
                if kind is not BJOERN:
                    asked |= {"/hello": b"ok\n", "/sleep": b"ok\n"}
                    answer = ask(HOST, server.port, "/cpubound", keep_alive=keep_alive)
                    answer.check(CPUBOUND, "text/html")
                for path, body in asked.items():
                    ask(HOST, server.port, path, keep_alive=keep_alive).check(body)


def cpu_per_request(
    verdicts: Verdicts, found: Found, kinds: tuple[Kind, ...], rounds: int, seconds: int
) -> None:
    """What one request costs the server, under each load."""
    for _ in range(rounds):
        for kind in kinds:
            with Server(kind, SERVER_CPU) as server:
                for load in LOADS:
                    if kind.name == "greenloom" or kind.name in load.factors:
                        note(
                            found,
                            load.name,
                            kind,
                            cpu_us(server, load.path, seconds, keep_alive=load.keep_alive),
                        )
    for load in LOADS:
        print(f"{load.name}: CPU per request")
        say_cpu(verdicts, found[load.name])
        for name, factor in load.factors.items():
            say_ratio(verdicts, found[load.name], name, factor)


def asleep(verdicts: Verdicts, found: Found, sleepers: int, rounds: int, seconds: int) -> None:
    """So many clients, each of whose requests sleeps in gevent."""
    cores = sleepers + 100
    print(f"{sleepers:,} requests asleep for 50 ms at a time, --gevent {cores}")
    rate, cpu = f"{sleepers} asleep, requests per second", f"{sleepers} asleep, CPU"
    for _ in range(rounds):
        for kind in (_greenloom(cores), GUNICORN):
            with Server(kind, SERVER_CPU) as server:
                rate_asleep(found, server, rate, cpu, sleepers, seconds)
    ideal = sleepers / SLEEP_S
    for name, figures in found[rate].items():
        verdicts.say(f"{name}, of the ideal {ideal:,.0f} per second", spread(figures, ",.0f"))
    # Where a peer comes close to the ideal nobody can be so many times faster.
    reaches = statistics.median(found[rate]["gunicorn"]) * FASTER <= ideal
    say_ratio(verdicts, found[rate], "gunicorn", FASTER if reaches else None, at_least=True)
    say_cpu(verdicts, found[cpu])
    say_ratio(verdicts, found[cpu], "gunicorn")


def beside_cpubound(verdicts: Verdicts, found: Found, rounds: int, seconds: int) -> None:
    """What a hello waits for while others read ten thousand small pieces, over and over."""
    print(f"hello beside {READERS} clients that read tests/cpubound_async.py over and over")
    p50, p99 = "beside cpubound, p50 ms", "beside cpubound, p99 ms"
    for _ in range(rounds):
        for kind in (_greenloom(CORES), UWSGI):
            with Server(kind, SERVER_CPU) as server, ThreadPoolExecutor(1) as pool:
                url = f"http://{HOST}:{server.port}/cpubound"
                busy = pool.submit(load_new_connections, url, seconds + 2, clients=READERS)
                # Until all of them are at it.
                latencies(server, WARM_UP_S, keep_alive=False)
                waited = latencies(server, seconds, keep_alive=False)
                if (errors := busy.result().errors) != 0:
                    raise RuntimeError(f"{kind.name}: {errors} wrong answers")
                note(found, p50, kind, statistics.median(waited))
                note(found, p99, kind, statistics.quantiles(waited, n=100)[98])
    for name, figures in found[p50].items():
        ours = name == "greenloom"
        kept = not ours or statistics.median(figures) <= 0.3
        limit = "<= 0.3 ms" if ours else ""
        verdicts.say(f"{name}, p50 in ms", spread(figures, ".3f"), limit, kept=kept)
        verdicts.say(f"{name}, p99 in ms", spread(found[p99][name], ".3f"))


def half_heads(verdicts: Verdicts, seconds: int) -> None:
    """Clients that send half a head and no more."""
    print(f"{HALF_HEADS:,} connections with half a head, --gevent {FEW}")
    with Server(_greenloom(FEW), SERVER_CPU) as server:
        quiet = latencies(server, seconds)
        with connected(server, HALF_HEADS, b"GET /hello HTTP/1.1\r\nHost: be") as slow:
            loaded = latencies(server, seconds)
            held = still_open(slow, time.monotonic())
    say_latencies(verdicts, quiet, loaded, p50_limit_ms=1.0)
    kept = held == HALF_HEADS
    verdicts.say("of them still connected", f"{held:,}", f"{HALF_HEADS:,}", kept=kept)


def unused_cores(verdicts: Verdicts, found: Found, rounds: int) -> None:
    """What cores cost that serve nobody: time before the first answer, and memory."""
    print(f"--gevent {MANY:,} beside --gevent {FEW}")
    started, memory = "until the first answer, ms", "resident, KiB"
    for _ in range(rounds):
        for cores in (FEW, MANY):
            kind = _greenloom(cores)
            begun = time.monotonic()
            with Server(kind, SERVER_CPU) as server:
                with open_one(server, HELLO) as client:
                    read_hello(client)
                taken_ms = (time.monotonic() - begun) * 1e3
                found.setdefault(started, {}).setdefault(str(cores), []).append(taken_ms)
                used = float(server.resident_kib())
                found.setdefault(memory, {}).setdefault(str(cores), []).append(used)
    more_ms = differences(found[started])
    kept = statistics.median(more_ms) < 300
    verdicts.say("until the first answer, more ms", spread(more_ms, ".0f"), "< 300", kept=kept)
    each = [more * 1024 / (MANY - FEW) for more in differences(found[memory])]
    kept = statistics.median(each) < 4096
    verdicts.say("memory of an unused core, bytes", spread(each, ",.0f"), "< 4,096", kept=kept)


def differences(figures: dict[str, list[float]]) -> list[float]:
    """How much more it is with many cores than with few, in each round."""
    return pairwise(figures, str(MANY), str(FEW), lambda many, few: many - few)


if __name__ == "__main__":
    sys.exit(main())
