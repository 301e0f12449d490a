"""`uwsgi.suspend()` wherever Python or C code calls back, in eight requests that overlap."""

from __future__ import annotations

import ast

import pytest

from tests.contract.overlap import all_at_once, check_switches, number_of, one
from tests.harness.server import APPS


def cases():
    """Names of the application's cases, and whether their switches can be counted."""
    tree = ast.parse((APPS / "contract_depth" / "app.py").read_text())
    for node in tree.body:
        if isinstance(node, ast.FunctionDef):
            for mark in node.decorator_list:
                if isinstance(mark, ast.Name) and mark.id in ("case", "uncounted"):
                    yield node.name, mark.id == "case"


CASES = dict(cases())


@pytest.fixture
def server(suspending, serve_engine):
    # More cores than requests, so that the free ones are not always the same.
    return serve_engine("contract_depth", cores=10)


def test_every_case_is_run(server):
    assert one(server, "/cases")["result"] == [list(item) for item in CASES.items()]


@pytest.mark.nasty
@pytest.mark.parametrize("case", CASES)
def test_eight_at_once(server, case):
    answers = all_at_once(server, f"/{case}")
    for answer in answers:
        assert answer["result"]["same"], answer
        assert answer["suspends"] > 1, answer
    lines = check_switches(server, answers) if CASES[case] else server.wait_requests(8)
    ended = [number_of(line) for line in lines]
    assert sorted(ended) == list(range(8))
    assert ended != sorted(ended), "they ended in the order in which they began"
    assert len({line.core for line in lines}) == 8


@pytest.mark.nasty
def test_all_cases_in_one_core_after_another(server):
    """A core that has done all this is as good as new."""
    for case in CASES:
        answer = one(server, f"/{case}")
        assert answer["result"]["same"], answer
    lines = server.wait_requests(len(CASES))
    assert len({line.core for line in lines}) == 1


@pytest.mark.nasty
def test_different_cases_at_once(server):
    """Whatever stands on the neighbours' stacks."""
    names = list(CASES)
    for start in range(0, len(names), 8):
        some = names[start : start + 8]
        clients = []
        for number, case in enumerate(some):
            client = server.http()
            client.send_request(target=f"/{case}?n={number}&of=1")
            clients.append(client)
        for client in clients:
            answer = client.read_response().json()
            assert answer["result"]["same"], answer
