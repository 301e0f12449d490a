"""--request-timeout: a request that is late is ended by itself, and nobody else notices."""

from __future__ import annotations

import pytest

from tests.harness.http import Malformed, Truncated
from tests.harness.waiting import until

YIELDING = ["yield_sleep", "yield_wait", "yield_again_and_again", "yield_short_sleeps"]
SUSPENDING = ["suspend_sleep", "suspend_wait", "suspend_again_and_again", "suspend_short_sleeps"]
ONE_SWITCH = {"yield_sleep", "yield_wait", "suspend_sleep", "suspend_wait"}
FULL = r"\[DANGER\] async queue is full !!!$"


@pytest.fixture
def server(serve_engine):
    """Short below /late, none elsewhere."""
    return serve_engine("contract_deadline", "--request-timeout", "/late=0.2", cores=2)


def line_of(server, target):
    (line,) = until(
        lambda: [r for r in server.log_requests() if r.uri == target], f"the line of {target}"
    )
    return line


class TestBeforeTheHead:
    @pytest.mark.parametrize("kind", YIELDING)
    def test_yielding(self, server, kind):
        self.is_504(server, kind)

    @pytest.mark.parametrize("kind", SUSPENDING)
    def test_suspended(self, suspending, server, kind):
        self.is_504(server, kind)

    def is_504(self, server, kind):
        target = f"/late/{kind}?noted=1&name={kind}"
        client = server.http()
        answer = client.get(target)
        assert answer.status == 504
        assert answer.reason == "Gateway Timeout"
        line = line_of(server, target)
        assert (line.status, line.cancelled, line.abandoned) == (504, "deadline", False)
        assert line.msecs >= 200
        if kind in ONE_SWITCH:
            assert line.switches == 1
        assert server.count_log(f"^{kind} closed$") == 1
        # The connection may go on where the answer said so.
        if answer.header("connection") == "close":
            assert client.closed_by_peer()
        else:
            assert client.get("/hello").body == b"hello\n"

    def test_head(self, server):
        client = server.http()
        answer = client.request("HEAD", "/late/yield_sleep")
        assert answer.status == 504
        assert not client.buffer

    def test_over_packets(self, serve_engine):
        server = serve_engine(
            "contract_deadline", "--request-timeout", "/late=0.2", cores=2, uwsgi="127.0.0.1:0"
        )
        assert server.packets().ask(path="/late/yield_sleep").status == 504
        assert server.packets().ask(path="/hello").body == b"hello\n"


class TestAfterTheHead:
    @pytest.mark.parametrize("kind", YIELDING)
    def test_yielding(self, server, kind):
        self.is_cut(server, kind)

    @pytest.mark.parametrize("kind", SUSPENDING)
    def test_suspended(self, suspending, server, kind):
        self.is_cut(server, kind)

    def is_cut(self, server, kind):
        """The client sees that the answer is not complete, and nothing that is not part of it."""
        target = f"/late/{kind}?noted=1&mid=1&name={kind}"
        client = server.http()
        client.send_request(target=target)
        head = client.read_head()
        assert head.status == 200
        assert client.read_chunk() == b"part\n"
        assert client.closed_by_peer()
        line = line_of(server, target)
        assert (line.status, line.cancelled, line.body_bytes) == (200, "deadline", 5)
        if kind in ONE_SWITCH:
            assert line.switches == 2
        assert server.count_log(f"^{kind} closed$") == 1
        assert server.get("/hello").body == b"hello\n"

    def test_stalled_yielding(self, server):
        self.is_cut_while_stalled(server, "yield_stalled")

    def test_stalled_writing(self, suspending, server):
        self.is_cut_while_stalled(server, "write_stalled")

    def is_cut_while_stalled(self, server, kind):
        """A client that does not read holds its core for no longer than others do."""
        target = f"/late/{kind}?noted=1&name={kind}"
        client = server.http(receive_buffer=4096)
        client.send_request(target=target)
        head = client.read_head()
        server.wait_for_log(f"^{kind} closed$")
        line = line_of(server, target)
        assert (line.status, line.cancelled) == (200, "deadline")
        assert server.get("/hello").body == b"hello\n"
        with pytest.raises((Truncated, Malformed, ConnectionResetError)):
            client.read_body(head)


class TestBodies:
    @pytest.fixture
    def server(self, suspending, serve_engine):
        return serve_engine(
            "contract_deadline",
            *("--request-timeout", "/late=0.3", "--body-early", "/late"),
            cores=2,
        )

    def test_one_that_does_not_come(self, server):
        """The application waits for its bytes in the middle of a read."""
        client = server.http()
        client.send(b"POST /late/read_body HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhalf")
        for _ in range(3):
            assert server.get("/hello").body == b"hello\n"
        assert client.read_response().status == 504
        # What else would come is the rest of a body, and no request.
        assert client.closed_by_peer()
        line = line_of(server, "/late/read_body")
        assert (line.status, line.cancelled, line.switches) == (504, "deadline", 1)

    def test_one_that_drips(self, server):
        """Bytes that come now and then are no reason to wait for ever."""
        client = server.http()
        client.send(b"POST /late/read_body HTTP/1.1\r\nHost: a\r\nContent-Length: 9999\r\n\r\n")

        def is_over():
            try:
                client.send(b"x")
            except OSError:
                return True
            return "/late/read_body" in [r.uri for r in server.log_requests()]

        until(is_over, "the request is over")
        line = line_of(server, "/late/read_body")
        assert (line.status, line.cancelled) == (504, "deadline")
        client.close()
        assert server.get("/hello").body == b"hello\n"

    def test_one_that_comes_in_time(self, server):
        assert server.request("POST", "/late/read_body", body=b"x" * 70_000).body == b"70000\n"


class TestRunning:
    def test_a_response_that_is_late_but_whole(self, server):
        """It never gave way, so there was no moment to end it, and now it is an answer."""
        target = "/late/compute?seconds=0.4"
        assert server.get(target).body == b"computed\n"
        line = line_of(server, target)
        assert (line.status, line.cancelled, line.switches) == (200, None, 1)

    def test_it_gives_way_too_late_yielding(self, server):
        target = "/late/compute_then_yield?seconds=0.4"
        assert server.get(target).status == 504
        line = line_of(server, target)
        assert (line.status, line.cancelled) == (504, "deadline")

    def test_it_gives_way_too_late(self, suspending, server):
        target = "/late/compute_then_suspend?seconds=0.4"
        assert server.get(target).status == 504
        line = line_of(server, target)
        assert (line.status, line.cancelled, line.switches) == (504, "deadline", 1)


class TestInTime:
    """Together they take longer than one may, and each by far not as long."""

    @pytest.fixture
    def server(self, serve_engine):
        return serve_engine("contract_deadline", "--request-timeout", "/late=1", cores=2)

    def test_one_after_the_other(self, server):
        """A deadline of an earlier request on the core does not outlive it."""
        for _ in range(5):
            answer = server.get("/late/in_time?name=a&seconds=0.1&times=3")
            assert answer.body.startswith(b"a ")
        lines = server.wait_requests(5)
        assert {(line.status, line.cancelled, line.switches) for line in lines} == {(200, None, 4)}

    def test_requests_of_one_connection_have_their_own(self, server):
        client = server.http()
        for _ in range(5):
            answer = client.get("/late/in_time?name=a&seconds=0.3&times=1")
            assert answer.body.startswith(b"a ")


class TestMounts:
    @pytest.fixture
    def server(self, serve_engine):
        return serve_engine(
            "contract_deadline",
            *("--request-timeout", "30", "--request-timeout", "/short=0.2"),
            *("--request-timeout", "/short/none=0", "--request-timeout", "/short/none/0.3=0.3"),
            cores=4,
        )

    WAIT = "in_time?name=a&seconds=0.5&times=1"

    @pytest.mark.parametrize(
        "path",
        ["/short", "/short/x", "/sh%6frt", "/short/nonesuch", "/short/none/0.3"],
    )
    def test_late(self, server, path):
        assert server.get(f"{path}/{self.WAIT}").status == 504

    @pytest.mark.parametrize("path", ["", "/shorter", "/x/short", "/short/none", "/short/none/x"])
    def test_in_time(self, server, path):
        assert server.get(f"{path}/{self.WAIT}").body.startswith(b"a ")

    def test_the_global_one(self, serve_engine):
        server = serve_engine("contract_deadline", "--request-timeout", "0.5", cores=4)
        assert server.get("/yield_sleep").status == 504
        assert server.get("/hello").body == b"hello\n"


class TestNeighbours:
    def test_ninety_nine_innocents(self, engine, fresh_engine):
        """They overlap with one that is late, and notice nothing."""
        server = fresh_engine("contract_deadline", "--request-timeout", "/late=1", cores=100)
        late = server.http()
        late.send_request(target="/late/yield_sleep?name=late&noted=1")
        clients = [server.http() for _ in range(99)]
        styles = ["in_time", "in_time_suspending"] if engine.suspends else ["in_time"]
        for number, client in enumerate(clients):
            style = styles[number % len(styles)]
            client.send_request(target=f"/{style}?name=n{number}&seconds=0.05&times=30")
        for number, client in enumerate(clients):
            name, worst = client.read_response().body.decode().split()
            assert name == f"n{number}"
            # Not even a small share of the deadline; only a machine that stands still is later.
            assert float(worst) < 1, "kept waiting"
        assert late.read_response().status == 504
        lines = server.wait_requests(100)
        assert [line.uri for line in lines if line.cancelled] == [
            "/late/yield_sleep?name=late&noted=1"
        ]
        assert {line.switches for line in lines if line.status == 200} <= {30, 31}
        assert {line.core for line in lines} == set(range(100))

    def test_ninety_nine_late_and_one_innocent(self, engine, fresh_engine):
        server = fresh_engine("contract_deadline", "--request-timeout", "/late=0.5", cores=100)
        kinds = YIELDING + (SUSPENDING if engine.suspends else [])
        clients = [server.http() for _ in range(99)]
        innocent = server.http()
        for number, client in enumerate(clients):
            client.send_request(target=f"/late/{kinds[number % len(kinds)]}?name=n{number}")
        innocent.send_request(target="/in_time?name=innocent&seconds=0.1&times=10")
        assert [client.read_response().status for client in clients] == [504] * 99
        assert innocent.read_response().body.startswith(b"innocent ")
        lines = server.wait_requests(100)
        assert sum(line.cancelled == "deadline" for line in lines) == 99

    def test_waiting_for_a_core_does_not_count(self, serve_engine):
        """The clock starts with the core, not with the bytes of a request that is parked."""
        server = serve_engine(
            "contract_deadline", "--request-timeout", "/late=0.5", cores=2, allow=[FULL]
        )
        busy = [server.http() for _ in range(2)]
        for client in busy:
            client.send_request(target="/in_time?name=busy&seconds=0.9&times=1")
        parked = [server.http() for _ in range(4)]
        for client in parked:
            client.send_request(target="/late/in_time?name=parked&seconds=0.01&times=1")
        for client in busy + parked:
            assert client.read_response().status == 200


def test_a_long_computation_is_not_at_the_expense_of_the_next(serve_engine):
    """Its time begins when it gets the core, though nobody has looked at a clock since."""
    server = serve_engine(
        "contract_deadline", "--request-timeout", "/late=0.3", cores=1, allow=[FULL]
    )
    clients = [server.http() for _ in range(3)]
    for client, target in zip(
        clients,
        [
            # Both others are parked meanwhile.
            "/in_time?name=first&seconds=0.2&times=1",
            "/compute?seconds=0.6",
            "/late/in_time?name=last&seconds=0.05&times=1",
        ],
        strict=True,
    ):
        client.send_request(target=target)
    assert [client.read_response().status for client in clients] == [200] * 3


def test_off_by_default(serve_engine):
    server = serve_engine("contract_deadline", cores=2)
    answer = server.get("/in_time?name=a&seconds=0.5&times=2")
    assert answer.body.startswith(b"a ")
    (line,) = server.wait_requests(1)
    assert (line.cancelled, line.switches) == (None, 3)
