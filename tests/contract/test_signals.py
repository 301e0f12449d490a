"""Handlers that an application installs with `signal.signal`: where they run, and when."""

from __future__ import annotations

import os
import signal

import pytest

from tests.contract.overlap import LAST_PART, all_at_once, check_switches
from tests.harness.waiting import until

IN_A_REQUEST = "application"
"""The outermost function of every request here."""


@pytest.fixture
def server(serve_engine, counter):
    return serve_engine("contract_signals", env=counter.env)


def result(server, path):
    response = server.get(path)
    assert response.status == 200
    return response.json()["result"]


class TestInARequest:
    def test_while_it_computes(self, server):
        for _ in range(3):
            found = result(server, "/busy")
            assert found["came"]
            assert "spin" in found["in"]
            assert IN_A_REQUEST in found["in"]

    def test_again_and_again(self, server):
        assert result(server, "/busy_again") == [True] * 20

    def test_while_it_sleeps(self, server):
        found = result(server, "/sleeping")
        assert found.pop("in")[0] == "sleeping"
        assert found == {"in time": True, "slept": True}

    def test_an_exception_while_it_computes(self, server):
        for _ in range(3):
            assert result(server, "/busy_failure") == f"alarm {signal.SIGALRM:d} True"

    def test_an_exception_while_it_sleeps(self, server):
        for _ in range(3):
            assert result(server, "/sleeping_failure") == f"alarm {signal.SIGALRM:d} True"


@pytest.mark.nasty
class TestBesideSuspendedRequests:
    """Seven neighbours are suspended; the busy one is the one that is meant."""

    @pytest.fixture
    def server(self, suspending, serve_engine, counter):
        return serve_engine("contract_signals", env=counter.env)

    def first(self, server, path):
        answers = all_at_once(server, path)
        check_switches(server, answers)
        return answers[0]["result"]

    def test_while_it_computes(self, server):
        for _ in range(3):
            found = self.first(server, "/busy")
            assert found["came"]
            assert "spin" in found["in"]
            assert "busy" in found["in"]
            server.begin()

    def test_after_switches(self, server):
        response = server.get("/busy_again?suspend=1").json()
        assert response["result"] == [True] * 20
        assert server.wait_requests(1)[0].switches == 20 + LAST_PART

    def test_while_it_sleeps(self, server):
        found = self.first(server, "/sleeping")
        assert found.pop("in")[0] == "sleeping"
        assert found == {"in time": True, "slept": True}

    def test_an_exception_while_it_computes(self, server):
        assert self.first(server, "/busy_failure") == f"alarm {signal.SIGALRM:d} True"

    def test_an_exception_while_it_sleeps(self, server):
        assert self.first(server, "/sleeping_failure") == f"alarm {signal.SIGALRM:d} True"

    def test_a_handler_that_suspends(self, server):
        for n in range(3):
            answer = server.get(f"/suspended_by_handler?n={n}").json()
            assert answer["result"] == [True, [n]]
            assert answer["suspends"] == 3

    def test_before_it_is_suspended(self, server):
        for _ in range(3):
            assert result(server, "/raise_in_wait") == 1


class TestWhileNobodyAsks:
    """The server waits for sockets; a signal is handled at once all the same."""

    def test_by_another_process(self, server, counter):
        pid = result(server, "/arm?handler=note")
        for number in range(1, 6):
            os.kill(pid, signal.SIGALRM)
            until(lambda number=number: counter.value() == number, f"signal {number} is handled")
        assert len(server.wait_requests(1)) == 1

    def test_by_a_clock(self, server, counter):
        result(server, "/arm?handler=note&seconds=0.05")
        until(lambda: counter.value() == 1, "the signal is handled")

    def test_while_a_request_waits(self, server, counter):
        pid = result(server, "/arm?handler=note")
        client = server.http()
        client.send_request(target="/hold?seconds=0.5")
        head = client.read_head()
        assert client.read_chunk() == b"held\n"
        os.kill(pid, signal.SIGALRM)
        until(lambda: counter.value() == 1, "the signal is handled")
        # Neither ended by it nor disturbed.
        assert client.read_body(head).body == b"ended"

    def test_an_exception_belongs_to_nobody(self, engine, fresh_engine, counter):
        said = "exception in a signal handler"
        if engine.loop in ("asyncio", "uvloop", "tornado"):
            # Such a loop reports what a handler raises while one of its callbacks begins or ends;
            # uvloop, whose callback runs the handlers, always.
            said += "|^Exception in callback"
        allow = ["Traceback", "Alarm", "raise", said]
        server = fresh_engine("contract_signals", env=counter.env, allow=allow)
        pid = result(server, "/arm?handler=fail")
        os.kill(pid, signal.SIGALRM)
        server.wait_for_log(said)
        server.wait_for_log(r"Alarm: ")
        assert result(server, "/busy")["came"]
        assert server.worker() == pid

    def test_no_request_is_there_to_wait(self, server, counter):
        pid = result(server, "/arm?handler=api")
        os.kill(pid, signal.SIGALRM)
        until(lambda: counter.value() == 1, "the signal is handled")
        text = server.wait_for_log("^refused: (.*)$")[1]
        assert "uwsgi.async_sleep()" in text
        assert "request" in text
