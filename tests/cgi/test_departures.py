"""Clients that leave: their scripts, with all that these have started, are gone soon."""

from __future__ import annotations

import pytest

from tests.cgi.scripts import HEAD, begin, do
from tests.harness import procs
from tests.harness.waiting import until

PID = "echo pid $$ >>$NOTES; "
FAMILY = PID + "sh -c 'echo pid $$ >>$NOTES; sleep 1000; :' & "
"""A process and a grandchild."""

LEAVES = {
    "closes": lambda client: client.close(),
    "resets": lambda client: client.reset(),
    "closes its side": lambda client: client.half_close(),
}


@pytest.fixture(params=LEAVES)
def leave(request):
    return LEAVES[request.param]


def test_before_any_output(scripts, notes, leave):
    server = scripts(*notes.options)
    client = begin(server, FAMILY + "sleep 1000")
    notes.wait(2)
    leave(client)
    notes.wait_gone()
    (line,) = server.wait_requests(1)
    assert line.cancelled == "client gone"


def test_while_output_flows(scripts, notes, leave):
    server = scripts(*notes.options)
    client = begin(server, FAMILY + HEAD + "while echo $NOTES; do sleep 0.01; done")
    client.read_head()
    client.read_chunk()
    notes.wait(2)
    leave(client)
    notes.wait_gone()
    server.wait_requests(1)


def test_with_output_that_it_does_not_read(scripts, notes):
    server = scripts(*notes.options)
    client = begin(server, FAMILY + HEAD + "exec yes")
    client.read_head()
    notes.wait(2)
    client.reset()
    notes.wait_gone()


def test_between_head_and_body(scripts, notes):
    server = scripts(*notes.options)
    client = begin(server, HEAD + FAMILY + "sleep 1000")
    client.read_head()
    notes.wait(2)
    client.close()
    notes.wait_gone()


def test_at_once(scripts, notes):
    """While a helper finds and starts the script, or before."""
    server = scripts(*notes.options)
    for _ in range(30):
        begin(server, PID + "sleep 1000").reset()
    notes.wait_gone()
    assert do(server, HEAD + "echo well").body == b"well\n"
    server.wait_requests(31)
    notes.wait_gone()


def test_while_it_waits_for_a_place(scripts, notes):
    server = scripts("--cgi-max-processes", "1", *notes.options)
    first = begin(server, PID + "sleep 1000")
    notes.wait(1)
    waiting = [begin(server, "echo pid $$ started >>$NOTES; sleep 1000") for _ in range(5)]
    last = begin(server, HEAD + "echo last")
    for client in waiting:
        client.reset()
    server.wait_requests(5)
    first.close()
    assert last.read_response().body == b"last\n"
    assert not [line for line in notes.lines() if "started" in line]


def test_one_that_ignores_sigterm_is_killed(scripts, notes):
    server = scripts(*notes.options)
    code = "trap 'echo told >>$NOTES' TERM; " + PID + "while :; do sleep 0.05; done"
    client = begin(server, code)
    notes.wait(1)
    client.close()
    notes.wait_gone()
    # It was asked first.
    assert "told" in notes.lines()


def test_one_that_clears_up_has_the_time_to(scripts, notes):
    server = scripts(*notes.options)
    code = "trap 'echo cleared >>$NOTES; exit' TERM; " + PID + "while :; do sleep 0.05; done"
    client = begin(server, code)
    notes.wait(1)
    client.close()
    notes.wait_for("cleared")
    notes.wait_gone()


def test_a_grandchild_that_ignores_sigterm_is_killed_too(scripts, notes):
    server = scripts(*notes.options)
    deaf = "sh -c 'trap : TERM; echo pid $$ >>$NOTES; while :; do sleep 0.05; done' & "
    client = begin(server, PID + deaf + "sleep 1000")
    notes.wait(2)
    client.close()
    notes.wait_gone()


def test_a_stopped_one_is_killed(scripts, notes):
    server = scripts(*notes.options)
    client = begin(server, PID + "kill -STOP $$; sleep 1000")
    pid = int(notes.wait(1)[0].split()[1])
    until(lambda: procs.state(pid) == "T", "it stands still")
    client.close()
    notes.wait_gone()


def test_half_close_waits_if_that_is_wanted(scripts, gate):
    server = scripts("--half-close", "--cgi-env", f"GATE={gate.path}")
    client = begin(server, "head -c 1 $GATE >/dev/null; " + HEAD + "echo still here")
    client.half_close()
    # A neighbour comes and goes; longer than the half second that others have.
    do(server, HEAD + "sleep 0.8")
    gate.release()
    assert client.read_response().body == b"still here\n"


def test_a_quick_answer_reaches_a_client_that_has_closed_its_side(server):
    client = begin(server, HEAD + "echo quick")
    client.half_close()
    assert client.read_response().body == b"quick\n"


def test_the_next_request_of_a_pipeline_dies_with_it(scripts, notes):
    server = scripts(*notes.options)
    client = begin(server, PID + "sleep 1000")
    client.send_request(target="/cgi-bin/do", headers=[("X-Do", "echo never >>$NOTES")])
    notes.wait(1)
    client.reset()
    notes.wait_gone()
    assert len(notes.lines()) == 1
