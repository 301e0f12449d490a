"""Applications that use greenlets themselves: on top of a request, and between requests."""

from __future__ import annotations

import pytest

from tests.contract.overlap import all_at_once, check_switches, one
from tests.harness.waiting import until


@pytest.fixture
def server(suspending, serve_engine):
    return serve_engine("contract_greenlets")


def send(server, target):
    client = server.http()
    client.send_request(target=target)
    return client


def answer(client):
    response = client.read_response()
    assert response.status == 200
    return response.json()["result"]


def kept(server, name):
    """Waits until this request can be switched to."""
    until(lambda: name in one(server, "/here")["result"], f"{name} is there")


@pytest.mark.nasty
class TestOnTopOfARequest:
    def test_between_and_across_suspensions(self, server):
        answers = all_at_once(server, "/own")
        check_switches(server, answers)
        for n, each in enumerate(answers):
            expected = [n]
            for k in range(2 + n % 4):
                expected += [k + n, k * 2, k * n]
            assert each["result"] == [*expected, "ended"]

    def test_exceptions(self, server):
        answers = all_at_once(server, "/own_exceptions")
        check_switches(server, answers)
        assert [each["result"] for each in answers] == [[n] * 3 for n in range(8)]

    def test_suspend_is_refused_there(self, server):
        answers = all_at_once(server, "/suspend_in_own")
        check_switches(server, answers)
        for each in answers:
            assert len(each["result"]) == 4
            for text in each["result"]:
                assert "uwsgi.suspend()" in text
                assert "greenlet" in text

    def test_left_alone(self, server):
        answers = all_at_once(server, "/left_alone")
        check_switches(server, answers)
        assert [each["result"] for each in answers] == [[n] * 3 for n in range(8)]


@pytest.mark.nasty
@pytest.mark.engines("greenlet")
class TestBetweenRequests:
    """Requests are greenlets, and the application may treat them as such."""

    def test_each_request_has_its_own(self, server):
        answers = all_at_once(server, "/distinct")
        check_switches(server, answers)
        assert [each["result"] for each in answers] == [[8, 1, True]] * 8

    def test_to_the_server_with_a_descriptor(self, server):
        answers = all_at_once(server, "/to_the_server_for_a_descriptor")
        check_switches(server, answers)
        assert [each["result"] for each in answers] == [[True, -1]] * 8

    def test_to_the_server_with_a_time(self, server):
        answers = all_at_once(server, "/to_the_server_for_a_time")
        check_switches(server, answers)
        assert [each["result"] for each in answers] == [-1] * 8

    def test_into_one_that_waits_for_nothing(self, server):
        """It goes on and ends; the one that has switched comes back by its own wait."""
        for _ in range(3):
            away = send(server, "/stay_away?name=a")
            kept(server, "a")
            switching = send(server, "/switch_into?name=a")
            assert answer(away) == "from another request"
            assert answer(switching) == ["()", -1]

    def test_into_one_that_waits(self, server):
        """It is not its wait that has ended, so it waits on."""
        for _ in range(3):
            waiting = send(server, "/stay_suspended?name=a")
            kept(server, "a")
            assert answer(send(server, "/switch_into?name=a")) == ["()", -1]
            assert answer(send(server, "/switch_into?name=a")) == ["()", -1]
            one(server, "/poke", name="a")
            assert answer(waiting) == "ready"

    def test_into_an_ended_one(self, server):
        """Neither it nor the next request of its core is woken."""
        one(server, "/end_and_be_kept", name="old")
        waiting = send(server, "/stay_suspended?name=new")
        kept(server, "new")
        assert answer(send(server, "/switch_into_the_ended?name=old")) == [True, -1]
        one(server, "/poke", name="new")
        assert answer(waiting) == "ready"

        def cores():
            uris = ("/end", "/stay")
            return [r.core for r in server.log_requests() if r.uri.startswith(uris)]

        until(lambda: len(cores()) == 2, "the lines of both")
        assert len(set(cores())) == 1, "the new one was to have the core of the old one"

    def test_an_exception_into_one_that_waits(self, server):
        """Its wait is over by that, and nothing of it disturbs the next."""
        for _ in range(3):
            waiting = send(server, "/stay_suspended?name=a")
            kept(server, "a")
            assert answer(send(server, "/throw_into?name=a&kind=ValueError")) == -1
            assert answer(waiting) == "thrown -1"

    def test_the_exit_of_one_that_waits(self, server):
        """GreenletExit ends a request and is nothing to write about."""
        for _ in range(3):
            waiting = send(server, "/stay_suspended?name=a")
            kept(server, "a")
            assert answer(send(server, "/throw_into?name=a&kind=GreenletExit")) == -1
            assert waiting.read_response().status == 500
        assert server.count_log("Traceback") == 0
