"""What is yielded: its order, its switches, and the turns of requests that yield side by side."""

from __future__ import annotations

import pytest


@pytest.fixture
def server(serve_engine):
    return serve_engine("contract_yields")


def lines(count):
    return b"".join(b"%d\n" % number for number in range(count))


def waiting(server, target):
    """A request that waits for the poke."""
    client = server.http()
    client.send_request(target=target)
    client.head = client.read_head()
    assert client.read_chunk() == b"waiting\n"
    return client


def begun(server, target):
    """A request that yields from now on until the flag is raised."""
    client = server.http()
    client.send_request(target=target)
    client.head = client.read_head()
    assert client.read_chunk() == b"begun\n"
    return client


def rest(client):
    return client.read_body(client.head).body.decode()


class TestParts:
    @pytest.mark.parametrize(
        ("kind", "switches_of_a_part"),
        [
            ("numbered", 1),
            ("delegated", 2),
            ("iterator", 1),
            ("whole_list", 1),
            ("with_empty_parts", 4),
            ("sleeping", 2),
        ],
    )
    @pytest.mark.parametrize("parts", [1, 7, 200])
    def test_order_and_switches(self, server, kind, parts, switches_of_a_part):
        assert server.get(f"/{kind}?parts={parts}").body == lines(parts)
        (line,) = server.wait_requests(1)
        assert line.switches == parts * switches_of_a_part

    def test_bytes_are_one_part(self, server):
        assert server.get("/whole_bytes?parts=50").body == lines(50)
        assert server.wait_requests(1)[0].switches == 1

    def test_no_part(self, server):
        answer = server.get("/nothing")
        assert (answer.status, answer.body) == (200, b"")
        assert server.wait_requests(1)[0].switches == 0

    def test_an_empty_part_ends_no_response(self, server):
        """In chunked coding an empty chunk would be the last one."""
        client = server.http()
        answer = client.get("/with_empty_parts?parts=3")
        assert answer.framing == "chunked"
        assert all(answer.chunks)
        assert client.get("/numbered?parts=1").body == lines(1)

    def test_each_core_counts_from_zero(self, server):
        for parts in (30, 3, 30):
            server.get(f"/numbered?parts={parts}")
        assert [line.switches for line in server.wait_requests(3)] == [30, 3, 30]

    def test_side_by_side(self, server):
        counts = [3, 50, 1, 20, 8, 100, 2, 13]
        clients = [server.http() for _ in counts]
        for client, parts in zip(clients, counts, strict=True):
            client.send_request(target=f"/sleeping?parts={parts}")
        for client, parts in zip(clients, counts, strict=True):
            assert client.read_response().body == lines(parts)
        found = server.wait_requests(len(counts))
        assert sorted(line.switches for line in found) == sorted(2 * parts for parts in counts)


def check_turns(order, names):
    """Whoever has had his turn waits until all others had theirs."""
    turns = len(order) // len(names)
    assert sorted(order) == sorted(names * turns), order
    # One event starts all; the first round tells their order, and the last rounds are not full.
    for start in range(len(names), len(order) - 2 * len(names)):
        window = order[start : start + len(names)]
        assert set(window) == set(names), f"{window} at {start} of {order}"


class TestFairness:
    def test_yields_take_turns(self, server):
        clients = [waiting(server, f"/by_yields?turns=40&name={name}") for name in "abc"]
        assert server.get("/poke").body == b"poked"
        check_turns(max((rest(client) for client in clients), key=len), "abc")
        found = [r for r in server.wait_requests(4) if r.uri.startswith("/by_yields")]
        assert [line.switches for line in found] == [42] * 3
        server.get("/tidy")

    def test_one_that_yields_for_ever_starves_nobody(self, server):
        busy = begun(server, "/until_flag?name=a")
        for _ in range(20):
            assert server.get("/numbered?parts=5").body == lines(5)
        assert server.get("/raise_flag?name=a").body == b"raised"
        assert rest(busy) == "seen"
        server.get("/tidy")

    def test_nor_a_clock(self, server):
        busy = begun(server, "/until_flag?name=b")
        assert server.get("/raise_flag?name=b&seconds=0.05").body == b"raised"
        assert rest(busy) == "seen"
        server.get("/tidy")

    def test_seven_of_them(self, server):
        busy = [begun(server, "/until_flag?name=c") for _ in range(7)]
        for _ in range(5):
            assert server.get("/numbered?parts=5").body == lines(5)
        assert server.get("/raise_flag?name=c").body == b"raised"
        assert [rest(client) for client in busy] == ["seen"] * 7
        server.get("/tidy")


class TestBesideSuspensions:
    @pytest.fixture
    def server(self, suspending, serve_engine):
        return serve_engine("contract_yields")

    def test_both_are_switches(self, server):
        assert server.get("/mixed?parts=20").body == lines(20)
        assert server.wait_requests(1)[0].switches == 60

    @pytest.mark.parametrize("kinds", [("yields", "suspends"), ("suspends", "suspends")])
    def test_they_take_turns(self, server, kinds):
        clients = [
            waiting(server, f"/by_{kind}?turns=40&name={name}")
            for name, kind in zip("abc", (kinds[0], kinds[1], kinds[0]), strict=True)
        ]
        assert server.get("/poke").body == b"poked"
        check_turns(max((rest(client) for client in clients), key=len), "abc")
        found = [r for r in server.wait_requests(4) if r.uri.startswith("/by_")]
        assert [line.switches for line in found] == [42] * 3
        server.get("/tidy")
