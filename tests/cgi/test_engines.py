"""The core of it beside an application, under each engine: scripts need none and disturb none."""

from __future__ import annotations

import pytest

from tests.cgi.scripts import HEAD, MOUNT, Notes, adopt_helpers, begin, do, says, send
from tests.cgi.test_processes import most_at_once
from tests.contract.engines import engines, usable
from tests.harness.server import Server
from tests.harness.waiting import until

PID = "echo pid $$ >>$NOTES; "
PREFORKING = "preforking"


def pytest_generate_tests(metafunc):
    if "engine" in metafunc.fixturenames:
        wanted = [None, *engines()]
        names = [PREFORKING if engine is None else engine.id for engine in wanted]
        # By module: all tests of one engine follow each other, on the same servers.
        metafunc.parametrize("engine", wanted, ids=names, scope="module")


@pytest.fixture(scope="module")
def all_notes(tmp_path_factory):
    return Notes(tmp_path_factory.mktemp("notes") / "notes")


@pytest.fixture
def notes(all_notes: Notes):
    """The notes of one test; the file is the module's, so that its servers can be used again."""
    yield all_notes
    all_notes.wait_gone()
    all_notes.path.write_text("")


@pytest.fixture
def words(engine, all_notes):
    """The application `echo` with scripts, on the engine of the test."""
    asked = [] if engine is None else usable(engine).arguments(2)
    return ("echo", *asked, *MOUNT, *all_notes.options)


@pytest.fixture
def start(words, serve, notes):
    """`start(*options)`: a server that may have served earlier tests."""
    used: list[Server] = []

    def start(*options: str) -> Server:
        used.append(serve(*words, *options))
        return used[-1]

    yield start
    for server in used:
        adopt_helpers(server)


def test_a_script_and_the_application(start):
    server = start()
    with server.http() as client:
        for number in range(5):
            assert do(client, HEAD + f"echo {number}").body == b"%d\n" % number
            assert client.get(f"/{number}").json()["path"] == f"/{number}"
    lines = server.wait_requests(10)
    assert [line.app for line in lines] == [-1, 0] * 5


def test_pipelined(start):
    client = start().http()
    for number in range(10):
        send(client, HEAD + f"sleep 0.0{number % 3}; echo {number}")
        client.send_request(target=f"/{number}")
    for number in range(10):
        assert client.read_response().body == b"%d\n" % number
        assert client.read_response().json()["path"] == f"/{number}"


def test_more_scripts_at_once_than_there_are_cores(start, notes):
    server = start()
    code = "echo start >>$NOTES; sleep 0.7; echo end >>$NOTES; " + HEAD + "echo {}"
    clients = [begin(server, code.format(number)) for number in range(8)]
    # Nobody waits for them.
    assert server.get("/app").json()["path"] == "/app"
    for number, client in enumerate(clients):
        assert client.read_response().body == b"%d\n" % number
    assert most_at_once(notes.lines()) == 8


def test_a_body_goes_in_while_the_answer_comes_out(start):
    with start("--post-buffering", "64k").http() as client:
        body = bytes(range(256)) * 12_000
        assert do(client, HEAD + "exec cat", method="POST", body=body).body == body
        assert says(client, r"X-A: 1\n\nnext").body == b"next"


def test_output_comes_as_it_is_written(start, gate):
    client = begin(start(), f"{HEAD}echo one; head -c 1 {gate.path} >/dev/null; echo two")
    head = client.read_head()
    assert client.read_chunk() == b"one\n"
    gate.release()
    assert client.read_body(head).body == b"two\n"


def test_a_slow_reader_holds_up_nobody(start):
    server = start()
    client = server.http(receive_buffer=4096)
    send(client, HEAD + "head -c 10000000 /dev/zero")
    head = client.read_head()
    assert server.get("/app").json()["path"] == "/app"
    assert do(server, HEAD + "echo x").body == b"x\n"
    assert len(client.read_body(head).body) == 10_000_000


def test_output_that_is_no_response(start):
    with start().http() as client:
        assert says(client, "no head").status == 502
        assert client.get("/app").json()["path"] == "/app"


def test_a_local_redirect_to_the_application(start):
    with start().http() as client:
        code = r"printf 'Location: /there?x=1\n\n'"
        found = do(client, code, method="POST", body=b"body").json()
        assert (found["method"], found["path"], found["query"]) == ("GET", "/there", "x=1")
        assert says(client, r"X-A: 1\n\nnext").body == b"next"


def test_a_client_that_leaves(start, notes):
    server = start()
    client = begin(server, PID + "sh -c 'echo pid $$ >>$NOTES; sleep 1000; :' & sleep 1000")
    notes.wait(2)
    client.close()
    notes.wait_gone()
    assert server.wait_requests(1)[0].cancelled == "client gone"


def test_silence_is_504(start, notes):
    server = start("--cgi-timeout", "0.5")
    assert do(server, PID + "sleep 1000").status == 504
    notes.wait_gone()


def test_a_request_timeout_is_504(start, notes):
    server = start("--request-timeout", "/cgi-bin=0.5")
    assert do(server, PID + "while :; do sleep 0.05; done").status == 504
    notes.wait_gone()


def test_a_queue(start, notes):
    server = start("--cgi-max-processes", "2")
    code = "echo start >>$NOTES; sleep 0.1; echo end >>$NOTES; " + HEAD + "echo {}"
    clients = [begin(server, code.format(number)) for number in range(6)]
    for number, client in enumerate(clients):
        assert client.read_response().body == b"%d\n" % number
    assert most_at_once(notes.lines()) == 2


def test_a_reload_and_a_stop(words, beside, gate, notes):
    server = beside(*words)
    client = begin(server, PID + f"{HEAD}echo one; head -c 1 {gate.path} >/dev/null; echo two")
    head = client.read_head()
    server.reload()
    assert do(server, HEAD + "echo new").body == b"new\n"
    gate.release()
    assert client.read_body(head).body == b"one\ntwo\n"
    until(lambda: len(server.workers()) == 1, "the old worker has left")
