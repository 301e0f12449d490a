"""Processes of scripts: how many run, who waits, what outlives what."""

from __future__ import annotations

import contextlib
import os
import signal

from tests.cgi.scripts import HEAD, begin, do, says
from tests.harness import procs
from tests.harness.http import Truncated
from tests.harness.waiting import until

PID = "echo pid $$ >>$NOTES; "
LEFT = "sh -c 'echo pid $$ >>$NOTES; exec sleep 1000' & "


def most_at_once(lines):
    running = most = 0
    for line in lines:
        running += {"start": 1, "end": -1}.get(line.split()[0], 0)
        most = max(most, running)
    return most


class TestAtOnce:
    CODE = "echo start >>$NOTES; sleep {}; echo end >>$NOTES; " + HEAD + "echo {}"

    def test_twenty_run_at_the_same_time_on_one_process(self, scripts, notes):
        server = scripts(*notes.options)
        clients = [begin(server, self.CODE.format(1, number)) for number in range(20)]
        for number, client in enumerate(clients):
            assert client.read_response().body == b"%d\n" % number
        assert most_at_once(notes.lines()) == 20

    def test_no_more_than_allowed(self, scripts, notes):
        server = scripts("--cgi-max-processes", "3", *notes.options)
        clients = [begin(server, self.CODE.format("0.1", number)) for number in range(12)]
        for number, client in enumerate(clients):
            assert client.read_response().body == b"%d\n" % number
        # A place is free when the process has ended, which is after its note.
        assert most_at_once(notes.lines()) == 3

    def test_those_that_wait_are_served_in_their_order(self, scripts, notes):
        server = scripts("--cgi-max-processes", "1", *notes.options)
        clients = []
        for number in range(8):
            clients.append(begin(server, f"echo {number} >>$NOTES; {HEAD}echo {number}"))
        for client in clients:
            client.read_response()
        assert notes.lines() == [str(number) for number in range(8)]

    def test_one_that_cannot_be_started_gives_its_place_back(self, scripts):
        server = scripts("--cgi-max-processes", "1")
        for _ in range(3):
            assert server.get("/cgi-bin/missing").status == 404
            assert says(server, "").status == 502
            assert do(server, HEAD + "echo x").body == b"x\n"

    def test_one_that_lives_on_keeps_its_place(self, scripts, notes):
        server = scripts("--cgi-max-processes", "1", *notes.options)
        code = HEAD + "exec >&-; echo start >>$NOTES; sleep 0.5; echo end >>$NOTES"
        for _ in range(3):
            assert do(server, code).status == 200
        notes.wait(6)
        assert most_at_once(notes.lines()) == 1

    def test_each_worker_has_its_own(self, scripts, notes):
        server = scripts("--processes", "2", "--cgi-max-processes", "2", *notes.options)
        clients = [begin(server, self.CODE.format("0.3", n)) for n in range(12)]
        for client in clients:
            assert client.read_response().status == 200
        assert most_at_once(notes.lines()) <= 4


class TestEnds:
    def test_a_child_that_keeps_the_output_open_delays_nothing(self, scripts, notes):
        server = scripts(*notes.options)
        with server.http() as client:
            answer = do(client, HEAD + LEFT + "until [ -s $NOTES ]; do :; done; echo all; exit")
            assert answer.body == b"all\n"
            assert says(client, r"X-A: 1\n\nnext").body == b"next"
        server.wait_requests(2)
        # Nobody but the script's author knows how long it may live.
        assert len(notes.alive()) == 1
        notes.end_all()

    def test_what_a_child_has_written_by_then_is_sent(self, scripts, notes):
        server = scripts(*notes.options)
        code = (
            HEAD
            + "(echo child; echo done >>$NOTES; exec sleep 0.5) & until [ -s $NOTES ]; do :; done"
        )
        assert do(server, code).body == b"child\n"

    def test_one_that_closes_its_output_has_answered(self, scripts, notes):
        server = scripts(*notes.options)
        with server.http() as client:
            answer = do(client, PID + HEAD + "echo all; exec >&-; sleep 1; echo end >>$NOTES")
            assert answer.body == b"all\n"
            assert "end" not in notes.lines()
            assert says(client, r"X-A: 1\n\nnext").body == b"next"
        # It is not killed: nobody has asked it to leave.
        notes.wait_for("end")

    def test_one_that_leaves_for_a_session_of_its_own(self, scripts, notes):
        server = scripts(*notes.options)
        code = HEAD + "setsid sh -c 'echo pid $$ >>$NOTES; sleep 2; echo end >>$NOTES' >&- 2>&- & "
        assert do(server, code + "echo left").body == b"left\n"
        notes.wait_for("end")

    def test_nothing_is_left_of_hundreds(self, server):
        worker = server.worker()
        before = len(procs.open_files(worker)) + 1
        with server.http() as client:
            for number in range(300):
                assert do(client, HEAD + f"echo {number}").body == b"%d\n" % number
        until(lambda: procs.children(worker) == [], "no child, no zombie")
        until(lambda: len(procs.open_files(worker)) <= before, "no descriptor")


class TestStop:
    def test_a_stop_lets_a_script_finish(self, scripts, notes):
        server = scripts(*notes.options)
        client = begin(server, PID + "sleep 0.7; " + HEAD + "echo finished")
        notes.wait(1)
        server.signal(signal.SIGTERM)
        assert client.read_response().body == b"finished\n"
        assert server.wait_exit() == 0

    def test_and_its_output(self, scripts, gate, notes):
        server = scripts("--cgi-env", f"GATE={gate.path}", *notes.options)
        client = begin(server, PID + HEAD + "echo one; head -c 1 $GATE >/dev/null; echo two")
        head = client.read_head()
        assert client.read_chunk() == b"one\n"
        server.signal(signal.SIGTERM)
        server.wait_for_log("SIGINT/SIGTERM received")
        gate.release()
        assert client.read_body(head).body == b"two\n"
        assert server.wait_exit() == 0

    def test_a_second_signal_ends_it(self, scripts, notes):
        server = scripts(*notes.options)
        client = begin(server, "trap : TERM; " + PID + "while :; do sleep 0.05; done")
        notes.wait(1)
        server.signal(signal.SIGTERM)
        server.wait_for_log("SIGINT/SIGTERM received")
        server.signal(signal.SIGTERM)
        assert server.wait_exit() == 0
        notes.wait_gone()
        # At most a page that says so.
        assert client.read_to_end().partition(b"\r\n")[0] in (
            b"",
            b"HTTP/1.1 503 Service Unavailable",
        )

    def test_so_does_the_end_of_mercy(self, scripts, notes):
        server = scripts("--worker-reload-mercy", "0.5", *notes.options)
        begin(server, PID + "sleep 1000")
        notes.wait(1)
        server.signal(signal.SIGTERM)
        assert server.wait_exit() == 0
        notes.wait_gone()

    def test_a_reload_lets_it_finish(self, scripts, gate, notes):
        server = scripts("--cgi-env", f"GATE={gate.path}", *notes.options)
        client = begin(server, PID + HEAD + "echo one; head -c 1 $GATE >/dev/null; echo two")
        head = client.read_head()
        old = server.worker()
        server.reload()
        assert do(server, HEAD + "echo new").body == b"new\n"
        gate.release()
        assert client.read_body(head).body == b"one\ntwo\n"
        until(lambda: not procs.alive(old), "the old worker has left")

    def test_those_that_wait_for_a_place_are_served_before_a_worker_leaves(self, scripts, notes):
        server = scripts("--cgi-max-processes", "1", *notes.options)
        clients = [begin(server, PID + f"sleep 0.2; {HEAD}echo {n}") for n in range(4)]
        notes.wait(1)
        until(lambda: _asked(server) >= 4, "all requests are there")
        server.signal(signal.SIGTERM)
        for number, client in enumerate(clients):
            assert client.read_response().body == b"%d\n" % number
        assert server.wait_exit() == 0


def _asked(server):
    """Connections that the worker has accepted: they do not lie in the listener's queue."""
    worker = server.worker()
    sockets = [what for what in procs.open_files(worker).values() if what.startswith("socket")]
    before = [w for w in server.baseline[worker].values() if w.startswith("socket")]
    return len(sockets) - len(before)


class TestDeaths:
    def test_a_worker_that_is_killed(self, scripts, notes):
        server = scripts(*notes.options)
        client = begin(server, PID + "for i in $(seq 100); do sleep 0.1; echo X-A: 1; done")
        notes.wait(1)
        worker = server.worker()
        os.kill(worker, signal.SIGKILL)
        with contextlib.suppress(ConnectionResetError):
            assert client.read_to_end() == b""
        until(lambda: server.workers() and server.workers() != [worker], "another one serves")
        assert do(server, HEAD + "echo new").body == b"new\n"
        # The orphan learns of it when it writes: nobody holds the other end any more.
        notes.wait_gone()

    def test_a_script_that_is_killed(self, scripts, notes):
        server = scripts(*notes.options)
        with server.http() as client:
            client.send_request(target="/cgi-bin/do", headers=[("X-Do", PID + "exec sleep 1000")])
            notes.wait(1)
            os.kill(notes.pids()[0], signal.SIGKILL)
            assert client.read_response().status == 502
            assert says(client, r"X-A: 1\n\nnext").body == b"next"

    def test_and_in_its_output(self, scripts, notes):
        server = scripts(*notes.options)
        client = begin(server, r"printf 'Content-Length: 10\n\nfive!'; " + PID + "exec sleep 1000")
        notes.wait(1)
        os.kill(notes.pids()[0], signal.SIGKILL)
        try:
            client.read_response()
        except Truncated:
            return
        raise AssertionError("half a body passed for a whole one")
