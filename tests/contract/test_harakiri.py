"""harakiri: a worker whose loop is blocked is replaced after a report, and nobody else is."""

from __future__ import annotations

import os
import re
import signal
import time

import pytest

from tests.harness import procs
from tests.harness.http import Malformed, Truncated
from tests.harness.status import stats
from tests.harness.uwsgi import packet, variables
from tests.harness.waiting import until

HARAKIRI = ("--harakiri", "500ms")
QUIET = ("--block-warning", "0")
"""Each stack is in the log once: that of code that blocks would be there earlier."""
MUCH_LONGER_S = 1.5
"""So long innocents are watched. The time itself is no shorter, since on a busy machine a loop that
never waits may have no CPU for some tenths of a second."""
NEVER_BACK = {
    "spin": "spin_inner",
    "sleep": "sleep_inner",
    "match": "match_inner",
    "consume": "consume_inner",
}
"""How a request blocks, and the function that its stack must name."""

REPORT = r"\*\*\* HARAKIRI ON WORKER (\d+) \(pid: (\d+), try: 1, graceful: no\) \*\*\*$"
TRIGGERED = r"HARAKIRI triggered by worker (\d+) core (\d+) !!!$"
DIED = r"^DAMN ! worker (\d+) \(pid: (\d+)\) died, killed by signal 9 :\( trying respawn"
NAMED = r"HARAKIRI \[core (\d+)\] 127\.0\.0\.1 - GET (\S+) since \d+ \((.+)\)$"


@pytest.fixture
def serve_watched(fresh_engine, gate):
    def start(*options, cores=8, **how):
        env = gate.env | how.pop("env", {})
        return fresh_engine(
            "contract_harakiri", *(options or HARAKIRI), *QUIET, cores=cores, env=env, **how
        )

    return start


def wait(server, target, count=1):
    """Requests that stand where they wait."""
    clients = [server.http() for _ in range(count)]
    for client in clients:
        client.send_request(target=target)
    # Handled in the order of arrival: when this one is answered, those are there.
    assert server.get("/hello").body == b"hello\n"
    return clients


def is_cut(client):
    """The connection ends, and what came is no whole answer."""
    try:
        client.read_response()
    except (Truncated, Malformed, ConnectionError, EOFError):
        return True
    return False


def named(server):
    """The requests in flight, as the report names them, the guilty one first."""
    return [
        (int(core), uri, does) for core, uri, does in re.findall(NAMED, server.log_text(), re.M)
    ]


def wait_for_the_end(server, pid):
    died = server.wait_for_log(DIED)
    assert int(died[2]) == pid
    server.wait_for_log(r"^Respawned greenloom worker \d+ \(new pid: \d+\)")
    until(lambda: pid not in server.workers() and server.workers(), "another worker")


def no_harakiri(server, workers):
    assert server.count_log("HARAKIRI") == 0, server.log_text()
    assert server.workers() == workers


def killed_later(fresh_engine, gate, block_warning):
    """A server whose request has blocked after a wait that only a hosting loop knows of."""
    options = ("--harakiri", "1500ms", "--block-warning", block_warning)
    server = fresh_engine("contract_harakiri", *options, cores=4, env=gate.env)
    pid = server.worker()
    client = server.http()
    client.send_request(target="/spin_later")
    wait_for_the_end(server, pid)
    assert is_cut(client)
    return server


def test_one_that_a_hosting_loop_has_resumed_is_named(fresh_engine, gate):
    server = killed_later(fresh_engine, gate, "0.1")
    assert named(server) == [(int(core_of(server)), "/spin_later", "has control")]


def test_its_stack_is_there_without_a_warning(fresh_engine, gate):
    server = killed_later(fresh_engine, gate, "0")
    assert server.count_log(r"^core \d+: GET /spin_later, \d+ ms old, runs$") == 1
    stands_there(server, "spin")


def stands_there(server, how):
    """The log says where the worker stands: once, or a second time if it answers late itself."""
    assert server.count_log(rf"\bin {NEVER_BACK[how]}$") in (1, 2)


@pytest.mark.parametrize("how", NEVER_BACK)
class TestBlocked:
    def test_alone(self, serve_watched, how):
        server = serve_watched()
        pid = server.worker()
        self.is_replaced(server, pid, how)
        assert named(server) == [(int(core_of(server)), f"/{how}", "has control")]

    def test_with_neighbours(self, serve_watched, how):
        server = serve_watched()
        pid = server.worker()
        neighbours = wait(server, "/yielding?name=neighbour", 3)
        self.is_replaced(server, pid, how)
        guilty, *others = named(server)
        assert guilty == (int(core_of(server)), f"/{how}", "has control")
        assert [(uri, does) for _, uri, does in others] == [
            ("/yielding?name=neighbour", "waiting")
        ] * 3
        assert len({core for core, _, _ in named(server)}) == 4
        for client in neighbours:
            assert is_cut(client)

    def is_replaced(self, server, pid, how):
        client = server.http()
        client.send_request(target=f"/{how}")
        wait_for_the_end(server, pid)
        text = server.log_text()
        # The stack is there before the kill.
        order = [
            REPORT,
            TRIGGERED,
            rf"\bin {NEVER_BACK[how]}$",
            r"^HARAKIRI: worker 1 .* is killed$",
            DIED,
        ]
        at = [re.search(pattern, text, re.M) for pattern in order]
        assert all(at), [p for p, found in zip(order, at, strict=True) if not found] + [text]
        assert [found.start() for found in at] == sorted(found.start() for found in at)
        assert (at[0][1], int(at[0][2])) == ("1", pid)
        assert server.count_log(REPORT) == server.count_log(DIED) == 1
        assert is_cut(client)
        assert server.get("/hello").body == b"hello\n"


def core_of(server):
    return re.search(TRIGGERED, server.log_text(), re.M)[2]


class TestReports:
    def test_stacks_of_suspended_neighbours(self, suspending, serve_watched):
        server = serve_watched()
        pid = server.worker()
        wait(server, "/suspending")
        server.http().send_request(target="/spin")
        wait_for_the_end(server, pid)
        assert server.count_log(r"\bin suspending_inner$") >= 1

    @pytest.mark.engines("ugreen")
    def test_stacks_of_suspended_neighbours_in_a_dump(self, serve_watched):
        """The interpreter is out of reach, and they have thread states of their own."""
        server = serve_watched()
        pid = server.worker()
        wait(server, "/suspending")
        server.http().send_request(target="/consume")
        wait_for_the_end(server, pid)
        assert server.count_log(r"\bin suspending_inner$") == 1

    def test_a_crowd(self, serve_watched):
        """All are named: 99 neighbours of the one that blocks."""
        server = serve_watched(cores=101)
        pid = server.worker()
        targets = {f"/yielding?name={number}" for number in range(99)}
        for target in targets:
            server.http().send_request(target=target)
        assert server.get("/hello").body == b"hello\n"
        server.http().send_request(target="/spin?name=guilty")
        wait_for_the_end(server, pid)
        guilty, *others = named(server)
        assert guilty[1:] == ("/spin?name=guilty", "has control")
        assert {uri for _, uri, _ in others} == targets
        assert len(others) == 99

    def test_verbose(self, serve_watched):
        server = serve_watched(*HARAKIRI, "--harakiri-verbose")
        pid = server.worker()
        server.http().send_request(target="/sleep")
        wait_for_the_end(server, pid)
        assert server.count_log(r"^HARAKIRI: -- syscall> \S+") == 1
        assert server.count_log(r"^HARAKIRI: -- wchan> \S+") == 1

    def test_an_application_with_a_handler_of_its_own(self, serve_watched):
        server = serve_watched(env={"TAKE_SIGUSR2": "1"})
        pid = server.worker()
        server.http().send_request(target="/spin")
        wait_for_the_end(server, pid)
        stands_there(server, "spin")

    def test_a_target_that_looks_like_a_line(self, serve_watched):
        server = serve_watched(uwsgi="127.0.0.1:0")
        pid = server.worker()
        target = "/spin?\n\x1b[31m\xe2\x80\xa8HARAKIRI triggered by worker 1 core 999 !!!\n"
        pairs = [(k, v) for k, v in variables(path="/spin") if k != "REQUEST_URI"]
        server.packets().send(packet([*pairs, ("REQUEST_URI", target)]))
        wait_for_the_end(server, pid)
        (line,) = [line for line in server.log_lines() if "HARAKIRI [core" in line]
        assert line.isprintable()
        assert " - GET /spin?\\n\\x1b[31m\\xe2\\x80\\xa8HARAKIRI" in line
        assert core_of(server) != "999"

    def test_many_cores(self, serve_watched):
        """Whatever else there is: the stack of the one that blocks is there."""
        server = serve_watched(cores=400)
        pid = server.worker()
        wait(server, "/yielding", 150)
        server.http().send_request(target="/consume")
        wait_for_the_end(server, pid)
        assert server.count_log(r"\bin consume_inner$") == 1


class TestInnocent:
    @pytest.mark.parametrize("kind", ["asleep_in_one", "asleep_in_short"])
    def test_waiting(self, serve_watched, kind):
        """Much longer than harakiri, with and without a sign of life of its own."""
        server = serve_watched()
        workers = server.workers()
        assert server.get(f"/{kind}?seconds={MUCH_LONGER_S}").body == b"slept\n"
        no_harakiri(server, workers)

    def test_suspended(self, suspending, serve_watched, gate):
        server = serve_watched()
        workers = server.workers()
        clients = wait(server, "/suspending", 4)
        pass_time(MUCH_LONGER_S)
        gate.release(4)
        for client in clients:
            assert client.read_response().body == b"suspended\n"
        no_harakiri(server, workers)

    def test_idle(self, serve_watched):
        """With a connection that is kept, and nothing else."""
        server = serve_watched()
        workers = server.workers()
        client = server.http()
        assert client.get("/hello").body == b"hello\n"
        pass_time(MUCH_LONGER_S)
        assert client.get("/hello").body == b"hello\n"
        no_harakiri(server, workers)

    def test_each_request_has_the_whole_time(self, serve_watched):
        """The worker's loop never waits, and no request takes too long."""
        server = serve_watched("--harakiri", "600ms")
        workers = server.workers()
        clients = [server.http() for _ in range(8)]
        for client in clients:
            client.send_request(target="/spin?seconds=0.25")
        for client in clients:
            assert client.read_response().body == b"spun\n"
        no_harakiri(server, workers)

    def test_slow_clients(self, serve_watched):
        server = serve_watched()
        workers = server.workers()
        reader = server.http(receive_buffer=4096)
        reader.send_request(target="/large")
        writer = server.http()
        writer.send(b"POST /body HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nab")
        pass_time(MUCH_LONGER_S)
        writer.send(b"cd")
        assert writer.read_response().body == b"4\n"
        reader.close()
        no_harakiri(server, workers)

    def test_loading(self, serve_watched):
        """An application may take as long as it needs to be there."""
        env = {"LOAD_SECONDS": str(MUCH_LONGER_S)}
        server = serve_watched(*HARAKIRI, "--lazy-apps", env=env)
        assert server.get("/hello").body == b"hello\n"
        no_harakiri(server, server.workers())

    def test_stopped_without_a_request(self, serve_watched):
        server = serve_watched()
        workers = server.workers()
        assert server.get("/hello").body == b"hello\n"
        # The answer is there before the worker has done with the request.
        until(lambda: procs.state(server.worker()) == "S", "its loop waits")
        server.signal(signal.SIGSTOP, server.worker())
        pass_time(MUCH_LONGER_S)
        server.signal(signal.SIGCONT, server.worker())
        assert server.get("/hello").body == b"hello\n"
        no_harakiri(server, workers)

    def test_all_stopped(self, serve_watched, gate):
        """As a machine that sleeps: nobody could have given a sign of life."""
        server = serve_watched()
        workers = server.workers()
        clients = wait(server, "/yielding", 2)
        everybody = [server.pid, *server.remember()]
        for pid in everybody:
            os.kill(pid, signal.SIGSTOP)
        pass_time(MUCH_LONGER_S)
        for pid in everybody:
            os.kill(pid, signal.SIGCONT)
        assert server.get("/hello").body == b"hello\n"
        gate.release(2)
        for client in clients:
            assert client.read_response().body == b"yielded\n"
        assert server.workers() == workers
        assert server.count_log("is killed$") == 0


class TestWhichOne:
    """The log says whether harakiri or the request's timeout has ended a request."""

    OPTIONS = ("--harakiri", "1500ms", "--request-timeout", "0.5")

    def test_one_that_waits(self, serve_watched):
        server = serve_watched(*self.OPTIONS)
        workers = server.workers()
        assert server.get("/asleep_in_one?seconds=30").status == 504
        (line,) = [r for r in server.wait_requests(1) if r.uri.startswith("/asleep_in_one")]
        assert line.cancelled == "deadline"
        no_harakiri(server, workers)

    def test_one_that_blocks(self, serve_watched):
        server = serve_watched(*self.OPTIONS)
        pid = server.worker()
        server.http().send_request(target="/consume")
        wait_for_the_end(server, pid)
        assert server.count_log(TRIGGERED) == 1
        assert server.count_log("cancelled") == 0


def pass_time(seconds):
    """What must not happen in that time cannot be waited for."""
    end = time.monotonic() + seconds
    until(lambda: time.monotonic() > end, "time passes", seconds + 5)


def test_several_workers(serve_watched):
    """Exactly the one that is blocked is replaced."""
    server = serve_watched(*HARAKIRI, "--processes", "4")
    before = set(server.workers())
    assert len(before) == 4
    server.http().send_request(target="/spin")
    died = server.wait_for_log(DIED)
    until(lambda: len(server.workers()) == 4, "four workers again")
    after = set(server.workers())
    assert before - after == {int(died[2])}
    for _ in range(8):
        assert server.get("/hello").body == b"hello\n"
    assert server.count_log(REPORT) == 1


def test_a_stopped_worker(serve_watched):
    """It says nothing, so what is known comes from outside."""
    server = serve_watched()
    pid = server.worker()
    wait(server, "/yielding", 2)
    # Not in the middle of the turn that has answered.
    server.wait_requests(1)
    until(lambda: procs.state(pid) == "S", "the loop waits")
    server.signal(signal.SIGSTOP, pid)
    wait_for_the_end(server, pid)
    assert server.count_log(r"its process is T \(stopped\)$") == 1
    assert server.count_log(r"HARAKIRI triggered by worker 1, by none of its cores !!!$") == 1
    assert [(uri, does) for _, uri, does in named(server)] == [("/yielding", "waiting")] * 2
    assert server.get("/hello").body == b"hello\n"


def test_a_worker_that_is_to_leave(serve_watched):
    """The mercy is for requests that end some day."""
    server = serve_watched(*HARAKIRI, "--worker-reload-mercy", "60")
    pid = server.worker()
    server.http().send_request(target="/spin")
    server.signal(signal.SIGTERM)
    assert server.wait_exit(20) == 0
    assert server.count_log(rf"HARAKIRI ON WORKER 1 \(pid: {pid},") == 1


def test_again_and_again(serve_watched):
    server = serve_watched("--harakiri", "300ms", "--stats", "127.0.0.1:0")
    for _ in range(3):
        server.begin()
        pid = server.worker()
        server.http().send_request(target="/consume")
        wait_for_the_end(server, pid)
        assert server.count_log(REPORT) == 1
        assert server.get("/hello").body == b"hello\n"
    assert [worker["harakiri_count"] for worker in stats(server)["workers"]] == [3]


class TestUserHarakiri:
    """A request bounds its own time."""

    CANCELLED = r"HARAKIRI \(user\): core \d+ is cancelled: GET /allowed\?"

    def test_suspended(self, serve_watched):
        """It ends alone."""
        server = serve_watched("--disable-logging")
        workers = server.workers()
        other = wait(server, "/yielding")
        assert server.get("/allowed?allows=1&then=yielding").status == 504
        server.wait_for_log(self.CANCELLED)
        assert server.workers() == workers
        assert server.count_log("HARAKIRI ON WORKER") == 0
        other[0].close()

    @pytest.mark.parametrize("how", ["spin", "consume"])
    @pytest.mark.parametrize("options", [(), ("--harakiri", "60")])
    def test_blocked(self, fresh_engine, gate, how, options):
        quiet = (*QUIET, "--block-warning", "0")
        server = fresh_engine("contract_harakiri", *options, *quiet, cores=4, env=gate.env)
        pid = server.worker()
        client = server.http()
        client.send_request(target=f"/allowed?allows=1&then={how}")
        wait_for_the_end(server, pid)
        assert server.count_log(r"HARAKIRI \(user\) triggered by worker 1 core \d+ !!!$") == 1
        stands_there(server, how)
        assert is_cut(client)

    def test_taken_back(self, serve_watched):
        server = serve_watched("--harakiri", "60")
        workers = server.workers()
        target = "/allowed?allows=1,0&then=spin&seconds=1.5"
        assert server.get(target).body == b"spun\n"
        assert server.get("/allowed?allows=1,60&then=spin&seconds=1.5").body == b"spun\n"
        no_harakiri(server, workers)

    def test_it_ends_with_its_request(self, serve_watched):
        server = serve_watched("--harakiri", "60", cores=1)
        workers = server.workers()
        assert server.get("/allowed?allows=1&then=hello").body == b"hello\n"
        assert server.get("/spin?seconds=1.5").body == b"spun\n"
        no_harakiri(server, workers)

    def test_without_a_master(self, fresh_engine, gate):
        server = fresh_engine("contract_harakiri", "--master=false", cores=2, env=gate.env)
        for _ in range(2):
            assert server.get("/allowed?allows=1&then=yielding").status == 504
        said = r"^!!! unable to set user harakiri without the master process !!!$"
        assert server.count_log(said) == 1


class TestOneRequestAtATime:
    """Without async: every wait blocks."""

    @pytest.fixture
    def serve_plain(self, fresh, gate):
        return lambda *options: fresh("contract_harakiri", *options, env=gate.env)

    @pytest.mark.parametrize("how", NEVER_BACK)
    def test_blocked(self, serve_plain, how):
        server = serve_plain(*HARAKIRI)
        pid = server.worker()
        client = server.http()
        client.send_request(target=f"/{how}")
        wait_for_the_end(server, pid)
        assert named(server) == [(0, f"/{how}", "has control")]
        stands_there(server, how)
        assert is_cut(client)
        assert server.get("/hello").body == b"hello\n"

    def test_innocent(self, serve_plain):
        """A client that does not read, and a wait that the server knows of."""
        server = serve_plain(*HARAKIRI)
        workers = server.workers()
        assert server.get(f"/asleep_in_one?seconds={MUCH_LONGER_S}").body == b"slept\n"
        reader = server.http(receive_buffer=4096)
        reader.send_request(target="/large")
        pass_time(MUCH_LONGER_S)
        reader.close()
        assert server.get("/hello").body == b"hello\n"
        no_harakiri(server, workers)
