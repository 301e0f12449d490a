"""What asyncio promises, on the greenlets of requests and beside them, on each loop."""

from __future__ import annotations

import signal
import sys

import pytest

from tests.harness.asking import ask, begin, notes_of, send

CLASSES = {
    "asyncio": "asyncio.unix_events._UnixSelectorEventLoop",
    "uvloop": "uvloop.Loop",
    "tornado": "asyncio.unix_events._UnixSelectorEventLoop",
}
CHILD_THAT_CAME_BACK = 70
SHOWN = {"asyncio": r"asyncio of Python 3\.", "uvloop": r"uvloop \d", "tornado": r"Tornado \d"}


@pytest.fixture
def server(serve_loop):
    return serve_loop("asyncio_requests")


def test_log_names_the_loop(fresh_loop, loop):
    server = fresh_loop("asyncio_requests")
    server.begin()
    server.mark = 0
    server.wait_for_log(rf"^\*\*\* running {loop} loop engine \({SHOWN[loop]}")


def test_the_loop_in_a_request(server, loop):
    assert ask(server, "/own") == {
        "same loop": True,
        "class": CLASSES[loop],
        "runs": True,
        "below the first greenlet": True,
        "task": True,
        "name": loop,
    }


def test_as_many_requests_wait_as_there_are_cores(server):
    clients = [begin(server, there=n) for n in range(1, 8)]
    assert ask(server, "/go") == "gone"
    assert [client.read_response().json() for client in clients] == ["went on"] * 7


def test_outcomes(server):
    assert ask(server, "/outcomes") == [
        1,
        [2, 3],
        4,
        "'on purpose'",
        "greenloom.aio.wait(): not done after 0.02 s",
        5,
        "TypeError",
    ]
    assert notes_of(server, 1) == ["the coroutine: CancelledError"]


def test_where_nobody_could_wait(server):
    assert (
        ask(server, "/refused")
        == ["greenloom.aio.wait() must be called on the greenlet of a request"] * 3
    )


def test_eager_tasks(server):
    refused = "greenloom.aio.wait() must be called on the greenlet of a request"
    expected = ["waited", refused] if sys.version_info >= (3, 12) else None
    assert ask(server, "/eager") == expected


def test_threads(server):
    assert ask(server, "/threads") == [True, "from a thread"]


def test_children(fresh_loop, loop):
    server = fresh_loop("asyncio_requests")
    assert ask(server, "/subprocesses") == "child"
    if loop == "uvloop":
        # It opens /dev/null for the first child and keeps it.
        server.baseline = {}


def test_a_child_that_a_callback_leaves_behind_is_no_worker(fresh_loop):
    server = fresh_loop("asyncio_requests", allow=["has come back into the server"])
    assert ask(server, "/fork_in_callback") == CHILD_THAT_CAME_BACK
    assert ask(server, "/hello") == "hello"


def test_no_other_loop_runs_in_a_request(server):
    assert ask(server, "/other_loop") == [
        "asyncio.run() cannot be called from a running event loop",
        "Cannot run the event loop while another loop is running",
    ]


def test_a_coroutine_that_switches_stays_the_current_task(server):
    assert ask(server, "/current_task") == [[True, True], "other", True]


def test_a_stray_switch_of_an_earlier_request(server):
    assert ask(server, "/keep_a_switch") == "ended"
    assert ask(server, "/undisturbed") is True
    assert notes_of(server, 1) == ["stray"]
    assert ask(server, "/switched_into") == [True, "stayed"]


def test_uwsgis_own_waits(server):
    assert ask(server, "/api") == [True, "callback", -1]


def test_context_variables(server):
    for value in ("one", "two"):
        assert ask(server, f"/context?value={value}") == [None, value, value]


def test_streams_of_many_requests_are_not_mixed_up(server):
    clients = [send(server, f"/stream?parts=20&name=client{n}-") for n in range(8)]
    for n, client in enumerate(clients):
        expected = "".join(f"client{n}-{part}\n" for part in range(20))
        assert client.read_response().body.decode() == expected


@pytest.mark.parametrize("how", ["exit", "interrupt", "error"])
def test_what_ends_badly_ends_nobody_elses_request(fresh_loop, how):
    allow = [
        "^Traceback",
        "raise error$",
        r"^(SystemExit|KeyboardInterrupt|ValueError): on purpose",
        "belongs to no",
    ]
    server = fresh_loop("asyncio_requests", allow=[*allow, "^Exception in callback", "^handle: "])
    client = begin(server)
    assert ask(server, f"/bad_callback?how={how}") == "begun"
    assert ask(server, "/hello") == "hello"
    assert ask(server, "/go") == "gone"
    assert client.read_response().json() == "went on"
    server.wait_for_log(r"(SystemExit|KeyboardInterrupt|ValueError): on purpose")


def test_a_stopped_loop_goes_on(server):
    client = begin(server)
    assert ask(server, "/stop_loop") == "stopped"
    assert ask(server, "/go") == "gone"
    assert client.read_response().json() == "went on"


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("/wait", ["Cancelled client gone", "the coroutine: CancelledError"]),
        ("/switch_away", ["Cancelled client gone"]),
    ],
)
def test_a_client_that_leaves(server, target, expected):
    client = begin(server, target)
    client.reset()
    assert notes_of(server, len(expected)) == expected
    assert ask(server, "/waiting") == 0


def test_a_deadline(serve_loop):
    server = serve_loop("asyncio_requests", "--request-timeout", "/wait=200ms")
    client = send(server, "/wait")
    assert client.read_response().status == 504
    assert notes_of(server, 2) == ["Cancelled deadline", "the coroutine: CancelledError"]


def test_what_is_left_ends_in_order_with_the_worker(fresh_loop):
    server = fresh_loop("asyncio_requests")
    assert ask(server, "/leave_behind") == 1
    server.signal(signal.SIGTERM)
    assert server.wait_exit() == 0
    assert server.count_log("^the task ends in order") == 1
    assert server.count_log("^the generator ends in order") == 1


def test_a_loop_is_there_while_an_application_is_loaded_without_a_fork(fresh_loop):
    server = fresh_loop("asyncio_at_load", "--lazy-apps")
    assert ask(server, "/") is True


def test_an_application_that_closes_it_gets_another_one(fresh_loop):
    server = fresh_loop("asyncio_at_load", "--lazy-apps", env={"CLOSES": "1"})
    assert ask(server, "/") is False
    assert ask(server, "/wait") == "waited"


def test_without_a_loop(serve):
    server = serve("asyncio_at_load", "--async", "4", "--greenlet")
    assert "needs --asyncio or --tornado" in ask(server, "/wait")
