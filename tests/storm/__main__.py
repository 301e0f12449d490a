"""Run storms: one line of counts for each, and 1 as exit status when anything was lost.

    make storm                              everything, for every engine: an hour
    python -m tests.storm --engine ugreen --action reload --times 20
    python -m tests.storm --engine plain --action recycle --requests 100000

Actions: `reload` (SIGHUP), `upgrade` (greenloom ctl), `recycle` (--max-requests 10), `kill-worker`,
`kill-generation`, `stop` (SIGTERM under load, each time a new server), `timers` (ten ticks a second
while every core is suspended), `none`.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import signal
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from tests.harness.server import APPS, Server
from tests.storm import timers
from tests.storm.actions import Target, repeat
from tests.storm.load import Mix, Storm
from tests.storm.tree import Held, Log, settled

ENGINES = {
    # A worker without cores serves one request at a time: few may be slow, or all are.
    "plain": (["--processes", "8"], "block", Mix(slow=2, streams=2)),
    "none": (["--processes", "2", "--async", "200"], "yield", Mix()),
    "ugreen": (["--processes", "2", "--async", "200", "--ugreen"], "suspend", Mix()),
    "greenlet": (["--processes", "2", "--async", "200", "--greenlet"], "suspend", Mix()),
    "gevent": (["--processes", "2", "--gevent", "200"], "suspend", Mix()),
    "asyncio": (["--processes", "2", "--asyncio", "200"], "suspend", Mix()),
    "uvloop": (
        ["--processes", "2", "--asyncio", "200", "--asyncio-loop", "uvloop"],
        "suspend",
        Mix(),
    ),
    "tornado": (["--processes", "2", "--tornado", "200"], "suspend", Mix()),
    "asyncio-asgi": (["--processes", "2", "--asyncio", "200"], "await", Mix()),
    "uvloop-asgi": (
        ["--processes", "2", "--asyncio", "200", "--asyncio-loop", "uvloop"],
        "await",
        Mix(),
    ),
    "tornado-asgi": (["--processes", "2", "--tornado", "200"], "await", Mix()),
}
STORM_ASGI = ["--chdir", str(APPS / "asgi_storm"), "--asgi", "app"]
"""The same application as an ASGI one."""

SHORT = Mix(idle=50, idle_s=1.5, stream_s=2.0, slow_s=0.3)
FULL = {
    "reload": 200,
    "upgrade": 100,
    "recycle": 1,
    "kill-worker": 20,
    "kill-generation": 20,
    "stop": 20,
    "timers": 1,
}
IN_FULL = ("plain", "ugreen", "greenlet", "gevent")
MASTER_GROWTH_KIB = 4096


def main() -> int:
    """Runs what was asked for."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.storm",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--engine", choices=ENGINES, action="append", help=f"(default {IN_FULL})")
    parser.add_argument("--action", choices=(*FULL, "none"), action="append", help="(default all)")
    parser.add_argument("--times", type=int, help="so many actions (default: as in the full run)")
    parser.add_argument("--requests", type=int, default=100_000, help="for recycle (100000)")
    parser.add_argument("--seconds", type=float, default=10.0, help="for none and timers (10)")
    parser.add_argument("--short", action="store_true", help="fewer idle clients, shorter streams")
    parser.add_argument("--only", action="append", choices=Mix().habits(), help="these clients")
    parser.add_argument("--seed", type=int, default=time.time_ns() % 1_000_000_000)
    parser.add_argument("--option", action="append", default=[], help="one more for the server")
    parser.add_argument("--keep-log", type=Path, help="where the server's log is to stay")
    args = parser.parse_args()
    print(f"storm: seed {args.seed}", flush=True)
    failed = 0
    for engine in args.engine or IN_FULL:
        for action in args.action or FULL:
            found = asyncio.run(storm(engine, action, args))
            failed += bool(found)
            for line in found:
                print(f"storm: {engine}, {action}: {line}", flush=True)
    print(f"storm: {failed} runs were not as they should be" if failed else "storm: all is well")
    return 1 if failed else 0


async def storm(engine: str, action: str, args: argparse.Namespace) -> list[str]:
    """One server, one action; what was not as it should be."""
    options, waits, mix = ENGINES[engine]
    if action == "timers":
        return (
            []
            if waits in ("block", "await")
            else await timers.measure(options, waits, args.seconds)
        )
    if args.short:
        mix = replace(
            mix, idle=SHORT.idle, idle_s=SHORT.idle_s, stream_s=SHORT.stream_s, slow_s=SHORT.slow_s
        )
    if args.only:
        mix = replace(mix, **{habit: 0 for habit in mix.habits() if habit not in args.only})
    if action == "recycle":
        mix = replace(mix, pace_s=0.0, idle=min(mix.idle, 100), streams=1, slow=1, stream_s=2.0)
        options = [*options, "--max-requests", "10"]
    times = args.times or FULL.get(action, 1)
    found: list[str] = []
    with tempfile.TemporaryDirectory(prefix="storm-") as folder:
        for number in range(times if action == "stop" else 1):
            seed = args.seed + number
            found += await run(engine, action, times, options, waits, mix, seed, Path(folder), args)
    return found


async def run(
    engine: str,
    action: str,
    times: int,
    options: list[str],
    waits: str,
    mix: Mix,
    seed: int,
    folder: Path,
    args: argparse.Namespace,
) -> list[str]:
    """The life of one server."""
    control = folder / "control"
    more = ["--http-socket", str(folder / "http"), "--listen", "1000", "--disable-logging"]
    if action == "upgrade":
        more += ["--control-socket", str(control)]
    path = args.keep_log or folder / "log"
    app, site = ("storm", []) if waits != "await" else (None, STORM_ASGI)
    server = Server(
        path,
        app,
        [*options, *more, *site, *args.option],
        uwsgi="127.0.0.1:0",
        probe=False,
        env={"STORM_WAITS": waits},
    )
    try:
        server.wait_ready()
        http = [one.address for n, one in enumerate(server.listeners) if n != server.uwsgi_number]
        enough = args.requests if action == "recycle" else None
        blowing = Storm(http, server.uwsgi_address, mix, seed, enough)
        target = Target(server.pid, Log(path), control, blowing, random.Random(seed))
        before = Held.by(server.pid)
        begun = time.monotonic()
        found = []
        try:
            await blowing.during(act(action, times, target, args))
        except AssertionError as error:
            found.append(f"the server did not do as it was told: {error}")
        seconds = time.monotonic() - begun
        found += findings(blowing, action, times, target)
        if action != "stop":
            after = await settled(server.pid, before)
            found += growth(before, after)
            held = f"{before} -> {after}"
        else:
            code = server.wait_exit(90)
            held = f"exit status {code}"
            found += [f"exit status {code}"] if code else []
            found += [f"left behind: {server.leftovers()}"] if server.leftovers() else []
        found += target.log.suspicious()[:5]
        name = f"{engine}, {action} x {times}, {seconds:.0f} s"
        print(f"storm: {name}: {blowing.tally.summary()}; {held}", flush=True)
        return found
    finally:
        server.kill()


async def act(action: str, times: int, target: Target, args: argparse.Namespace) -> None:
    """Whatever is to be done while the clients run."""
    blowing = target.storm
    assert blowing is not None
    if action == "none":
        await asyncio.sleep(args.seconds)
    elif action == "recycle":
        await blowing.until_enough()
    elif action == "stop":
        await asyncio.sleep(target.draw.uniform(1, 3))
        os.kill(target.master, signal.SIGTERM)
        blowing.stopped()
    else:
        await repeat(action, target, times)


def findings(blowing: Storm, action: str, times: int, target: Target) -> list[str]:
    """What the clients hold against the server."""
    tally = blowing.tally
    found = list(tally.described)
    hidden = sum(tally.violations.values()) - len(found)
    if hidden > 0:
        found.append(f"and {hidden} more")
    wanted = [habit for habit, count in blowing.mix.habits().items() if count]
    if silent := [habit for habit in wanted if not tally.answers[habit]]:
        found.append(f"no answer at all to {', '.join(silent)}")
    if action in ("reload", "upgrade", "kill-generation") and len(tally.loads) != times + 1:
        found.append(f"{times} times, but {len(tally.loads)} loads of the application answered")
    if action == "recycle" and len(tally.processes) < tally.total / 300:
        found.append(f"only {len(tally.processes)} processes have answered {tally.total} requests")
    return found


def growth(before: Held, after: Held) -> list[str]:
    """What was not given back."""
    found = []
    if after.processes != before.processes:
        found.append(f"{before.processes} processes have become {after.processes}")
    if after.descriptors > before.descriptors:
        found.append(f"{before.descriptors} descriptors have become {after.descriptors}")
    if after.master_kib - before.master_kib > MASTER_GROWTH_KIB:
        found.append(f"the master has grown by more than {MASTER_GROWTH_KIB} KiB")
    return found


if __name__ == "__main__":
    sys.exit(main())
