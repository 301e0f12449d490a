"""Whose time it is: scripts that are silent, clients that are slow, requests that take too long."""

from __future__ import annotations

import pytest

from tests.cgi.scripts import HEAD, MOUNT, begin, do
from tests.harness.http import Truncated

PID = "echo pid $$ >>$NOTES; "
SHORT = ("--cgi-timeout", "0.5")


def two_timeouts_pass(server):
    """Twice as long as --cgi-timeout, as two others learn."""
    for _ in range(2):
        assert do(server, "sleep 1000").status == 504


class TestSilence:
    def test_before_its_head_is_504(self, scripts, notes):
        server = scripts(*SHORT, *notes.options)
        with server.http() as client:
            assert do(client, PID + "sleep 1000").status == 504
            notes.wait_gone()
            # The connection is fit for more.
            assert do(client, HEAD + "echo next").body == b"next\n"
        server.wait_for_log(r"CGI timeout !!! .*--cgi-timeout.*answered 504")

    def test_within_its_head_is_504(self, scripts, notes):
        server = scripts(*SHORT, *notes.options)
        assert do(server, PID + "echo X-A: 1; sleep 1000").status == 504
        notes.wait_gone()

    def test_after_its_head_the_response_breaks_off(self, scripts, notes):
        server = scripts(*SHORT, *notes.options)
        client = begin(server, PID + HEAD + "echo some; sleep 1000")
        with pytest.raises(Truncated):
            client.read_response()
        notes.wait_gone()
        server.wait_for_log("the response is cut off")

    def test_one_that_says_a_little_now_and_then_goes_on(self, scripts):
        server = scripts("--cgi-timeout", "1")
        answer = do(server, HEAD + "for i in 1 2 3 4 5 6 7 8; do sleep 0.2; echo $i; done")
        assert answer.body.split() == [b"%d" % i for i in range(1, 9)]

    def test_one_that_reads_a_little_now_and_then_goes_on(self, scripts):
        server = scripts("--cgi-timeout", "1")
        reads = "for i in 1 2 3 4 5 6 7 8; do sleep 0.2; head -c 100000 >/dev/null; done; "
        answer = do(server, reads + HEAD + "wc -c", method="POST", body=bytes(2_000_000))
        assert answer.status == 200

    def test_one_that_never_reads_its_body_and_says_nothing(self, scripts, notes):
        server = scripts(*SHORT, *notes.options)
        assert do(server, PID + "sleep 1000", method="POST", body=bytes(1_000_000)).status == 504
        notes.wait_gone()

    def test_one_that_ignores_sigterm(self, scripts, notes):
        server = scripts(*SHORT, *notes.options)
        code = "trap : TERM; " + PID + "while :; do sleep 0.05; done"
        assert do(server, code).status == 504
        notes.wait_gone()

    def test_waiting_for_a_place_is_no_silence(self, scripts):
        server = scripts("--cgi-timeout", "0.7", "--cgi-max-processes", "1")
        clients = [begin(server, HEAD + f"sleep 0.4; echo {n}") for n in range(5)]
        for number, client in enumerate(clients):
            assert client.read_response().body == b"%d\n" % number


class TestSlowClients:
    def test_one_that_reads_slowly_is_no_silent_script(self, scripts):
        server = scripts(*SHORT)
        client = server.http(receive_buffer=4096)
        code = HEAD + "head -c 10000000 /dev/zero"
        client.send_request(target="/cgi-bin/do", headers=[("X-Do", code)])
        client.read_head()
        two_timeouts_pass(server)
        total = 0
        while chunk := client.read_chunk():
            total += len(chunk)
        assert total == 10_000_000

    def test_one_that_sends_slowly_is_no_silent_script(self, beside):
        server = beside(
            "hello", *MOUNT, *SHORT, "--async", "2", "--ugreen", "--body-early", "/cgi-bin"
        )
        client = server.http()
        lines = ["POST /cgi-bin/do HTTP/1.1", "Host: a", f"X-Do: {HEAD}cat", "Content-Length: 6"]
        client.send("\r\n".join(lines) + "\r\n\r\n")
        found = client.read_head()
        two_timeouts_pass(server)
        client.send("one")
        assert client.read_chunk() == b"one"
        two_timeouts_pass(server)
        client.send("two")
        assert client.read_body(found).body == b"two"

    def test_one_that_reads_nothing_is_given_up(self, scripts, notes):
        server = scripts("--socket-timeout", "0.5", *notes.options)
        client = server.http(receive_buffer=4096)
        code = PID + HEAD + "exec yes"
        client.send_request(target="/cgi-bin/do", headers=[("X-Do", code)])
        notes.wait(1)
        notes.wait_gone()
        server.wait_requests(1)


class TestRequestTimeout:
    def test_it_is_504_however_busy_the_script_is(self, scripts, notes):
        server = scripts("--request-timeout", "/cgi-bin=0.5", *notes.options)
        with server.http() as client:
            code = PID + "while echo X-A: 1 | grep -q .; do :; done"
            assert do(client, code).status == 504
            notes.wait_gone()
            assert do(client, HEAD + "echo next").body == b"next\n"
        line = server.wait_requests(2)[0]
        assert (line.status, line.cancelled) == (504, "deadline")
        server.wait_for_log(r"--request-timeout")

    def test_after_the_head_the_response_breaks_off(self, scripts, notes):
        server = scripts("--request-timeout", "0.5", *notes.options)
        client = begin(server, PID + HEAD + "while echo x; do sleep 0.01; done")
        with pytest.raises(Truncated):
            client.read_response()
        notes.wait_gone()
        assert server.wait_requests(1)[0].cancelled == "deadline"

    def test_another_prefix_has_none(self, scripts):
        server = scripts("--request-timeout", "/other=0.1")
        assert do(server, HEAD + "sleep 0.5; echo x").body == b"x\n"
