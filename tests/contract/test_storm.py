"""Nothing is lost while the server is changed under load: the short version of `make storm`."""

from __future__ import annotations

import asyncio
import random
import re
import signal
from dataclasses import replace

import pytest

from tests.contract.engines import Engine
from tests.harness.server import Server
from tests.storm.actions import Target, repeat
from tests.storm.load import Mix, Storm
from tests.storm.tree import Held, Log, settled

MIX = Mix(
    fresh=2,
    keeping=2,
    dripped=2,
    uploads=1,
    slow=2,
    streams=2,
    packets=1,
    idle=40,
    slow_s=0.3,
    stream_s=1.0,
    idle_s=1.0,
)
PROCESSES = 2
RELOADS = 8
REQUESTS = 3000


@pytest.fixture
def start(fresh_engine, engine: Engine, tmp_path):
    """`start(*options)` serves the storm's application."""
    waits = "suspend" if engine.suspends else "yield"

    def started(*options: str) -> Server:
        return fresh_engine(
            "storm",
            *("--processes", str(PROCESSES), "--http-socket", str(tmp_path / "http")),
            *("--listen", "200", "--disable-logging", *options),
            cores=100,
            uwsgi="127.0.0.1:0",
            probe=False,
            env={"STORM_WAITS": waits},
        )

    return started


def blow(server: Server, mix: Mix, action: str | None, times: int = 0) -> Storm:
    """Runs the load meanwhile; without an action until there were enough answers."""
    http = [one.address for n, one in enumerate(server.listeners) if n != server.uwsgi_number]
    enough = None if action else times
    storm = Storm(http, server.uwsgi_address, mix, enough=enough)
    target = Target(server.pid, Log(server.log_path), None, storm, random.Random(1))

    async def run() -> Held:
        doing = repeat(action, target, times) if action else storm.until_enough()
        await storm.during(doing)
        return await settled(server.pid, before)

    before = Held.by(server.pid)
    after = asyncio.run(run())
    tally = storm.tally
    print(tally.summary(), before, after, sep="\n")
    assert not tally.violations, "\n".join([tally.summary(), *tally.described])
    assert after.processes == before.processes
    assert after.descriptors <= before.descriptors, f"{before} -> {after}"
    # What the look around compares with are workers that have left.
    server.baseline = {}
    return storm


def test_reloads(start):
    """Each generation has answered, and no client has noticed one."""
    storm = blow(start(), MIX, "reload", RELOADS)
    assert len(storm.tally.loads) == RELOADS + 1
    assert set(storm.tally.answers) == set(MIX.habits())


def test_recycling(start):
    """Workers that leave after ten requests: and serve more while a successor starts."""
    mix = replace(MIX, pace_s=0.0, stream_s=0.3, slow_s=0.1)
    server = start("--max-requests", "10")
    storm = blow(server, mix, None, REQUESTS)
    assert len(storm.tally.processes) > REQUESTS / 300
    # Each at its tenth request, however many it has served in the end.
    done = re.findall(r"is done: served (\d+) requests", server.log_text())
    assert set(done) == {"10"}
    assert len(done) >= len(storm.tally.processes) - PROCESSES
    assert len(storm.tally.loads) == 1


def test_a_generation_is_killed(start):
    """Its workers serve until those of the next one are ready."""
    storm = blow(start(), MIX, "kill-generation", 2)
    assert len(storm.tally.loads) == 3


def test_a_worker_is_killed(start):
    """What it held is lost, and nothing else."""
    storm = blow(start(), MIX, "kill-worker", 3)
    assert sum(storm.tally.excused.values()) > 0
    assert len(storm.tally.processes) == PROCESSES + 3


def test_a_stop(start):
    """What was sent before it is answered, to the last byte."""
    server = start()
    http = [one.address for n, one in enumerate(server.listeners) if n != server.uwsgi_number]
    storm = Storm(http, server.uwsgi_address, MIX)

    async def stop() -> None:
        # By then every connection is there.
        await asyncio.sleep(MIX.idle_s)
        server.signal(signal.SIGTERM)
        storm.stopped()

    asyncio.run(storm.during(stop()))
    print(storm.tally.summary())
    assert not storm.tally.violations, "\n".join([storm.tally.summary(), *storm.tally.described])
    assert storm.tally.answers["streams"] > 0
    assert server.wait_exit() == 0
