"""`uwsgi.suspend()` wherever Python or C code calls back, in eight requests that overlap."""

from __future__ import annotations

import ast

import pytest

from tests.contract.overlap import all_at_once, check_switches, number_of, one
from tests.harness.server import APPS


def cases():
    """Names of the application's cases, and whether their switches can be counted."""
    for path in sorted((APPS / "contract_depth").glob("cases_*.py")):
        for node in ast.parse(path.read_text()).body:
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
    assert one(server, "/cases")["result"] == CASES


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


@pytest.mark.nasty
def test_one_module_in_all_cores(server):
    for _ in range(3):
        found = [answer["result"] for answer in all_at_once(server, "/one_module")]
        assert [after for _, after in found] == [0] * 8
        assert any(complete for complete, _ in found)


@pytest.mark.nasty
@pytest.mark.parametrize(
    ("path", "switches"),
    [
        # Twenty parts and the empty one that ends them, and close().
        ("/wrapped", 20 + 21 + 1),
        # flush(), fileno() and close().
        ("/sent", 3),
    ],
)
def test_while_the_server_takes_a_response_apart(server, path, switches):
    clients = [server.http() for _ in range(8)]
    for n, client in enumerate(clients):
        client.send_request(target=f"{path}?{n}")
    for n, client in enumerate(clients):
        parts = [f"{n} {k}\n" for k in range(20)] if path == "/wrapped" else [f"{n}"] * 1000
        assert client.read_response().body.decode() == "".join(parts)
    assert [line.switches for line in server.wait_requests(8)] == [switches] * 8
