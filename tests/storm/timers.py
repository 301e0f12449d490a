"""Ticks of a uwsgi timer while every core of the only worker is suspended."""

from __future__ import annotations

import asyncio
import json
import tempfile
import time
from pathlib import Path

from tests.harness.server import Server

INTERVAL_S = 0.1
CORES = 50
SHARE = 0.99
"""Of the ticks that are due."""


async def measure(options: list[str], waits: str, seconds: float) -> list[str]:
    """What was wrong with a server of these options, of which one worker is taken."""
    assert options[0] == "--processes"
    engine = [str(CORES) if word.isdecimal() else word for word in options[2:]]
    with tempfile.TemporaryDirectory(prefix="storm-") as folder:
        server = Server(
            Path(folder) / "log",
            "storm",
            [*engine, "--disable-logging"],
            probe=False,
            env={"STORM_WAITS": waits, "STORM_TIMER": str(INTERVAL_S)},
        )
        try:
            server.wait_ready()
            return await asyncio.to_thread(count, server, seconds)
        finally:
            server.kill()


def count(server: Server, seconds: float) -> list[str]:
    """Suspends all cores, and looks afterwards when the timer came meanwhile."""
    clients = [server.http(timeout_s=seconds + 30) for _ in range(CORES)]
    for client in clients:
        client.send_request(target=f"/stream?token=t&parts=1&seconds={seconds}")
    for client in clients:
        head = client.read_head()
        assert head.status == 200
        assert client.read_chunk() == b"t 0\n"
    begin = time.monotonic()
    # The first that ends is the end of it: until then each core is taken.
    assert clients[0].read_chunk() == b""
    end = time.monotonic()
    for client in clients[1:]:
        assert client.read_chunk() == b""
    ticks = json.loads(server.get("/ticks").body)
    found = [tick for tick in ticks if begin <= tick <= end]
    due = (end - begin) / INTERVAL_S
    print(f"storm: timers: {len(found)} of {due:.1f} ticks in {end - begin:.1f} s", flush=True)
    if len(found) < int(due) * SHARE:
        return [f"{len(found)} of {due:.1f} ticks"]
    return []
