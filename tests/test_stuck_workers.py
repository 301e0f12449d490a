"""`--harakiri` among four workers: exactly the stuck one is replaced, and the log says why."""

from __future__ import annotations

import os
import signal
from contextlib import suppress

import pytest

from tests.harness.on_workers import Begun, one_on_each
from tests.harness.server import Server
from tests.harness.waiting import until

WORKERS = 4
HARAKIRI_S = 2
ALLOWED = ("DAMN ! worker", "HARAKIRI", "(?i)traceback|File |thread 0x|most recent call")


@pytest.fixture
def server(fresh, gate) -> Server:
    return fresh(
        "faults", "--processes", str(WORKERS), "--async", "40", "--harakiri", str(HARAKIRI_S),
        env=gate.env, allow=ALLOWED,
    )  # fmt: skip


def wait_replaced(server: Server, victim: int, others: set[int]) -> None:
    """The victim is gone, somebody is there for it, and nobody else was touched."""
    server.wait_for_log(rf"DAMN ! worker \d \(pid: {victim}\) died, killed by signal 9", 20)
    until(lambda: len(server.workers()) == WORKERS, "a new worker")
    assert set(server.workers()) & others == others
    assert victim not in server.workers()
    assert server.count_log("DAMN ! worker") == 1
    assert server.count_log("HARAKIRI ON WORKER") == 1


@pytest.mark.parametrize(
    ("target", "culprit"),
    [
        ("/spin", "spin_here_for_ever"),
        ("/regex", "match_here_for_ever"),
        ("/block", "block"),
    ],
)
def test_exactly_the_stuck_one(server, gate, target, culprit):
    """Stuck in Python, in C with the interpreter's lock, in a system call without it."""
    begun = one_on_each(server)
    # Longer than harakiri, suspended or busy: innocent.
    innocent = [Begun(server, "/sleep?5"), Begun(server, "/busy?5")]
    stuck = Begun(server, target)
    # One that was with an innocent is lost with the stuck worker. So is one that this worker still
    # accepts between what it says and what it is stuck in: the others get the next.
    while not (safe := [one for one in innocent if one.pid != stuck.pid]):
        innocent.append(Begun(server, "/sleep?5"))
    innocent = safe
    others = set(begun) - {stuck.pid}
    assert len(others) == WORKERS - 1
    server.wait_for_log(rf"HARAKIRI ON WORKER \d \(pid: {stuck.pid}\b", 20)
    wait_replaced(server, stuck.pid, others)
    # A worker that is stuck took nothing with it but what it held, and the next request is served.
    assert server.get("/").status == 200
    assert stuck.lost()
    assert all(one.lost() for one in begun.pop(stuck.pid))
    held = [one for requests in begun.values() for one in requests]
    gate.release(len(held))
    assert {one.rest() for one in held} == {b"released\n"}
    assert {one.rest() for one in innocent} <= {b"slept\n", b"done\n"}
    said = server.log_text().partition(f"(pid: {stuck.pid}) died")[0]
    report = said[said.index("HARAKIRI ON WORKER") :]
    # The stack, and what was in flight, before the kill.
    assert culprit in report
    assert f"GET {target}" in report
    assert "GET /hold" in report
    # The stacks have their own lines for the requests.
    (logged,) = {line for line in report.splitlines() if f"- GET {target}" in line}
    core = logged.partition("[core ")[2].partition("]")[0]
    assert f"core {core} !!!" in report, "the one that is stuck is named, and not the lowest"


def test_idle_ones_are_never_killed(server, gate):
    """Two workers that do not run at all: the one with a request is killed, the idle one is not."""
    found: dict[int, Begun] = {}
    begun = Begun(server, "/hold")
    idle = next(pid for pid in server.workers() if pid != begun.pid)
    os.kill(idle, signal.SIGSTOP)
    try:
        os.kill(begun.pid, signal.SIGSTOP)
        others = set(server.workers()) - {begun.pid}
        wait_replaced(server, begun.pid, others)
        assert begun.lost()
    finally:
        with suppress(ProcessLookupError):
            os.kill(idle, signal.SIGCONT)
    # And serves on.
    found = one_on_each(server)
    assert idle in found
    held = [one for requests in found.values() for one in requests]
    gate.release(len(held))
    assert {one.rest() for one in held} == {b"released\n"}


def test_stopped_with_a_request(server, gate):
    begun = one_on_each(server)
    victim = server.workers()[1]
    os.kill(victim, signal.SIGSTOP)
    wait_replaced(server, victim, set(begun) - {victim})
    assert all(one.lost() for one in begun.pop(victim))
    held = [one for requests in begun.values() for one in requests]
    gate.release(len(held))
    assert {one.rest() for one in held} == {b"released\n"}


def test_one_after_the_other(server):
    """A replacement that gets stuck is replaced as well."""
    for number in range(2):
        before = set(server.workers())
        stuck = Begun(server, "/spin")
        server.wait_for_log(rf"DAMN ! worker \d \(pid: {stuck.pid}\) died", 20)
        until(lambda: len(server.workers()) == WORKERS, "a new worker")
        assert before - set(server.workers()) == {stuck.pid}
        assert stuck.lost()
        assert server.get("/").status == 200
        assert server.count_log("HARAKIRI ON WORKER") == number + 1
