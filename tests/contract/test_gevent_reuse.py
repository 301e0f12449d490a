"""Greenlets of requests serve others if nobody can tell, and otherwise end like any greenlet."""

from __future__ import annotations

import pytest

from tests.contract.overlap import one
from tests.harness.waiting import until

pytestmark = pytest.mark.engines("gevent")


@pytest.fixture
def server(fresh_engine):
    return fresh_engine("contract_gevent_reuse", cores=1)


def results(server, path, count=5):
    return [one(server, path)["result"] for _ in range(count)]


@pytest.mark.parametrize("path", ["/nothing", "/sleeps", "/suspends", "/fails_inside"])
def test_one_greenlet_serves_all(server, path):
    first = one(server, "/nothing")["result"]
    assert results(server, path) == [first] * 5


def test_one_that_is_kept_ends(server):
    before = one(server, "/nothing")["result"]
    results(server, "/is_kept")
    assert one(server, "/what_is_kept")["result"] == [[True, True, None]] * 5
    assert one(server, "/joins_the_kept")["result"] == 5
    assert one(server, "/nothing")["result"] == before + 5


def test_who_is_linked_to_it_hears_of_its_end(server):
    results(server, "/is_linked")
    until(lambda: one(server, "/what_has_ended")["result"] == [None] * 5, "all are heard of")


@pytest.mark.parametrize(("path", "expected"), [("/has_an_attribute", None), ("/has_locals", {})])
def test_what_is_left_on_it_is_gone(server, path, expected):
    assert results(server, path) == [expected] * 5
