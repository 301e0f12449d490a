"""Threads of the application run beside requests, whatever the server and its cores do."""

from __future__ import annotations

import pytest

from tests.contract.overlap import all_at_once, check_switches, one
from tests.harness.waiting import until


@pytest.fixture
def server(serve_engine, counter):
    return serve_engine("contract_threads", env=counter.env)


def check_refused(found):
    assert set(found) == {"suspend", "async_sleep", "wait_fd_read", "ready_fd", "disconnect"}
    for name, text in found.items():
        assert text.startswith("RuntimeError: "), (name, text)
        assert "thread" in text, (name, text)
        assert "uwsgi" in text, (name, text)


class TestWhileNobodyAsks:
    """The server waits for sockets without holding the interpreter."""

    @pytest.mark.parametrize("seconds", ["0.01", "0.3"])
    def test_a_timer_fires(self, server, counter, seconds):
        one(server, "/timer", seconds=seconds)
        until(lambda: counter.value() == 1, "the timer has fired")
        assert len(server.wait_requests(1)) == 1

    def test_a_thread_goes_on(self, server, counter):
        one(server, "/ticker")
        until(lambda: counter.value() == 20, "all ticks")


class TestInARequest:
    def test_a_pool(self, server):
        for n in range(3):
            found = server.get(f"/pool?n={n}").json()["result"]
            assert found == [k * k + n for k in range(20)]
        assert {line.switches for line in server.wait_requests(3)} == {1}

    def test_calls_of_the_api_are_refused(self, server):
        for _ in range(3):
            check_refused(server.get("/refused").json()["result"])
        assert server.get("/small").json()["result"] == 99

    def test_a_thread_that_never_waits(self, server):
        """Requests are slower beside it, and answered."""
        one(server, "/spin")
        try:
            assert [one(server, "/small")["result"] for _ in range(20)] == [99] * 20
        finally:
            one(server, "/end_spinning")


@pytest.mark.nasty
class TestBesideSuspendedRequests:
    @pytest.fixture
    def server(self, suspending, serve_engine, counter):
        return serve_engine("contract_threads", env=counter.env)

    def results(self, server, path):
        answers = all_at_once(server, path)
        check_switches(server, answers)
        return [each["result"] for each in answers]

    def test_a_pool_and_a_descriptor(self, server):
        for n, found in enumerate(self.results(server, "/pool_and_descriptor")):
            assert found == [sorted([n, k], reverse=True) for k in range(2 + n % 3)]

    def test_queues(self, server):
        for n, found in enumerate(self.results(server, "/queues")):
            assert found == [2 * (k + n) for k in range(5)]

    def test_calls_of_the_api_are_refused(self, server):
        for found in self.results(server, "/refused"):
            check_refused(found)

    def test_c_code_calls_back(self, server):
        assert self.results(server, "/c_sort") == [[True]] * 8

    def test_identity(self, server):
        assert len(set(self.results(server, "/identity"))) == 1

    def test_a_thread_that_never_waits(self, server):
        one(server, "/spin")
        # Its line comes after its answer, and is none of those that are counted.
        server.wait_requests(1)
        server.begin()
        try:
            assert self.results(server, "/switching") == list(range(8))
        finally:
            one(server, "/end_spinning")
