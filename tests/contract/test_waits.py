"""Waits for descriptors and time, in both styles: before a yield, and before `uwsgi.suspend()`.

The scripts of the application are the same in both. Where a number of switches is given, it is
that of the yields first and that of the suspensions second.
"""

from __future__ import annotations

import re

import pytest

from tests.harness.waiting import until

NEVER = "-1|None|None "
"""No wait was before this."""
TIMED_OUT = "-1|None|True "


def ready(name):
    return f"{name}|{name}|None "


class Client:
    """A request that has said that it is about to wait."""

    def __init__(self, server, target, style):
        self.http = server.http()
        self.http.send_request(target=f"{target}{'&' if '?' in target else '?'}style={style}")
        self.head = self.http.read_head()
        assert self.http.read_chunk() == b"waiting\n"

    def rest(self):
        return self.http.read_body(self.head).body.decode()


class Waits:
    """Every test of a style."""

    STYLE = ""

    @pytest.fixture
    def server(self, serve_engine):
        return serve_engine("contract_waits")

    def waiting(self, server, target):
        return Client(server, target, self.STYLE)

    def get(self, server, target):
        joint = "&" if "?" in target else "?"
        return server.get(f"{target}{joint}style={self.STYLE}").body.decode()

    def poke(self, server, names):
        assert server.get(f"/poke?name={names}").body == b"poked"

    def check_switches(self, server, path, yields, suspends):
        line = until(
            lambda: next((r for r in server.log_requests() if r.uri.startswith(path)), None),
            f"the request line of {path}",
        )
        assert line.switches == {"yield": yields, "suspend": suspends}[self.STYLE]

    # Descriptors.

    @pytest.mark.parametrize("how", ["", "&fdevent=1", "&timeout=8", "&timeout=7.5&fdevent=1"])
    def test_read(self, server, how):
        client = self.waiting(server, f"/read?name=a{how}")
        self.poke(server, "a")
        assert client.rest() == NEVER + ready("pipe")
        self.check_switches(server, "/read", 4, 1)

    @pytest.mark.parametrize("how", ["", "&fdevent=1"])
    def test_read_times_out(self, server, how):
        client = self.waiting(server, f"/read?name=a&timeout=0.05{how}")
        assert client.rest() == NEVER + TIMED_OUT
        self.check_switches(server, "/read", 4, 1)

    @pytest.mark.parametrize("how", ["", "&fdevent=1"])
    def test_write(self, server, how):
        client = self.waiting(server, f"/write?name=w{how}")
        self.poke(server, "w")
        assert client.rest() == ready("near")
        self.check_switches(server, "/write", 3, 1)

    @pytest.mark.parametrize("how", ["", "&fdevent=1"])
    def test_write_times_out(self, server, how):
        client = self.waiting(server, f"/write?name=w&timeout=0.05{how}")
        assert client.rest() == TIMED_OUT

    @pytest.mark.parametrize("chosen", ["a", "b", "c"])
    def test_several(self, server, chosen):
        client = self.waiting(server, "/several")
        self.poke(server, chosen)
        assert client.rest() == ready(chosen) + TIMED_OUT
        self.check_switches(server, "/several", 5, 2)

    def test_several_at_once(self, server):
        """One of them ends the wait, and says so."""
        client = self.waiting(server, "/several")
        self.poke(server, "a,b,c")
        assert client.rest() in [ready(name) + TIMED_OUT for name in "abc"]

    def test_several_time_out(self, server):
        assert self.waiting(server, "/several?timeout=0.05").rest() == TIMED_OUT + TIMED_OUT

    def test_both_ways_readable_first(self, server):
        assert self.waiting(server, "/both?first=readable").rest() == ready("near")

    def test_both_ways_writable_first(self, server):
        client = self.waiting(server, "/both?first=writable")
        self.poke(server, "writable")
        assert client.rest() == ready("near")
        self.check_switches(server, "/both", 3, 1)

    def test_one_descriptor_in_eight_cores(self, server):
        clients = [self.waiting(server, "/shared?name=s") for _ in range(7)]
        self.poke(server, "s")
        assert [client.rest() for client in clients] == [ready("pipe")] * 7
        assert server.get("/forget?name=s").body == b"forgotten"
        lines = [r for r in server.wait_requests(9) if r.uri.startswith("/shared")]
        assert [r.switches for r in lines] == [{"yield": 3, "suspend": 1}[self.STYLE]] * 7

    def test_one_descriptor_alone_and_among_others(self, server):
        first = self.waiting(server, "/shared?name=a")
        second = self.waiting(server, "/shared?name=a")
        self.poke(server, "a")
        assert [first.rest(), second.rest()] == [ready("pipe")] * 2
        # Nobody's registration is left: the next ones wait for the next poke.
        assert server.get("/forget?name=a").body == b"forgotten"
        third = self.waiting(server, "/read?name=a")
        self.poke(server, "a")
        assert third.rest() == NEVER + ready("pipe")

    def test_in_any_order(self, server):
        names = "abcdefg"
        clients = {name: self.waiting(server, f"/read?name={name}") for name in names}
        for name in "dagbfce":
            self.poke(server, name)
            assert clients[name].rest() == NEVER + ready("pipe")
        lines = [r for r in server.wait_requests(14) if r.uri.startswith("/read")]
        assert len({r.core for r in lines}) == 7

    def test_again_and_again(self, server):
        assert self.get(server, "/again") == "fifty times"
        self.check_switches(server, "/again", 51, 50)

    def test_hang_up(self, server):
        assert self.get(server, "/hang_up") == ready("pipe")

    def test_closed(self, server):
        assert self.get(server, "/closed") == TIMED_OUT

    def test_waiting_blocks_nobody(self, server):
        clients = [self.waiting(server, f"/read?name={name}") for name in "abcdefg"]
        for _ in range(10):
            assert server.get("/hello").body == b"hello"
        self.poke(server, "g,f,e,d,c,b,a")
        assert [client.rest() for client in clients] == [NEVER + ready("pipe")] * 7

    # Time.

    @pytest.mark.parametrize("seconds", ["0.001", "0.05", "0.35", "1.1"])
    def test_fractions(self, server, seconds):
        assert self.get(server, f"/sleep?seconds={seconds}") == TIMED_OUT + "slept"
        self.check_switches(server, "/sleep", 3, 1)

    @pytest.mark.parametrize(
        "deadlines",
        ["0.05,9,9", "9,0.05,9", "9,9,0.05", "9,0.05,0", "0.05,9,0", "0,9,0.05", "0.1,0.05,0.2"],
    )
    def test_earliest_deadline(self, server, deadlines):
        assert self.get(server, f"/earliest?of={deadlines}") == TIMED_OUT + "in time"
        self.check_switches(server, "/earliest", 3, 1)

    def test_a_deadline_goes_with_its_wait(self, server):
        found = self.get(server, "/ready_before_the_deadline")
        assert found == ready("pipe") + "slept"
        self.check_switches(server, "/ready_before_the_deadline", 4, 2)

    def test_order_of_waking(self, server):
        sleepers = {"c": 0.6, "a": 0.1, "d": 0.85, "b": 0.35}
        server.get("/asleep")
        clients = {
            name: self.waiting(server, f"/wake?name={name}&seconds={seconds}")
            for name, seconds in sleepers.items()
        }
        self.poke(server, "start")
        assert {name: client.rest() for name, client in clients.items()} == {
            "a": "a",
            "b": "ab",
            "c": "abc",
            "d": "abcd",
        }
        server.get("/forget?name=start")

    def test_odd_times(self, server):
        assert self.get(server, "/odd_times") == "fine"
        self.check_switches(server, "/odd_times", 10, 9)

    def test_sleepers_sleep_side_by_side(self, serve_engine):
        server = serve_engine("contract_waits", cores=50)
        clients = [server.http() for _ in range(50)]
        for client in clients:
            client.send_request(target=f"/sleep?seconds=0.4&style={self.STYLE}")
        for client in clients:
            assert client.read_response().body.decode() == TIMED_OUT + "slept"
        found = server.wait_requests(50)
        assert {r.core for r in found} == set(range(50))
        assert {r.switches for r in found} == {{"yield": 3, "suspend": 1}[self.STYLE]}

    # Results, and waits that cannot be.

    def test_outcomes(self, server):
        """ready_fd() and both keys of the environ, after each way of coming back."""
        assert self.get(server, "/outcomes") == (
            NEVER + TIMED_OUT + ready("pipe") + NEVER + TIMED_OUT + NEVER
        )
        self.check_switches(server, "/outcomes", 11, 5)

    def test_a_refused_wait_leaves_nothing_behind(self, server):
        for _ in range(3):
            found = self.get(server, "/refused")
            assert found == "6 " + NEVER + "slept " + ready("pipe")
        self.check_switches(server, "/refused", 7, 3)

    def test_many_refused_waits(self, server):
        assert self.get(server, "/refused_in_a_row") == "fine"
        assert self.get(server, "/outcomes").startswith(NEVER + TIMED_OUT + ready("pipe"))


class TestYields(Waits):
    STYLE = "yield"


class TestSuspensions(Waits):
    STYLE = "suspend"

    @pytest.fixture
    def server(self, suspending, serve_engine):
        return serve_engine("contract_waits")

    def test_sleepers_sleep_side_by_side(self, suspending, serve_engine):
        super().test_sleepers_sleep_side_by_side(serve_engine)


class TestBareSuspend:
    """Without a wait: to the end of the run queue."""

    @pytest.fixture
    def server(self, suspending, serve_engine):
        return serve_engine("contract_waits")

    def test_as_the_first_instruction(self, server):
        for _ in range(30):
            assert server.get("/first_thing").body == b"came back"
        assert {line.switches for line in server.wait_requests(30)} == {2}

    def test_in_all_cores_at_once(self, server):
        clients = [server.http() for _ in range(8)]
        for _ in range(5):
            for client in clients:
                client.send_request(target="/first_thing")
            assert [client.read_response().body for client in clients] == [b"came back"] * 8
        found = server.wait_requests(40)
        assert {line.switches for line in found} == {2}
        assert {line.core for line in found} <= set(range(8))

    def test_the_old_name(self, server):
        assert server.get("/old_name").body == b"came back"
        assert server.wait_requests(1)[0].switches == 2

    def test_in_an_iterable(self, server):
        assert server.get("/in_the_iterable").body == b"01234"
        assert server.wait_requests(1)[0].switches == 11

    @pytest.mark.parametrize("where", ["length", "chunked", "hook"])
    def test_after_the_response(self, server, where):
        """The client has all that was for it, and leaves; that is no reason to stop working."""
        for number in (1, 2):
            answer = server.get(f"/after_the_response?{where}")
            assert answer.body == b"part after part"
            line = server.wait_requests(number)[-1]
            assert (line.status, line.switches) == (200, 5)
            assert (line.cancelled, line.abandoned) == (None, False)
            assert server.count_log(f"^{where} has worked to its end$") == number

    def test_three_cores_take_turns(self, server):
        clients = {name: server.http() for name in "abc"}
        for name, client in clients.items():
            client.send_request(target=f"/interleave?{name}")
        found = [client.read_response().body.decode() for client in clients.values()]
        order = max(found, key=len)
        server.get("/stay")
        assert sorted(order) == sorted("abc" * 30)
        # From the moment that all three are in: the same three letters again and again.
        round_of = order[30:33]
        assert set(round_of) == set("abc"), order
        assert order[30:60] == round_of * 10, order

    @pytest.mark.parametrize("later", ["", "?seconds=0.05"])
    def test_starves_neither_sockets_nor_clocks(self, server, later):
        clients = [server.http() for _ in range(6)]
        for client in clients:
            client.send_request(target="/only_thing")
        assert server.get("/hello").body == b"hello"
        assert server.get(f"/go{later}").body == b"said"
        assert [client.read_response().body for client in clients] == [b"went"] * 6
        server.get("/stay")


ADVICE = re.compile(r"\b(call|hand|use|start|need)s?\b")
NEEDS_A_REQUEST = {
    "suspend",
    "async_sleep",
    "wait_fd_read",
    "wait_fd_write",
    "ready_fd",
    "connection_fd",
}


def check_refusals(server, where):
    """Every call was refused, and the text says what to do instead."""

    def all_said():
        lines = server.get(f"/tell?{where}").body.decode().splitlines()
        return lines if len(lines) >= len(NEEDS_A_REQUEST) else None

    said = dict(line.split(" ", 1) for line in until(all_said, f"all calls of {where}"))
    assert set(said) == NEEDS_A_REQUEST
    for name, text in said.items():
        kind, _, advice = text.partition(": ")
        assert kind == "RuntimeError", (name, text)
        assert "uwsgi" in advice, (name, text)
        assert ADVICE.search(advice), (name, text)


class TestWhereNoRequestIs:
    @pytest.fixture
    def server(self, serve_engine):
        return serve_engine("contract_waits")

    def test_at_import(self, server):
        check_refusals(server, "import")

    def test_in_a_thread(self, server):
        assert server.get("/in_a_thread?during").body == b"started"
        check_refusals(server, "during")

    def test_in_a_thread_after_the_request(self, server):
        assert server.get("/in_a_thread?after").body == b"started"
        check_refusals(server, "after")

    def test_in_another_greenlet(self, suspending, server):
        for _ in range(3):
            assert server.get("/in_a_greenlet").body == b"started"
        check_refusals(server, "greenlet")
        found = [r for r in server.wait_requests(4) if r.uri == "/in_a_greenlet"]
        assert [line.switches for line in found] == [2, 2, 2]
