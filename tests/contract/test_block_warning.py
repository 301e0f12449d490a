"""`--block-warning`: code that keeps the loop from its work is named."""

from __future__ import annotations

import re

import pytest

from tests.harness.status import ask_http
from tests.harness.waiting import until

WARNING = (
    r"\*\*\* the loop of worker 1 had no control for (\d+) ms, because of (.*) "
    r"\(--block-warning\) \*\*\*"
)
OPTIONS = ("--block-warning", "0.1")
STACK = [r"^  File .*", r"^    \S.*"]


@pytest.fixture
def server(engine, fresh_engine):
    allow = [WARNING, *STACK]
    return fresh_engine("contract_blocking", *OPTIONS, cores=4, allow=allow, probe=False)


def named(server, target):
    """The line that names a request, and the stack below it."""
    assert server.get(target).body == b"done"
    line = server.wait_for_log(rf"{WARNING}\n((?:  .*\n)+)")
    return int(line[1]), line[2], line[3]


@pytest.mark.parametrize("case", ["sleeps", "computes"])
def test_where_it_blocks(server, case):
    ms, who, stack = named(server, f"/{case}")
    assert 100 <= ms < 10_000
    assert re.fullmatch(rf"core \d, GET /{case}", who)
    assert f"in {case}" in stack.splitlines()[-2]
    assert "in application" in stack


def test_one_that_was_suspended_before(suspending, server):
    _, who, stack = named(server, "/suspended")
    assert re.fullmatch(r"core \d, GET /suspended", who)
    assert "in suspended_before" in stack


def test_each_place_once_in_a_minute(server):
    for _ in range(3):
        named(server, "/sleeps")
    named(server, "/nothing")
    assert server.count_log(WARNING) == 1


def test_a_handler_of_a_signal(server):
    _, who, stack = named(server, "/signal")
    assert who == "the handler of signal 17"
    assert "in handler" in stack


def test_who_gives_way_is_not_named(suspending, server):
    for _ in range(2):
        assert server.get("/gives_way").body == b"done"
    assert server.count_log(WARNING) == 0


def test_a_start_blocks_nobody(engine, fresh_engine):
    env = {"START_S": "0.3"}
    server = fresh_engine("contract_blocking", *OPTIONS, cores=4, probe=False, env=env)
    assert server.get("/nothing").body == b"done"
    assert server.count_log(WARNING) == 0


def test_it_counts_as_lag(engine, fresh_engine):
    server = fresh_engine(
        "contract_blocking",
        *OPTIONS,
        "--metrics",
        "127.0.0.1:0",
        cores=4,
        allow=[WARNING, *STACK],
        probe=False,
    )
    assert server.get("/sleeps").body == b"done"

    def lag():
        text = ask_http(server, "/metrics").body.decode()
        return float(re.search(r'^greenloom_loop_lag_seconds\{worker="1"\} (\S+)$', text, re.M)[1])

    until(lambda: lag() >= 0.4, "the lag is seen")


def test_switched_off(engine, fresh_engine):
    server = fresh_engine("contract_blocking", "--block-warning", "0", cores=4, probe=False)
    assert server.get("/sleeps").body == b"done"
    assert server.count_log(WARNING) == 0
