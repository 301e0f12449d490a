"""uwsgi signals raised by packets of the uwsgi protocol, by options and by other instances."""

from __future__ import annotations

import pytest

from tests.harness.uwsgi import packet
from tests.harness.waiting import until

RAISE = 110
ACCEPTED = b"\xff\x00\x00\x01"
REFUSED = b"\xff\x00\x00\x00"


@pytest.fixture
def raised(fresh):
    """`raised(*options)` starts an application with handlers for the signals 17 and 18."""

    def start(*options, **how):
        return fresh("raised", *options, uwsgi="127.0.0.1:0", **how)

    return start


def runs(server, number: int) -> int:
    return sum(f"runs signal {number}" in line for line in server.log_lines())


def test_a_packet_raises_a_signal(raised, modes):
    server = raised(*modes)
    client = server.packets()
    client.send(packet([], RAISE, 17))
    assert client.read_to_end() == ACCEPTED
    server.wait_for_log("worker 1 runs signal 17")
    # Variables mean nothing, but come whole.
    client = server.packets()
    client.send_pieces(packet([("A", "b")], RAISE, 17))
    assert client.read_to_end() == ACCEPTED
    until(lambda: runs(server, 17) == 2, "the second run")
    assert server.log_requests() == []


def test_each_worker_runs_what_is_for_all(raised):
    server = raised("-p", "3")
    client = server.packets()
    client.send(packet([], RAISE, 18))
    assert client.read_to_end() == ACCEPTED
    for worker in (1, 2, 3):
        server.wait_for_log(f"worker {worker} runs signal 18")
    assert runs(server, 18) == 3


def test_a_signal_without_handler_is_accepted_and_dropped(raised):
    server = raised()
    client = server.packets()
    client.send(packet([], RAISE, 99))
    assert client.read_to_end() == ACCEPTED
    server.wait_for_log(r"\[uwsgi-signal\] signal 99 dropped \(1 so far\): no handler")


def test_a_packet_that_is_too_long_raises_nothing(raised):
    server = raised("--buffer-size", "4096")
    client = server.packets()
    client.send(packet([("A", "b" * 5000)], RAISE, 17))
    assert client.closed_by_peer()
    server.wait_for_log("invalid request block size: 5005")
    assert runs(server, 17) == 0


def test_without_a_master_nobody_takes_signals(fresh):
    server = fresh("hello", "--master=false", uwsgi="127.0.0.1:0")
    client = server.packets()
    client.send(packet([], RAISE, 17))
    assert client.read_to_end() == REFUSED


def test_an_application_raises_signals_elsewhere(raised, fresh):
    server = raised()
    host, port = server.uwsgi_address
    asker = fresh("raised")
    assert asker.get(f"/?{host}:{port}").body == b"raised"
    server.wait_for_log("worker 1 runs signal 17")
    alone = fresh("hello", "--master=false", uwsgi="127.0.0.1:0")
    host, port = alone.uwsgi_address
    answer = asker.get(f"/?{host}:{port}").body
    assert answer == f"ValueError: node {host}:{port} rejected signal 17".encode()


def test_options_raise_signals(raised, tmp_path):
    watched = tmp_path / "watched"
    server = raised("--timer", "17 0.1", "--fs-signal", f"{watched} 18")
    until(lambda: runs(server, 17) >= 5, "five ticks")
    watched.write_text("it is there")
    until(lambda: runs(server, 18) == 1, "the signal of the file")
    server.reload()
    before = runs(server, 17)
    until(lambda: runs(server, 17) >= before + 5, "five ticks more")
    watched.write_text("it is there, and longer")
    until(lambda: runs(server, 18) == 2, "the signal of the file again")
