"""What is done to a server while a storm blows. Each waits until the server is well again."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

from tests.harness.server import command, environment
from tests.storm.load import Storm
from tests.storm.tree import DEADLINE_S, Log, generations, wait_generations, workers

PAUSE_S = 0.5
"""At most, between two actions: they should meet clients in every state."""


@dataclass
class Target:
    """A running server, and what is needed to act on it."""

    master: int
    log: Log
    control: Path | None = None
    storm: Storm | None = None
    draw: random.Random = field(default_factory=lambda: random.Random(1))
    mercy_s: float = DEADLINE_S
    """How long requests in progress may hold up a generation."""


async def reload(target: Target) -> None:
    """The next generation by SIGHUP."""
    # With two on their way out already, the oldest would have to be cut short: by design.
    await wait_generations(target.master, 2, target.mercy_s)
    target.log.follow()
    count = target.log.ready
    os.kill(target.master, signal.SIGHUP)
    await target.log.wait_ready(count + 1)


async def upgrade(target: Target) -> None:
    """A new master in the place of the old one."""
    await wait_generations(target.master, 2, target.mercy_s)
    target.log.follow()
    count = target.log.ready
    process = await asyncio.create_subprocess_exec(
        *command(), "ctl", "--socket", str(target.control), "upgrade",
        env=environment(), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    said, _ = await asyncio.wait_for(process.communicate(), DEADLINE_S)
    assert process.returncode == 0, f"greenloom ctl upgrade: {said.decode()}"
    await target.log.wait_ready(count + 1)


async def kill_worker(target: Target) -> None:
    """SIGKILL to one worker: what it holds is lost, nothing else."""
    storm = target.storm
    assert storm is not None
    before = await wait_serving(target, len(workers(target.master)))
    victim = target.draw.choice(before)
    storm.killed()
    os.kill(victim, signal.SIGKILL)
    await wait_serving(target, len(before), without=victim)


async def wait_serving(target: Target, count: int, without: int | None = None) -> list[int]:
    """So many workers, each of which has answered a client."""
    assert target.storm is not None
    end = time.monotonic() + DEADLINE_S
    while True:
        living = [pid for pid in workers(target.master) if pid != without]
        if len(living) >= count and all(str(pid) in target.storm.tally.processes for pid in living):
            return living
        assert time.monotonic() < end, f"no {count} workers that serve, only {living}"
        await asyncio.sleep(0.02)


async def kill_generation(target: Target) -> None:
    """SIGKILL to the process that loaded the application: nothing at all is lost."""
    await wait_generations(target.master, 1, target.mercy_s)
    (generation,) = generations(target.master)
    target.log.follow()
    count = target.log.ready
    os.kill(generation, signal.SIGKILL)
    await target.log.wait_ready(count + 1)


ACTIONS: dict[str, Callable[[Target], Awaitable[None]]] = {
    "reload": reload,
    "upgrade": upgrade,
    "kill-worker": kill_worker,
    "kill-generation": kill_generation,
}


async def repeat(action: str, target: Target, times: int) -> None:
    """The action, that many times, at moments that nobody can foresee."""
    assert target.storm is not None
    # Every connection is there when it begins.
    await asyncio.sleep(min(2.0, target.storm.mix.idle_s))
    for _ in range(times):
        await ACTIONS[action](target)
        await asyncio.sleep(target.draw.uniform(0, PAUSE_S))
