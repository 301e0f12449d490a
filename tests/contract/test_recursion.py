"""Endless recursion ends as in CPython's main thread, and no stack's end ends more than a worker.

What is guarded by CPython itself must find its guard before the end of a core's stack: a signal is
a failure, whatever the application did.
"""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from functools import cache

import pytest

from tests.harness.server import APPS, environment
from tests.harness.waiting import until

APP = APPS / "contract_recursion" / "app.py"
NO_CASES = {"outcome", "suspended_in_the_depth", "overrun", "application", "held"}
CASES = [
    node.name
    for node in ast.parse(APP.read_text()).body
    if isinstance(node, ast.FunctionDef) and node.name not in NO_CASES
]


@cache
def in_the_main_thread(case):
    """What the interpreter of the tests, which is the server's, does by itself."""
    ran = subprocess.run(
        [sys.executable, APP, case], env=environment(), capture_output=True, text=True, timeout=60
    )
    assert ran.returncode == 0, ran
    return ran.stdout.strip()


@pytest.fixture
def server(serve_engine):
    return serve_engine("contract_recursion")


def check(server, case, body):
    expected = in_the_main_thread(case)
    assert expected in ("RecursionError", "MemoryError", "SyntaxError")
    assert body.decode() == expected
    assert server.get("/").body == b"hello"


@pytest.mark.nasty
@pytest.mark.parametrize("case", CASES)
def test_as_in_the_main_thread(server, case):
    pid = server.worker()
    for _ in range(3):
        check(server, case, server.get(f"/{case}").body)
    assert server.worker() == pid
    assert {r.switches for r in server.wait_requests(6)} == {1}


@pytest.mark.nasty
@pytest.mark.parametrize("case", CASES)
def test_in_all_cores_after_a_suspension(suspending, server, case):
    pid = server.worker()
    clients = [server.http() for _ in range(8)]
    for client in clients:
        client.send_request(target=f"/after?case={case}")
    for client in clients:
        check(server, case, client.read_response().body)
    assert server.worker() == pid
    found = [r for r in server.wait_requests(16) if r.uri.startswith("/after")]
    assert [r.switches for r in found] == [5] * 8


def test_json_over_http(server):
    for _ in range(3):
        assert server.request("POST", "/json", body=b"[" * 100_000).body == b"RecursionError"
        assert server.request("POST", "/json", body=b"[[[1]]]").body == b"[[[1]]]"


@pytest.mark.nasty
def test_suspended_in_the_depth(suspending, server):
    clients = [server.http() for _ in range(8)]
    for client in clients:
        client.send_request(target="/deep")
    for client in clients:
        assert json.loads(client.read_response().body) == [True, True, "RecursionError"]


def test_the_end_of_a_stack_ends_the_worker_alone(fresh_engine):
    """No guard of CPython's is left: the next best is to die at once, and to say where."""
    server = fresh_engine(
        "contract_recursion",
        allow=["(?i)signal|died|killed", "Fatal Python error"],
    )
    pid = server.worker()
    neighbour = server.http()
    neighbour.send_request(target="/held")
    neighbour.head = neighbour.read_head()
    assert neighbour.read_chunk() == b"held\n"
    client = server.http()
    client.send_request(target="/overrun")
    assert client.closed_by_peer()
    until(lambda: server.workers() and server.workers() != [pid], "another worker")
    assert server.process.poll() is None
    assert server.get("/").body == b"hello"
    text = server.log_text()
    assert "Segmentation fault" in text
    assert "in run_over_the_end" in text
    assert f"{APP.name}" in text
