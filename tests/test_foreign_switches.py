"""Applications that reach for the greenlets of requests: one may fail, the others may not."""

from __future__ import annotations

import pytest

pytest.importorskip("greenlet", reason="the engine of these tests: pip install greenlet")

GREENLET = ("--async", "2", "--greenlet")


def test_one_that_was_given_up_does_not_touch_the_next_request_of_its_core(fresh):
    server = fresh(
        "foreign_switches",
        *GREENLET,
        "--request-timeout",
        "/stubborn=100ms",
        "--request-timeout",
        "/wake=500ms",
    )
    assert server.get("/stubborn").status == 504
    assert server.get("/told").body == b"8"
    client = server.http()
    client.send_request("GET", "/stands")
    client.read_head()
    assert client.read_chunk() == b"one "
    assert server.get("/wake").status == 504
    assert [client.read_chunk() for _ in range(3)] == [b"two ", b"three", b""]
    lines = {line.uri: line for line in server.wait_requests(4)}
    assert lines["/stands"].core == lines["/stubborn"].core, "the test proves nothing otherwise"


@pytest.mark.parametrize("number", range(1, 10))
def test_a_trace_function_that_raises_loses_no_request(fresh, number):
    """At the start of a request on a new or a used greenlet, at its suspension, at its end."""
    server = fresh("foreign_switches", *GREENLET, allow=["Traceback", "Error"])
    assert server.get(f"/trace?{number}").status == 200
    statuses = [server.get("/sleep").status for _ in range(4)]
    assert set(statuses) <= {200, 500}
    assert statuses.count(500) <= 1
    assert server.get("/sleep").status == 200
