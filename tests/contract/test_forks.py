"""Requests that fork: children that end by themselves, and children that come back.

A child has its parent's connections, cores and reactor. Whatever it did with them would reach the
parent's clients, so one that comes back into the server ends at once, with a status of its own.
"""

from __future__ import annotations

import pytest

from tests.contract.overlap import all_at_once, check_switches, one
from tests.harness import procs
from tests.harness.waiting import until

CAME_BACK = 70
SAID = r"forked by the application.*\(status 70\)"


def expected_exit(n):
    return [f"child {sorted([n, 1])}", 7]


def expected_exec(n):
    return n + 10


def expected_subprocess(n):
    return [f"prepared {n}", f"{n}"]


def expected_process(n):
    return [sum(range(n * 1000)), True, 3 if n == 3 else 0]


KINDS = {
    "fork_and_exit": expected_exit,
    "fork_and_exec": expected_exec,
    "with_subprocess": expected_subprocess,
    "with_multiprocessing": expected_process,
}


@pytest.fixture
def server(serve_engine):
    return serve_engine("contract_forks")


@pytest.mark.nasty
class TestChildrenThatEnd:
    @pytest.mark.parametrize("kind", KINDS)
    def test_alone(self, server, kind):
        pid = server.worker()
        for n in (0, 3, 5):
            response = server.get(f"/{kind}?n={n}")
            assert response.json()["result"] == KINDS[kind](n)
        assert server.worker() == pid
        assert {line.switches for line in server.wait_requests(3)} == {1}
        assert server.count_log(SAID) == 0

    @pytest.mark.parametrize("kind", KINDS)
    def test_among_suspended_requests(self, suspending, server, kind):
        answers = all_at_once(server, f"/{kind}", 6)
        check_switches(server, answers)
        assert [each["result"] for each in answers] == [KINDS[kind](n) for n in range(6)]
        assert server.count_log(SAID) == 0

    def test_nothing_is_left(self, server):
        one_worker = server.worker()
        server.get("/fork_and_exit?n=1")
        until(lambda: not procs.children(one_worker), "no child of the worker")


@pytest.mark.nasty
class TestChildrenThatComeBack:
    def check(self, server, how, body):
        pid = server.worker()
        neighbour = server.http()
        neighbour.send_request(target="/held?seconds=0.3")
        head = neighbour.read_head()
        assert neighbour.read_chunk() == b"held\n"
        client = server.http()
        for _ in range(2):
            assert client.get(f"/{how}").body == body
        # What the children inherited is as it was.
        assert neighbour.read_body(head).body == b"ended"
        assert client.get("/fork_and_exit?n=2").json()["result"] == expected_exit(2)
        assert server.worker() == pid
        until(lambda: not procs.children(pid), "no child of the worker")
        lines = server.wait_requests(4)
        assert sorted(line.uri for line in lines) == sorted(
            [f"/{how}"] * 2 + ["/held?seconds=0.3", "/fork_and_exit?n=2"]
        )
        assert server.count_log(SAID) == 2

    @pytest.mark.parametrize("how", ["returns", "raises", "exits", "keeps_on", "waits"])
    def test_before_the_first_part(self, server, how):
        self.check(server, how, str(CAME_BACK).encode())

    @pytest.mark.parametrize("how", ["yields", "ends"])
    def test_in_the_middle(self, server, how):
        self.check(server, how, b"begin " + str(CAME_BACK).encode())

    @pytest.mark.parametrize("how", ["suspends", "suspends_in_the_depth"])
    def test_in_a_suspension(self, suspending, server, how):
        self.check(server, how, str(CAME_BACK).encode())

    def test_one_after_another(self, suspending, server):
        """The parent's other cores were alive in none of the children."""
        for _ in range(5):
            assert server.get("/suspends").body == str(CAME_BACK).encode()
        answers = all_at_once(server, "/fork_and_exit")
        assert [each["result"] for each in answers] == [expected_exit(n) for n in range(8)]
        assert one(server, "/fork_and_exec")["result"] == expected_exec(0)
