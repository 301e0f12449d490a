"""Clients that leave at every stage: the core is free, what was begun ends once and quietly."""

from __future__ import annotations

import random
import time

import pytest

from tests.harness import procs
from tests.harness.waiting import until

FULL = r"\[DANGER\] async queue is full !!!$"
# A departure is noticed within a second; the rest is for a loaded machine.
NOTICED_S = 5.0

YIELDING = ["yield_wait", "yield_sleep"]
SUSPENDING = ["suspend_wait", "suspend_sleep"]
# These give way and come back at once: only a reset says that their client is gone, not a FIN.
BUSY_YIELDING = ["yield_again_and_again"]
BUSY_SUSPENDING = ["suspend_again_and_again"]
STALLED = ["yield_stalled"]
STALLED_SUSPENDING = ["write_stalled", "send_stalled"]

HEAD = b"POST /hello HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n"
INCOMPLETE = {
    "in the head": b"GET /hello HTTP/1.1\r\nHost: a\r\nX-",
    "before the body": HEAD,
    "in the body": HEAD + b"x" * 50_000,
    "in a chunk": b"POST /hello HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
}


@pytest.fixture
def start(serve_engine, gate):
    def started(*options, cores=1, **how):
        how.setdefault("allow", [FULL])
        return serve_engine("contract_departures", *options, cores=cores, env=gate.env, **how)

    return started


def begun(server, kind, name, stage="mid", **how):
    """A client whose request is in the application, and waits there."""
    client = server.http(**how)
    client.send_request(target=f"/{kind}?name={name}&stage={stage}")
    server.wait_for_log(f"^{name} began$")
    if stage == "mid":
        client.head = client.read_head()
        assert client.read_chunk() == b"part\n"
    return client


def has_ended(server, name, by):
    """Everything was ended in order, once; nothing is said about it but the request line."""
    server.wait_for_log(f"^{name} finally$", NOTICED_S)
    line = line_of(server, name)
    said = [text for text in server.log_lines() if text.startswith(f"{name} ")]
    # A generator is left by its close(), suspended code before its iterable is closed.
    expected = [f"{name} left by {by}", f"{name} finally"]
    if by == "GeneratorExit":
        expected.insert(0, f"{name} closed")
    else:
        expected.append(f"{name} closed")
    assert said == [f"{name} began", *expected]
    assert line.cancelled == "client gone"
    assert not line.abandoned
    return line


def line_of(server, name):
    def found():
        return [r for r in server.log_requests() if f"name={name}&" in r.uri]

    (line,) = until(found, f"the request line of {name}")
    return line


class TestBeforeTheRequest:
    @pytest.mark.parametrize("ending", ["close", "reset"])
    @pytest.mark.parametrize("options", [(), ("--post-buffering", "4096")], ids=["", "spooled"])
    @pytest.mark.parametrize("stage", INCOMPLETE)
    def test_nothing_begins(self, start, stage, options, ending):
        server = start(*options)
        opened = len(procs.open_files(server.worker()))
        for _ in range(10):
            client = server.http()
            client.send(INCOMPLETE[stage])
            # The same connection order for the next one: it is served, so this one was read.
            assert server.get("/hello").body == b"hello\n"
            getattr(client, ending)()
        until(lambda: len(procs.open_files(server.worker())) <= opened, "descriptors are closed")
        assert server.get("/hello").body == b"hello\n"
        assert len(server.wait_requests(11)) == 11

    def test_parked_behind_full_cores(self, fresh_engine, gate):
        """Whoever leaves while it waits for a core is never heard of by the application."""
        # Of its own: an earlier one's line would hold back this one's.
        server = fresh_engine("contract_departures", cores=2, env=gate.env, allow=[FULL])
        held = [begun(server, "yield_gate", name) for name in ("one", "two")]
        opened = len(procs.open_files(server.worker()))
        parked = [server.http() for _ in range(10)]
        for number, client in enumerate(parked):
            client.send_request(target=f"/yield_sleep?name=parked{number}&stage=mid")
        server.wait_for_log(FULL)
        for client in parked:
            client.reset()
        until(lambda: len(procs.open_files(server.worker())) <= opened, "descriptors are closed")
        gate.release(2)
        for client in held:
            assert client.read_body(client.head).body == b"end\n"
        assert server.get("/hello").body == b"hello\n"
        assert server.count_log(r"^parked\d+ began") == 0


class TestWhileItWaits:
    @pytest.mark.parametrize("ending", ["close", "reset"])
    @pytest.mark.parametrize("kind", YIELDING)
    def test_yielding_in_mid_response(self, start, kind, ending):
        server = start()
        for name in ("one", "two"):
            client = begun(server, kind, f"{kind}_{ending}_{name}")
            getattr(client, ending)()
            assert has_ended(server, f"{kind}_{ending}_{name}", "GeneratorExit").switches == 2
            assert server.get("/hello").body == b"hello\n"

    @pytest.mark.parametrize("ending", ["close", "reset"])
    @pytest.mark.parametrize("kind", SUSPENDING)
    def test_suspended_in_mid_response(self, suspending, start, kind, ending):
        server = start()
        for name in ("one", "two"):
            client = begun(server, kind, f"{kind}_{ending}_{name}")
            getattr(client, ending)()
            assert has_ended(server, f"{kind}_{ending}_{name}", "Cancelled").switches == 2
            assert server.get("/hello").body == b"hello\n"

    @pytest.mark.parametrize("stage", ["before", "mid"])
    @pytest.mark.parametrize("kind", YIELDING + BUSY_YIELDING)
    def test_yielding_and_reset(self, start, kind, stage):
        server = start()
        name = f"{kind}_{stage}"
        begun(server, kind, name, stage).reset()
        line = has_ended(server, name, "GeneratorExit")
        if kind in YIELDING:
            assert line.switches == (2 if stage == "mid" else 1)
        assert server.get("/hello").body == b"hello\n"

    @pytest.mark.parametrize("stage", ["before", "mid"])
    @pytest.mark.parametrize("kind", SUSPENDING + BUSY_SUSPENDING)
    def test_suspended_and_reset(self, suspending, start, kind, stage):
        server = start()
        name = f"{kind}_{stage}"
        begun(server, kind, name, stage).reset()
        line = has_ended(server, name, "Cancelled")
        if kind in SUSPENDING:
            assert line.switches == (2 if stage == "mid" else 1)
        assert server.get("/hello").body == b"hello\n"

    @pytest.mark.parametrize("kind", YIELDING)
    def test_closed_before_the_head_yielding(self, start, kind):
        server = start()
        begun(server, kind, f"{kind}_fin", "before").close()
        line = has_ended(server, f"{kind}_fin", "GeneratorExit")
        assert (line.status, line.switches) == (499, 1)
        assert server.get("/hello").body == b"hello\n"

    @pytest.mark.parametrize("kind", SUSPENDING + BUSY_SUSPENDING)
    def test_closed_before_the_head(self, suspending, start, kind):
        server = start()
        begun(server, kind, f"{kind}_fin", "before").close()
        line = has_ended(server, f"{kind}_fin", "Cancelled")
        assert line.status == 499
        assert line.switches == 1 or kind in BUSY_SUSPENDING
        assert server.get("/hello").body == b"hello\n"

    def test_a_half_closed_client_gets_what_it_waits_for_yielding(self, start, gate):
        """With `--half-close` a FIN only says that no other request follows."""
        self.is_answered(start("--half-close", cores=2), gate, "yield_gate")

    def test_a_half_closed_client_gets_what_it_waits_for(self, suspending, start, gate):
        self.is_answered(start("--half-close", cores=2), gate, "suspend_gate")

    def is_answered(self, server, gate, kind):
        client = begun(server, kind, kind, "before")
        client.half_close()
        # Longer than such a client has without the option; others are served meanwhile.
        end = time.monotonic() + 1
        while time.monotonic() < end:
            assert server.get("/hello").body == b"hello\n"
        gate.release()
        assert client.read_response().body == b"end\n"
        line = line_of(server, kind)
        assert line.cancelled is None
        assert server.count_log(f"^{kind} closed$") == 1

    def test_what_was_pipelined_behind_it_never_begins(self, start):
        server = start()
        client = begun(server, "yield_sleep", "first")
        client.send_request(target="/yield_sleep?name=second&stage=mid")
        assert server.count_log("^second began$") == 0
        client.reset()
        has_ended(server, "first", "GeneratorExit")
        assert server.get("/hello").body == b"hello\n"
        assert server.count_log("^second began$") == 0


class TestWhileOutputIsStalled:
    @pytest.mark.parametrize("ending", ["close", "reset"])
    @pytest.mark.parametrize("kind", STALLED)
    def test_yielding(self, start, kind, ending):
        server = start()
        self.leaves(server, kind, ending, "GeneratorExit")

    @pytest.mark.parametrize("ending", ["close", "reset"])
    @pytest.mark.parametrize("kind", STALLED_SUSPENDING)
    def test_suspended(self, suspending, start, kind, ending):
        server = start()
        self.leaves(server, kind, ending, "Cancelled")

    def leaves(self, server, kind, ending, by):
        for number in range(3):
            name = f"{kind}_{ending}_{number}"
            client = begun(server, kind, name, receive_buffer=4096)
            # Others are not parked any more once this one stands still.
            self.stands_still(server)
            getattr(client, ending)()
            has_ended(server, name, by)
        assert server.get("/hello").body == b"hello\n"

    def stands_still(self, server):
        """No CPU is used over some looks: the kernel takes no more."""
        found = []

        def same():
            found.append(procs.cpu_ticks(server.worker()))
            return len(found) > 20 and len(set(found[-20:])) == 1

        until(same, "the worker stands still")


@pytest.mark.parametrize("ending", ["close", "reset"])
def test_all_leave_at_once(engine, start, ending):
    """In another order than they came; every one is ended, once."""
    server = start(cores=40)
    kinds = YIELDING + (SUSPENDING if engine.suspends else [])
    clients = [
        (f"n{number}_{ending}", kind, begun(server, kind, f"n{number}_{ending}"))
        for number, kind in enumerate(kinds * (40 // len(kinds)))
    ]
    random.Random(7).shuffle(clients)
    for _, _, client in clients:
        getattr(client, ending)()
    for name, kind, _ in clients:
        has_ended(server, name, "Cancelled" if kind in SUSPENDING else "GeneratorExit")
    assert server.get("/hello").body == b"hello\n"
    assert {line.core for line in server.log_requests() if "name=" in line.uri} == set(range(40))
