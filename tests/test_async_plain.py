"""The plain async engine: the iterable is the coroutine, every yield gives the worker away."""

from __future__ import annotations

import re

import pytest

from tests.harness import procs
from tests.harness.waiting import until


@pytest.fixture
def server(serve):
    return serve("waits", "--async", "4")


def waiting(server, target):
    """A request that has told its client that it is about to wait."""
    client = server.http()
    client.send_request(target=target)
    client.head = client.read_head()
    assert client.read_chunk() == b"waiting\n"
    return client


def rest(client):
    return client.read_body(client.head).body


def test_the_start_up_line_names_the_missing_engine(fresh):
    server = fresh("hello", "--async", "4")
    server.wait_for_log(
        r"\*\*\* DANGER \*\*\* async mode without coroutine/greenthread engine loaded !!!"
    )


def test_no_such_line_without_async(fresh):
    assert fresh("hello").count_log("DANGER") == 0


def test_async_1_is_legal(serve):
    server = serve("waits", "--async", "1")
    assert rest(waiting(server, "/sleep?seconds=0.01")) == b"slept"


class TestFirstByte:
    """`yield b"a"; time.sleep(2)`: what was yielded leaves before the worker is blocked."""

    @pytest.mark.parametrize("cores", ["1", "4"])
    def test_leaves_before_a_blocking_call(self, serve, gate, cores):
        server = serve("early", "--async", cores, env=gate.env)
        client = server.http()
        client.send_request()
        head = client.read_head()
        assert client.read_chunk() == b"first"
        # Only now, with the first bytes in hand, may the application go on.
        gate.release()
        assert client.read_body(head).body == b" opened"

    def test_without_async(self, serve, gate):
        server = serve("early", env=gate.env)
        client = server.http()
        client.send_request()
        head = client.read_head()
        assert client.read_chunk() == b"first"
        gate.release()
        assert client.read_body(head).body == b" opened"

    def test_over_packets(self, serve, gate):
        server = serve("early", "--async", "4", env=gate.env, uwsgi="127.0.0.1:0")
        client = server.packets()
        from tests.harness.uwsgi import packet, variables

        client.send(packet(variables()))
        assert client.read_until(b"\r\n\r\nfirst")
        gate.release()
        assert client.read_to_end() == b" opened"


class TestWithoutCoalescing:
    """`--coalesce=false` changes when bytes leave, and nothing else."""

    @pytest.fixture
    def server(self, serve):
        return serve("stream", "--async", "4", "--coalesce=false")

    def test_every_yield_is_a_chunk(self, server):
        answer = server.http().get("/20")
        assert [len(chunk) for chunk in answer.chunks] == [10] * 20

    def test_switches(self, server):
        server.get("/20")
        assert 20 <= server.wait_requests(1)[0].switches <= 22


class TestWaits:
    @pytest.mark.parametrize("how", ["", "&fdevent=1", "&timeout=5", "&timeout=5.5&fdevent=1"])
    def test_read(self, server, how):
        client = waiting(server, f"/read?name=a{how}")
        assert server.get("/poke?name=a").body == b"poked"
        assert rest(client) == b"None|None ready True"

    @pytest.mark.parametrize("how", ["", "&fdevent=1"])
    def test_time_out(self, server, how):
        client = waiting(server, f"/read?name=a&timeout=0.05{how}")
        assert rest(client) == b"None|None timeout True"

    @pytest.mark.parametrize("how", ["", "&fdevent=1"])
    def test_write(self, server, how):
        client = waiting(server, f"/write?name=a{how}")
        assert server.get("/drain?name=a").body == b"drained"
        assert rest(client) == b"near"

    @pytest.mark.parametrize("chosen", ["a", "b", "c"])
    def test_several(self, server, chosen):
        client = waiting(server, "/several?name=a,b,c")
        assert server.get(f"/poke?name={chosen}").body == b"poked"
        assert rest(client) == chosen.encode()

    def test_several_time_out(self, server):
        assert rest(waiting(server, "/several?name=a,b,c&timeout=0.05")) == b"-1"

    def test_the_earliest_deadline_counts(self, server):
        assert server.get("/earliest").body == b"early"

    def test_read_and_write_on_one_descriptor(self, server):
        assert server.get("/both").body == b"near"

    def test_two_requests_wait_for_one_descriptor(self, server):
        first = waiting(server, "/read?name=shared&timeout=5")
        second = waiting(server, "/several?name=shared&timeout=5")
        assert server.get("/poke?name=shared").body == b"poked"
        assert rest(first) == b"None|None ready True"
        assert rest(second) == b"shared"

    def test_waiting_blocks_nobody(self, server):
        clients = [waiting(server, f"/read?name={n}") for n in "abc"]
        for _ in range(5):
            assert server.get("/results").status == 200
        for name in "cab":
            server.get(f"/poke?name={name}")
        assert [rest(c) for c in clients] == [b"None|None ready True"] * 3

    def test_pipelined_behind_a_wait(self, server):
        """The second request of a connection starts when the first one has ended."""
        client = server.http()
        client.send(
            b"GET /read?name=a HTTP/1.1\r\nHost: a\r\n\r\nGET /results HTTP/1.1\r\nHost: a\r\n\r\n"
        )
        head = client.read_head()
        assert client.read_chunk() == b"waiting\n"
        server.get("/poke?name=a")
        assert client.read_body(head).body == b"None|None ready True"
        assert client.read_response().body == b"b''"
        assert [r.uri for r in server.wait_requests(3)][-2:] == ["/read?name=a", "/results"]

    def test_again_and_again(self, server):
        assert server.get("/again").body == b"fifty times"

    def test_one_wait_leaves_nothing_for_the_next(self, server):
        assert server.get("/two_steps").body == b"reader -1 True"

    @pytest.mark.parametrize("yields", [1, 5000])
    def test_a_yield_without_a_wait_says_so(self, server, yields):
        assert server.get(f"/then_plain?yields={yields}").body == b".-1|None|None"

    def test_results_are_empty_bytes(self, server):
        assert server.get("/results").body == b"b''"

    def test_a_refused_wait_leaves_nothing_behind(self, server):
        for _ in range(3):
            assert server.get("/bad").body == b"2 refused, then reader"

    def test_a_refused_wait_says_which_descriptor(self, server):
        expected = b"[Errno 9] unable to add fd 99999 to the event queue: Bad file descriptor"
        assert server.get("/refusal").body == expected

    def test_a_regular_file(self, server):
        assert server.get("/regular").body == b"refused or ready"


class TestSleep:
    @pytest.mark.parametrize("seconds", ["0", "0.001", "0.05", "0.5", "1"])
    def test_fractions(self, server, seconds):
        """Too early is a failure here; too late would be one of the machine."""
        assert rest(waiting(server, f"/sleep?seconds={seconds}")) == b"slept"

    def test_many_at_once(self, serve):
        """Sleepers sleep side by side: together they take less than the sum."""
        server = serve("waits", "--async", "50")
        clients = []
        for _ in range(50):
            client = server.http()
            client.send_request(target="/sleep?seconds=0.2&times=3")
            clients.append(client)
        assert all(c.read_response().body == b"waiting\nslept" for c in clients)
        assert {r.core for r in server.wait_requests(50)} == set(range(50))

    def test_a_sleep_that_no_yield_consumes_is_logged_once(self, fresh):
        server = fresh("waits", "--async", "4")
        for _ in range(3):
            assert server.get("/unused").status == 200
        server.wait_requests(3)
        server.wait_for_log("async_sleep")
        assert server.count_log("async_sleep") == 1


class TestSuspend:
    def test_names_the_engines(self, server):
        text = server.get("/suspend").body.decode()
        assert "suspend" in text
        for engine in ("ugreen", "greenlet"):
            assert engine in text.lower(), text

    def test_every_time(self, server):
        texts = {server.get("/suspend").body for _ in range(3)}
        assert len(texts) == 1
        assert texts != {b"suspended"}


class TestDescriptorsUnderTheFeet:
    def test_closed(self, server):
        assert server.get("/closed").body == b"-1|True"

    def test_reused(self, server):
        """The wait was for what is gone; the next one is for what is there."""
        assert server.get("/reused").body == b"-1 then reused"

    def test_duplicated_does_not_spin(self, server):
        assert server.get("/duplicated").body == b"ended"
        pid = server.worker()
        # A description that stays readable in the epoll set would burn a CPU from here on.
        for _ in range(3):
            before = procs.cpu_ticks(pid)
            client = waiting(server, "/sleep?seconds=0.3")
            assert rest(client) == b"slept"
            assert procs.cpu_ticks(pid) - before < 15
        assert server.get("/undo").body == b"closed"

    def test_nothing_stale_afterwards(self, server):
        for _ in range(5):
            server.get("/closed")
            server.get("/reused")
            client = waiting(server, "/read?name=fresh&timeout=5")
            server.get("/poke?name=fresh")
            assert rest(client) == b"None|None ready True"


class TestFairness:
    def test_two_generators_take_turns(self, server):
        clients = [waiting(server, f"/interleave?name={name}&turns=50") for name in "ab"]
        # One event starts both: neither can be through before the other one may run.
        assert server.get("/poke?name=start").body == b"poked"
        order = max((rest(c).decode().lstrip(".") for c in clients), key=len)
        assert sorted(order) == ["a"] * 50 + ["b"] * 50
        longest = max(len(run.group()) for run in re.finditer(r"a+|b+", order))
        assert longest <= 3, order

    def test_an_endless_generator_starves_nobody(self, serve, counter):
        server = serve("endless", "--async", "2", env=counter.env)
        greedy = server.http()
        greedy.send_request(target="/endless?1")
        greedy.read_head()
        for _ in range(20):
            # The generator runs as fast as its reader reads.
            greedy.read_exactly(1000)
            assert server.get("/").body == b"hello\n"
        greedy.close()
        server.wait_for_log("endless closed")


class TestLog:
    @pytest.mark.parametrize("count", [1, 5, 100])
    def test_switches_are_yields(self, serve, count):
        server = serve("stream", "--async", "4")
        for _ in range(3):
            server.get(f"/{count}")
        for line in server.wait_requests(3):
            # Fetching the iterator and its end may each count as one.
            assert count <= line.switches <= count + 2

    def test_switches_do_not_depend_on_the_core_before(self, serve):
        server = serve("stream", "--async", "1")
        for target in ("/10", "/1000", "/10"):
            server.get(target)
        first, _, third = server.wait_requests(3)
        assert first.switches == third.switches

    def test_waits_are_switches(self, server):
        server.get("/again")
        server.get("/two_steps")
        again, two = server.wait_requests(2)
        assert 50 <= again.switches <= 53
        assert 3 <= two.switches <= 5

    def test_cores_are_last_in_first_out(self, server):
        for _ in range(5):
            server.get("/results")
        (home,) = {r.core for r in server.wait_requests(5)}
        first = waiting(server, "/read?name=a")
        second = waiting(server, "/read?name=b")
        server.get("/poke?name=b")
        rest(second)
        server.get("/poke?name=a")
        rest(first)
        found = {r.uri: r.core for r in server.wait_requests(9)}
        assert found["/read?name=a"] == home
        assert found["/read?name=b"] != home
        # The first one ended last, so its core is on top again.
        server.get("/suspend")
        server.wait_requests(10)
        assert {r.uri: r.core for r in server.log_requests()}["/suspend"] == home

    def test_core_ids_are_in_range(self, serve, gate):
        server = serve("hold", "--async", "3", env=gate.env)
        clients = [server.http() for _ in range(3)]
        for client in clients:
            client.send_request(target="/hold")
            client.head = client.read_head()
            assert client.read_chunk() == b"held\n"
        gate.release(3)
        for client in clients:
            assert client.read_body(client.head).body == b"released\n"
        assert {r.core for r in server.wait_requests(3)} == {0, 1, 2}


def test_cpubound_beside_a_small_request(serve):
    """The seeds' example: ten thousand yields each, and nobody waits for their end."""
    server = serve("stream", "--async", "4")
    clients = [server.http() for _ in range(3)]
    for client in clients:
        client.send_request(target="/10000?size=8")
    assert server.get("/1").status == 200
    for client in clients:
        assert len(client.read_response().body) == 80_000
    big = [r for r in server.wait_requests(4) if r.uri.startswith("/10000")]
    assert all(10_000 <= r.switches <= 10_002 for r in big)


def test_the_engine_uses_no_cpu_while_all_wait(serve):
    server = serve("waits", "--async", "4")
    clients = [waiting(server, f"/read?name={n}") for n in "abc"]
    pid = server.worker()
    before = procs.cpu_ticks(pid)
    assert rest(waiting(server, "/sleep?seconds=1")) == b"slept"
    assert procs.cpu_ticks(pid) - before < 20
    for name in "abc":
        server.get(f"/poke?name={name}")
    until(lambda: [rest(c) for c in clients], "all have ended")
