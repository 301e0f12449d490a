"""uwsgi signals: where and when handlers run, who waits for them, and what raises them.

The application writes `event WORKER what` into the log: with all cores busy nobody can ask it.
"""

from __future__ import annotations

import re
import signal
import socket

import pytest

from tests.harness.waiting import until

NOTE, SLOW, BAD, CURIOUS, EXIT, BLOCKING = 30, 31, 32, 33, 34, 35
ALL, SECOND, LATE = 40, 41, 42
UNKNOWN = 99
TICK_S = 0.05

FAILS = (
    r"Traceback",
    r"^ValueError: bad on purpose",
    r"exception in the handler",
    r"error managing signal \d+ on worker \d+$",
)


@pytest.fixture
def server(serve_engine):
    return serve_engine("contract_uwsgi_signals", cores=2)


def events(server, what):
    """The workers in which something has happened, in order, once per time."""
    return [int(n) for n in re.findall(rf"^event (\d+) {what}", server.log_text(), re.MULTILINE)]


def all_events(server):
    return re.findall(r"^event \d+ (.*)", server.log_text(), re.MULTILINE)


def wait_for(server, what, count=1):
    return until(
        lambda: len(found := events(server, what)) >= count and found, f"{count} times {what}"
    )


def raise_signal(server, number):
    assert server.get(f"/raise?n={number}").body == b"raised"


def stop_at_once(server):
    server.signal(signal.SIGINT)
    # The kernel makes one of two that come together.
    server.wait_for_log("a second signal ends them at once")
    server.signal(signal.SIGINT)


def evaluate(server, call):
    return server.get(f"/eval?call={call}").body.decode()


class TestHandlers:
    def test_runs_in_the_worker(self, server):
        raise_signal(server, NOTE)
        assert wait_for(server, f"handled {NOTE}") == [1]

    def test_raised_by_a_thread(self, server):
        assert server.get(f"/raise_in_thread?n={NOTE}").body == b"raised"
        assert wait_for(server, f"handled {NOTE}") == [1]

    def test_each_one_counts(self, server):
        for _ in range(20):
            raise_signal(server, NOTE)
        assert len(wait_for(server, f"handled {NOTE}", 20)) == 20

    def test_while_all_cores_are_busy(self, server):
        clients = [server.http(), server.http()]
        clients[0].send_request(target=f"/wait_for_handler?n={NOTE}")
        wait_for(server, "waits")
        clients[1].send_request(target=f"/wait_for_handler?n={NOTE}&raise=1")
        for client in clients:
            assert client.read_response().body == b"handled"

    def test_a_handler_that_fails(self, serve_engine):
        server = serve_engine("contract_uwsgi_signals", cores=2, allow=FAILS)
        raise_signal(server, BAD)
        server.wait_for_log(rf"exception in the handler of uwsgi signal {BAD}:\nTraceback")
        server.wait_for_log("ValueError: bad on purpose")
        date = r"\w{3} \w{3} [ \d]\d \d\d:\d\d:\d\d \d{4}"
        server.wait_for_log(rf"{date} - error managing signal {BAD} on worker 1\n")
        raise_signal(server, EXIT)
        server.wait_for_log(f"error managing signal {EXIT} on worker 1")
        raise_signal(server, NOTE)
        assert wait_for(server, f"handled {NOTE}") == [1]

    def test_a_signal_without_handler(self, serve_engine):
        server = serve_engine("contract_uwsgi_signals", cores=2, allow=FAILS)
        raise_signal(server, UNKNOWN)
        server.wait_for_log(f"signal {UNKNOWN}")
        raise_signal(server, NOTE)
        wait_for(server, f"handled {NOTE}")

    def test_there_is_no_request(self, server):
        raise_signal(server, CURIOUS)
        wait_for(server, "silent")
        assert all_events(server) == ["silent []"]

    def test_no_request_line(self, server):
        raise_signal(server, NOTE)
        wait_for(server, f"handled {NOTE}")
        raise_signal(server, NOTE)
        # Not in the log of the test that comes next.
        wait_for(server, f"handled {NOTE}", 2)
        assert len(server.wait_requests(2)) == 2


class TestSuspendedHandlers:
    @pytest.fixture
    def server(self, suspending, serve_engine):
        return serve_engine("contract_uwsgi_signals", cores=2)

    def test_overlap_with_each_other_and_with_requests(self, server):
        for _ in range(3):
            raise_signal(server, SLOW)
        wait_for(server, "slow ends", 3)
        assert all_events(server) == ["slow begins"] * 3 + ["slow ends"] * 3

    def test_a_file_monitor(self, suspending, fresh_engine, tmp_path):
        """Its handler suspends while both cores wait for another one."""
        watched = tmp_path / "watched"
        env = {"WATCHED": str(watched)}
        server = fresh_engine("contract_uwsgi_signals", cores=2, env=env)
        clients = [server.http() for _ in range(2)]
        for client in clients:
            client.send_request(target=f"/wait_for_handler?n={NOTE}")
        wait_for(server, "waits", 2)
        watched.write_text("it is there")
        wait_for(server, "changed")
        server.signal(signal.SIGTERM)
        for client in clients:
            client.close()
        assert server.wait_exit() == 0
        assert events(server, "changed") == [1]

    def test_a_stop_lets_them_end(self, suspending, fresh_engine):
        server = fresh_engine("contract_uwsgi_signals", cores=2)
        raise_signal(server, SLOW)
        wait_for(server, "slow begins")
        server.signal(signal.SIGTERM)
        assert server.wait_exit() == 0
        assert events(server, "slow ends") == [1]

    def test_the_end_of_the_mercy_cancels_them(self, suspending, fresh_engine):
        server = fresh_engine(
            "contract_uwsgi_signals", "--worker-reload-mercy", "0", cores=2, env={"SLOW_S": "60"}
        )
        raise_signal(server, SLOW)
        wait_for(server, "slow begins")
        server.signal(signal.SIGINT)
        assert server.wait_exit() == 0
        assert all_events(server)[-1].startswith("slow Cancelled")
        assert server.count_log(rf"the handler of signal {SLOW} was cancelled: stop$") == 1

    def test_their_stacks_are_shown(self, suspending, fresh_engine):
        server = fresh_engine("contract_uwsgi_signals", cores=2, env={"SLOW_S": "60"})
        raise_signal(server, SLOW)
        wait_for(server, "slow begins")
        server.signal(signal.SIGUSR2, server.worker())
        server.wait_for_log(rf"core \d+: handler of signal {SLOW}, \d+ ms old, \d+ ms left")
        server.wait_for_log(r"in slow\n")
        stop_at_once(server)
        assert server.wait_exit() == 0


@pytest.mark.engines("none")
class TestPlainHandlers:
    def test_run_one_after_the_other(self, server):
        for _ in range(3):
            raise_signal(server, BLOCKING)
        wait_for(server, "blocking ends", 3)
        assert all_events(server) == ["blocking begins", "blocking ends"] * 3

    def test_cannot_be_suspended(self, serve_engine):
        allow = (*FAILS, "slow RuntimeError", "RuntimeError: uwsgi.suspend")
        server = serve_engine("contract_uwsgi_signals", cores=2, allow=allow)
        raise_signal(server, SLOW)
        server.wait_for_log(r"uwsgi\.suspend\(\) needs a suspend engine")
        server.wait_for_log(f"error managing signal {SLOW} on worker 1")


class TestWaiting:
    def test_for_one(self, server):
        answer = server.get(f"/wait?n={NOTE}&after={ALL}:0.05&after={NOTE}:0.2").body
        # Its handler has run first.
        assert answer == f"{NOTE} {NOTE}".encode()
        assert all_events(server) == ["waits", f"handled {ALL}", f"handled {NOTE}"]

    def test_for_any(self, server):
        answer = server.get(f"/wait?after={ALL}:0.05").body
        assert answer == f"{ALL} {ALL}".encode()

    def test_without_one_nothing_was_received(self, server):
        assert server.get("/received").body == b"-1"

    def test_a_stop_ends_it(self, fresh_engine):
        server = fresh_engine("contract_uwsgi_signals", cores=2)
        client = server.http()
        client.send_request(target=f"/wait?n={NOTE}")
        wait_for(server, "waits")
        stop_at_once(server)
        assert client.read_response().status == 503
        assert server.wait_exit() == 0


class TestTargets:
    @pytest.fixture
    def server(self, serve_engine):
        return serve_engine("contract_uwsgi_signals", "--processes", "3", cores=2)

    def test_every_worker(self, server):
        raise_signal(server, ALL)
        assert sorted(wait_for(server, f"handled {ALL}", 3)) == [1, 2, 3]

    def test_one_worker(self, server):
        for _ in range(6):
            raise_signal(server, SECOND)
        assert wait_for(server, f"handled {SECOND}", 6) == [2] * 6

    def test_any_worker(self, server):
        for _ in range(6):
            raise_signal(server, NOTE)
        wait_for(server, f"handled {NOTE}", 6)
        raise_signal(server, ALL)
        wait_for(server, f"handled {ALL}", 3)
        assert len(events(server, f"handled {NOTE}")) == 6


class TestRegistering:
    def test_in_a_worker(self, server):
        assert server.get("/register_late").body == b"registered"
        wait_for(server, "late", 3)
        raise_signal(server, LATE)
        assert wait_for(server, "late", 4) == [1] * 4

    @pytest.mark.parametrize(
        ("call", "says"),
        [
            ("uwsgi.register_signal(256,'',note)", "from 0 to 255, not 256"),
            ("uwsgi.register_signal(-1,'',note)", "from 0 to 255, not -1"),
            ("uwsgi.register_signal(50,'worker3',note)", "there are 1 workers"),
            ("uwsgi.register_signal(50,'nobody',note)", "'nobody'|\"nobody\""),
            ("uwsgi.register_signal(50,'mule1',note)", "no mules"),
            ("uwsgi.register_signal(50,'spooler',note)", "no spoolers"),
            ("uwsgi.register_signal(50,'',50)", "not callable, but a int"),
            ("uwsgi.signal(300)", "from 0 to 255, not 300"),
            ("uwsgi.add_timer(50,0)", "unable to add timer"),
            ("uwsgi.add_timer(50,float('nan'))", "unable to add timer"),
            ("uwsgi.add_rb_timer(50,1,-1)", "unable to add rb_timer"),
            ("uwsgi.add_cron(50,60,-1,-1,-1,-1)", "60 is no minute"),
            ("uwsgi.add_cron(50,0,0,0,-1,-1)", "0 is no day"),
            ("uwsgi.add_file_monitor(50,'')", "unable to add file monitor"),
        ],
    )
    def test_what_cannot_be_is_refused_at_once(self, server, call, says):
        answer = evaluate(server, call)
        assert answer.startswith("ValueError: "), answer
        assert re.search(says, answer), answer

    def test_without_a_master(self, serve_engine):
        server = serve_engine("contract_locks", "--master=false", cores=2)
        says = "ValueError: unable to register signal: there is no master (--master)"
        assert server.get("/register").body.decode() == says
        server.wait_for_log("you cannot register signals without a master")

    def test_decorators(self, server):
        assert evaluate(server, f"uwsgi.signal_registered({SLOW})") == "True"
        assert evaluate(server, "decorators.get_free_signal()") == "0"
        assert "started" in evaluate(server, "decorators.postfork_chain")
        # The function stays what it is, and a thread is one.
        assert evaluate(server, "decorators.signal(60)(note)%20is%20note") == "True"
        assert evaluate(server, "decorators.thread(note)(61).join()") == "None"
        assert wait_for(server, "handled 61") == [1]
        assert evaluate(server, "decorators.lock(uwsgi.is_locked)()") == "True"
        assert evaluate(server, "uwsgi.is_locked()") == "False"

    @pytest.mark.parametrize(
        "call",
        [
            "mulefunc(note)(1)",
            "mulefunc(2)(note)(1)",
            "mule(1)",
            "farm('a')",
            "spool(note)({})",
            "spool(pass_arguments=True)(note).spool()",
            "spoolraw(note).spool()",
            "rpc('f')(note)",
        ],
    )
    def test_decorators_for_what_is_not_there(self, server, call):
        answer = evaluate(server, f"decorators.{call}")
        assert answer.startswith("NotImplementedError: "), answer
        assert re.search(r"greenloom has no|it has no", answer), answer

    def test_postfork(self, fresh_engine):
        server = fresh_engine("contract_uwsgi_signals", "--processes", "2", cores=2)
        assert sorted(wait_for_start(server, "started 0", 2)) == [1, 2]
        assert wait_for_start(server, "second started", 1) == [2]


def wait_for_start(server, what, count):
    """Of lines that were written before the server was ready."""

    def found():
        text = server.log_path.read_text()
        return [int(n) for n in re.findall(rf"^event (\d+) {what}", text, re.MULTILINE)]

    return until(lambda: len(workers := found()) >= count and workers, what)


class TestRemote:
    @pytest.fixture
    def server(self, serve_engine):
        return serve_engine("contract_uwsgi_signals", cores=2, uwsgi="127.0.0.1:0")

    def test_another_instance(self, server, fresh_engine):
        other = fresh_engine("contract_uwsgi_signals", cores=2)
        node = "{}:{}".format(*server.uwsgi_address)
        assert other.get(f"/raise_elsewhere?n={NOTE}&node={node}").body == b"raised"
        wait_for(server, f"handled {NOTE}")
        assert not events(other, "handled")

    def test_nobody_there(self, server):
        with socket.create_server(("127.0.0.1", 0)) as closed:
            node = "{}:{}".format(*closed.getsockname())
        answer = server.get(f"/raise_elsewhere?n={NOTE}&node={node}").body.decode()
        assert answer == f"OSError: unable to deliver signal {NOTE} to node {node}"


class TestTimers:
    """That ticks come once each: of a timer that ran twice, twice as many would come."""

    def one_timer(self, server):
        """Whether the ticks of some window come at their pace, and not at twice that."""

        def times():
            found = re.findall(r"^event \d+ tick ([\d.]+)", server.log_text(), re.MULTILINE)
            return [float(at) for at in found]

        def in_time():
            ticks = sorted(times())[-21:]
            return len(ticks) == 21 and 0.75 < (ticks[-1] - ticks[0]) / (20 * TICK_S) < 1.5

        until(in_time, "ticks at their pace")

    @pytest.fixture
    def env(self):
        return {"TICK_S": str(TICK_S)}

    def test_a_reload_leaves_one(self, fresh_engine, env):
        server = fresh_engine("contract_uwsgi_signals", "--processes", "2", cores=2, env=env)
        for generation in (2, 3):
            server.signal(signal.SIGHUP)
            server.wait_for_log(f"generation {generation},")
        server.begin()
        self.one_timer(server)

    def test_lazy_apps_have_one(self, fresh_engine, env):
        server = fresh_engine(
            "contract_uwsgi_signals", "--lazy-apps", "--processes", "3", cores=2, env=env
        )
        self.one_timer(server)
        raise_signal(server, ALL)
        assert sorted(wait_for(server, f"handled {ALL}", 3)) == [1, 2, 3]

    def test_while_all_cores_are_busy(self, fresh_engine, env):
        server = fresh_engine("contract_uwsgi_signals", cores=2, env=env)
        clients = [server.http(), server.http()]
        for client in clients:
            client.send_request(target=f"/wait_for_handler?n={UNKNOWN}")
        wait_for(server, "waits", 2)
        server.begin()
        self.one_timer(server)
        for client in clients:
            client.close()
