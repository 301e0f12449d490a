"""gevent's own functions, on the greenlets of requests and beside them."""

from __future__ import annotations

import signal

import pytest

from tests.harness.asking import ask, begin, notes_of
from tests.harness.look_around import refused
from tests.harness.waiting import until

PATCHED = "--gevent-monkey-patch"
FAILED = ["^Traceback", "^ValueError: invalid literal", "failed with ValueError$"]
"""gevent's report of what has failed in a greenlet, or in a thread of its pool."""


@pytest.fixture
def server(serve_gevent):
    return serve_gevent("gevent_greenlets")


def test_log_names_the_loop(fresh_gevent, loop):
    server = fresh_gevent("gevent_greenlets")
    name = "libuv" if loop else "libev"
    server.begin()
    server.mark = 0
    server.wait_for_log(rf"^\*\*\* running gevent loop engine \(gevent [\d.]+, gevent\.{name}\.")


def test_a_request_is_a_greenlet_of_gevents(server):
    assert ask(server, "/own") == {
        "greenlet": True,
        "below the hub": True,
        "started": True,
        "dead": False,
        "thread": True,
    }


def test_as_many_requests_wait_as_there_are_cores(server):
    clients = [begin(server, there=there) for there in range(1, 8)]
    ask(server, "/go")
    assert {client.read_response().body for client in clients} == {b'"went on"'}

    def cores():
        return [line.core for line in server.log_requests() if line.uri == "/wait"]

    until(lambda: len(cores()) == 7, "their lines in the log")
    assert len(set(cores())) == 7


def test_streams_of_many_requests_are_not_mixed_up(server):
    """Each goes on outside of a turn of the worker's, where it yields without a suspension."""
    clients = {f"n{n}": server.http() for n in range(8)}
    for _ in range(5):
        for name, client in clients.items():
            client.send_request(target=f"/stream?name={name}")
        for name, client in clients.items():
            body = client.read_response().body.decode()
            assert body.splitlines() == [f"{name} {n}" for n in range(3)]


def test_waiting_for_other_greenlets(serve_gevent):
    server = serve_gevent("gevent_greenlets", allow=FAILED)
    assert ask(server, "/joins") == {
        "ready": [True, True, True],
        "pool": [0, 1, 4, 9, 16],
        "mail": "mail",
        "context": None,
        "failed": "ValueError",
    }


def test_timeouts(server):
    assert ask(server, "/timeout") == "timed out"


def test_a_timeout_that_nobody_catches_ends_its_own_request(serve_gevent):
    server = serve_gevent("gevent_greenlets", allow=["^Traceback", r"^gevent\.timeout\.Timeout"])
    waiter = begin(server)
    assert server.get("/timeout_uncaught").status == 500
    server.wait_for_log(r"^gevent\.timeout\.Timeout: 0\.01 seconds$")
    ask(server, "/go")
    assert waiter.read_response().json() == "went on"


def test_killing_a_request(serve_gevent):
    server = serve_gevent("gevent_greenlets", allow=["^Traceback", "GreenletExit"])
    victim = begin(server)
    assert ask(server, "/kill") == {"dead": True, "value": "None", "ok": True}
    assert victim.read_response().status == 500
    assert notes_of(server, 1) == ["GreenletExit"]
    assert ask(server, "/kill_caught") == "caught"
    assert ask(server, "/waiting") == 0


def test_throwing_into_a_request(serve_gevent):
    server = serve_gevent("gevent_greenlets", allow=["^Traceback", r"^gevent\.timeout\.Timeout"])
    victim = begin(server)
    assert ask(server, "/throw") == "thrown"
    assert victim.read_response().status == 500
    assert notes_of(server, 1) == ["Timeout"]


def test_linking_and_joining_a_request(server):
    assert ask(server, "/links") == "ends"
    notes = notes_of(server, 3)
    assert notes[0] == "ends", "before anybody hears of it"
    assert sorted(notes[1:]) == [["join", True, "None"], ["link", True, True]]


def test_uwsgis_own_waits(server):
    assert ask(server, "/api") == [True, -1]
    assert ask(server, "/registered_before") == [-1, True]
    assert ask(server, "/background_api") == "RuntimeError"


@pytest.mark.parametrize("how", ["exit", "interrupt", "error"])
def test_a_greenlet_that_ends_badly_ends_nobody_elses_request(serve_gevent, how):
    name = {"exit": "SystemExit", "interrupt": "KeyboardInterrupt", "error": "ValueError"}[how]
    server = serve_gevent("gevent_greenlets", allow=["Traceback", name, "exception in a signal"])
    before = server.worker()
    waiter = begin(server)
    for _ in range(3):
        assert ask(server, f"/ends_badly?how={how}") == "goes on"
    ask(server, "/go")
    assert waiter.read_response().json() == "went on"
    assert server.worker() == before
    if how != "exit":
        # gevent says nothing of a SystemExit.
        assert server.wait_for_log(rf"^{name}: on purpose: {how}$")


def test_a_greenlet_outlives_its_request(serve_gevent, gate):
    server = serve_gevent("gevent_greenlets", env=gate.env)
    assert ask(server, "/background") == "left behind"
    server.wait_requests(1)
    assert ask(server, "/notes") == ["begun"]
    gate.release()
    assert notes_of(server, 1) == ["over"]


@pytest.mark.parametrize("waits", [False, True])
def test_what_a_stop_does_to_greenlets_that_belong_to_no_request(fresh_gevent, gate, waits):
    options = ["--gevent-wait-for-hub"] if waits else []
    server = fresh_gevent("gevent_greenlets", *options, env=gate.env)
    assert ask(server, "/background") == "left behind"
    server.signal(signal.SIGTERM)
    if waits:
        until(lambda: refused(server.http_address), "it accepts nobody any more")
        assert server.process.poll() is None
        gate.release()
    assert server.wait_exit() == 0
    assert server.count_log("background is over") == int(waits)


def test_a_greenlet_that_does_not_end_is_waited_for_as_long_as_mercy_lets(fresh_gevent, gate):
    server = fresh_gevent(
        *["gevent_greenlets", "--gevent-wait-for-hub", "--worker-reload-mercy", "1"], env=gate.env
    )
    assert ask(server, "/background") == "left behind"
    server.signal(signal.SIGTERM)
    assert server.wait_exit() == 0
    assert server.count_log("background is over") == 0


@pytest.mark.parametrize("cores", [1, 8])
def test_what_is_a_requests_own_is_found_by_no_other(serve_gevent, cores):
    server = serve_gevent("gevent_greenlets", PATCHED, cores=cores)
    nothing = {"found": [None] * 5, "kept": True}
    client = server.http()
    for number in range(30):
        child = "&child=1" if number % 3 else ""
        assert client.get(f"/left?value=v{number}{child}").json() == nothing
    others = [server.http() for _ in range(cores)]
    for round in range(5):
        for number, other in enumerate(others):
            other.send_request(target=f"/left?value=r{round}n{number}&child=1")
        assert [other.read_response().json() for other in others] == [nothing] * cores


@pytest.mark.parametrize("options", [(), (PATCHED,)], ids=["unpatched", "patched"])
def test_threads_of_the_application(serve_gevent, options):
    server = serve_gevent("gevent_greenlets", *options, allow=FAILED)
    waiter = begin(server)
    for _ in range(3):
        assert ask(server, "/threads") == {
            "native": True,
            "pool": True,
            "threading": "a greenlet" if options else "a thread",
            "error": "arrives",
        }
    ask(server, "/go")
    assert waiter.read_response().json() == "went on"


def test_subprocesses_beside_handlers_of_posix_signals(serve_gevent):
    server = serve_gevent("gevent_greenlets", PATCHED)
    for _ in range(3):
        answer = ask(server, "/subprocesses")
        assert answer == [3, "got mail\n", [0, 1, 2, 3, 4], 1]


def test_waiting_for_a_child_holds_up_nobody(serve_gevent):
    server = serve_gevent("gevent_greenlets", PATCHED)
    waiter = begin(server, "/child_waits")
    assert ask(server, "/end_child") == "closed"
    assert waiter.read_response().json() == 0


def test_a_patched_lock_lets_one_after_the_other_in(serve_gevent):
    server = serve_gevent("gevent_greenlets", PATCHED)
    clients = [begin(server, "/locked")]
    for _ in range(2):
        clients.append(server.http())
        clients[-1].send_request(target="/locked")
    for client in clients:
        until(lambda: ask(server, "/waiting") == 1, "the next one has the lock")
        ask(server, "/go")
        assert client.read_response().json() == "went on"


def test_logging_from_requests(server):
    assert ask(server, "/logs?text=one") == "logged"
    server.wait_for_log("^WARNING app from a request: one$")
    server.wait_for_log("^WARNING app from its greenlet: one$")
    server.wait_for_log("^printed: one$")


def test_a_deadline_is_an_exception_in_gevents_waits(serve_gevent):
    server = serve_gevent("gevent_greenlets", "--request-timeout", "/wait=200ms")
    client = server.http()
    client.send_request(target="/wait")
    assert client.read_response().status == 504
    assert notes_of(server, 1) == ["Cancelled deadline"]
    assert ask(server, "/hello") == "hello"
    assert server.wait_requests(1)[0].cancelled == "deadline"


@pytest.mark.parametrize("target", ["/wait", "/interrupted"])
def test_a_client_that_leaves_is_an_exception_in_gevents_waits(server, target):
    client = begin(server, target)
    client.reset()
    assert notes_of(server, 1) == ["Cancelled client gone"]
    assert ask(server, "/waiting") == 0


def test_a_request_that_is_told_to_end_takes_its_greenlets_along(server):
    client = begin(server, "/family")
    client.reset()
    assert notes_of(server, 1) == ["its greenlet: GreenletExit"]
