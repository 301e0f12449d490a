"""Master and workers: deaths, stops, pid files, sockets, loading, and load errors."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import stat
from collections import Counter

import pytest

from tests.harness import procs
from tests.harness.http import Client
from tests.harness.server import APPS, run
from tests.harness.waiting import until


def answering_pids(server, count=40):
    return Counter(server.get("/").json()["pid"] for _ in range(count))


class TestWorkers:
    def test_two(self, fresh):
        server = fresh("processes", "--processes", "2")
        assert len(server.workers()) == 2
        assert set(answering_pids(server)) <= set(server.workers())

    def test_both_are_used(self, fresh, gate):
        """A worker that is busy does not keep the other one from serving."""
        server = fresh("hold", "--processes", "2", env=gate.env)
        busy = server.http()
        busy.send_request(target="/block")
        for _ in range(20):
            assert server.get("/").body == b"hello\n"
        gate.release()
        assert busy.read_response().body == b"released\n"
        assert len({r.pid for r in server.wait_requests(21)}) == 2

    def test_ids(self, fresh):
        server = fresh("processes", "--processes", "2")
        found = {server.get("/").json()["worker"] for _ in range(40)}
        assert found <= {1, 2}

    @pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
    def test_respawn(self, fresh, number):
        server = fresh("processes", "--processes", "2", allow=["(?i)signal|died|killed|error"])
        before = server.workers()
        os.kill(before[0], number)
        until(
            lambda: len(server.workers()) == 2 and before[0] not in server.workers(),
            "a new worker",
        )
        assert before[1] in server.workers()
        assert set(answering_pids(server)) <= set(server.workers())

    def test_the_only_worker_is_respawned(self, fresh):
        server = fresh("hello", "--async", "2", allow=["(?i)signal|died|killed"])
        for _ in range(2):
            old = server.worker()
            os.kill(old, signal.SIGKILL)
            until(lambda old=old: server.workers() not in ([], [old]), "a new worker")
            assert server.get("/").body == b"hello\n"

    def test_a_worker_keeps_its_id(self, fresh):
        server = fresh("processes", allow=["(?i)signal|died|killed"])
        assert server.get("/").json()["worker"] == 1
        os.kill(server.worker(), signal.SIGKILL)
        assert server.get("/").json()["worker"] == 1

    def test_respawns_are_throttled(self, fresh, tmp_path):
        """A worker that dies at once is not started thousands of times a second."""
        starts = tmp_path / "starts"
        source = (
            "import os\n"
            f"with open({str(starts)!r}, 'a') as f: f.write('x')\n"
            f"if os.path.exists({str(starts) + '.die'!r}): os._exit(1)\n"
            "def application(e, s):\n    s('200 OK', [])\n    return [b'ok']\n"
        )
        (tmp_path / "dying.py").write_text(source)
        server = fresh(
            None, "--chdir", str(tmp_path), "-w", "dying", "--lazy-apps",
            allow=["(?i)."],
        )  # fmt: skip
        (tmp_path / "starts.die").touch()
        os.kill(server.worker(), signal.SIGKILL)
        until(lambda: len(starts.read_text()) >= 2, "a second start")
        first = len(starts.read_text())
        # Still answering later: the throttle ends when the cause does.
        (tmp_path / "starts.die").unlink()

        def answers():
            try:
                return server.get("/").body == b"ok"
            except (OSError, AssertionError):
                return False

        until(answers, "the worker is back", 20)
        assert len(starts.read_text()) - first < 50


class TestStop:
    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
    def test_signals(self, fresh, modes, number):
        server = fresh("hello", *modes)
        assert server.get("/").status == 200
        server.signal(number)
        assert server.wait_exit() == 0

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    def test_asked_for_until_it_is_over(self, fresh, number):
        """Also while the interpreter of the master comes to its end."""
        server = fresh("hello")
        while server.process.poll() is None:
            server.signal(number)
        assert server.wait_exit() == 0

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    def test_a_request_in_flight_is_finished(self, fresh, gate, number):
        server = fresh("hold", "--async", "4", env=gate.env)
        client = server.http()
        client.send_request(target="/hold")
        head = client.read_head()
        assert client.read_chunk() == b"held\n"
        server.signal(number)
        until(lambda: connection_refused(server), "new connections are refused")
        gate.release()
        assert client.read_body(head).body == b"released\n"
        assert client.closed_by_peer()
        assert server.wait_exit() == 0
        assert [r.uri for r in server.log_requests()] == ["/hold"]

    def test_a_head_that_has_begun_may_be_ended(self, fresh, modes):
        server = fresh("hello", *modes)
        listening = sockets(server)
        client = server.http()
        client.send(b"GET / HTT")
        until(lambda: sockets(server) > listening, "the connection is accepted")
        server.signal(signal.SIGTERM)
        until(lambda: connection_refused(server), "new connections are refused")
        client.send(b"P/1.1\r\nHost: a\r\n\r\n")
        assert client.read_response().body == b"hello\n"
        assert client.closed_by_peer()
        assert server.wait_exit() == 0

    def test_a_blocked_request_is_finished(self, fresh, gate):
        server = fresh("hold", env=gate.env)
        client = server.http()
        client.send_request(target="/block")
        until(
            lambda: procs.state(server.worker()) == "S" and gate_opened(server, gate),
            "the application has opened the gate",
        )
        server.signal(signal.SIGTERM)
        # The worker itself cannot hear of it before the application gives it back.
        server.wait_for_log("SIGINT/SIGTERM received")
        gate.release()
        assert client.read_response().body == b"released\n"
        assert server.wait_exit() == 0

    def test_requests_in_the_queue_are_answered(self, fresh, gate):
        """Sent before the stop, accepted after it."""
        server = fresh("hold", env=gate.env)
        first = server.http()
        first.send_request(target="/block")
        until(
            lambda: procs.state(server.worker()) == "S" and gate_opened(server, gate),
            "the application has opened the gate",
        )
        queued = [server.http() for _ in range(10)]
        for client in queued:
            client.send_request(target="/")
        server.signal(signal.SIGTERM)
        server.wait_for_log("SIGINT/SIGTERM received")
        gate.release()
        assert first.read_response().body == b"released\n"
        assert [client.read_response().body for client in queued] == [b"hello\n"] * 10
        assert server.wait_exit() == 0

    def test_idle_connections_do_not_hold_up(self, fresh, modes):
        server = fresh("hello", *modes, allow=["head not complete when the worker stopped"])
        listening = sockets(server)
        clients = [server.http() for _ in range(20)]
        for client in clients[:10]:
            assert client.get("/").status == 200
        for client in clients[10:]:
            client.send(b"GET / HTT")
        until(lambda: sockets(server) >= listening + 20, "all connections are accepted")
        server.signal(signal.SIGTERM)
        assert server.wait_exit(10) == 0
        assert all(c.closed_by_peer() for c in clients[:10])
        # Those get to know why; a client may ask again after a 408.
        assert [c.read_response().status for c in clients[10:]] == [408] * 10

    def test_draining_is_bounded(self, fresh, gate):
        server = fresh(
            "hold", "--async", "2", "--worker-reload-mercy", "1", env=gate.env,
            allow=["(?i)mercy|GeneratorExit|abandon|cancel"],
        )  # fmt: skip
        client = server.http()
        client.send_request(target="/hold")
        client.read_head()
        server.signal(signal.SIGTERM)
        assert server.wait_exit(15) == 0

    def test_workers_leave_with_their_master(self, fresh, tmp_path):
        """A master that was killed leaves nothing that holds the port."""
        server = fresh("hello", "--processes", "2")
        server.remember()
        server.process.kill()
        server.process.wait()
        until(lambda: not server.leftovers(), "the workers have left")
        until(lambda: connection_refused(server), "the port is free")
        server.process.returncode = 0


def sockets(server):
    """Sockets the only worker holds: listeners, its line to the master, connections."""
    return sum("socket:" in name for name in procs.open_files(server.worker()).values())


def gate_opened(server, gate):
    return str(gate.path) in procs.open_files(server.worker()).values()


def connection_refused(server):
    """Nobody listens. A queue that is full would be a timeout, which is none of this."""
    try:
        Client(server.http_address, timeout_s=2).close()
    except (ConnectionRefusedError, FileNotFoundError):
        return True
    return False


class TestWithoutMaster:
    def test_one_process(self, fresh, modes):
        server = fresh("hello", "--master=false", *modes)
        assert server.workers() == [server.pid]
        assert server.get("/").body == b"hello\n"

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    def test_stop(self, fresh, number):
        server = fresh("hello", "--master=false")
        server.signal(number)
        assert server.wait_exit() == 0


class TestFiles:
    def test_pidfile(self, fresh, tmp_path):
        path = tmp_path / "greenloom.pid"
        server = fresh("hello", "--pidfile", str(path))
        assert int(path.read_text()) == server.pid

    def test_vacuum(self, fresh, tmp_path):
        sock, pidfile = tmp_path / "http.sock", tmp_path / "greenloom.pid"
        server = fresh("hello", "--vacuum", "--pidfile", str(pidfile), http=str(sock))
        assert server.get("/").body == b"hello\n"
        server.signal(signal.SIGTERM)
        assert server.wait_exit() == 0
        assert not sock.exists()
        assert not pidfile.exists()

    def test_vacuum_is_on_by_default(self, fresh, tmp_path):
        sock = tmp_path / "http.sock"
        server = fresh("hello", http=str(sock))
        server.signal(signal.SIGTERM)
        assert server.wait_exit() == 0
        assert not sock.exists()

    def test_vacuum_leaves_the_socket_of_a_successor(self, fresh, tmp_path):
        sock = tmp_path / "http.sock"
        server = fresh("hello", http=str(sock))
        sock.unlink()
        with socket.socket(socket.AF_UNIX) as other:
            other.bind(str(sock))
            server.signal(signal.SIGTERM)
            assert server.wait_exit() == 0
            assert sock.exists()

    def test_without_vacuum_the_socket_stays(self, fresh, tmp_path):
        sock = tmp_path / "http.sock"
        server = fresh("hello", "--vacuum=false", http=str(sock))
        server.signal(signal.SIGTERM)
        assert server.wait_exit() == 0
        assert sock.exists()
        # And is taken over by the next server.
        successor = fresh("hello", http=str(sock))
        assert successor.get("/").body == b"hello\n"
        successor.signal(signal.SIGTERM)
        assert successor.wait_exit() == 0
        assert not sock.exists()

    @pytest.mark.parametrize(("given", "mode"), [("660", 0o660), ("600", 0o600), ("666", 0o666)])
    def test_chmod_socket(self, fresh, tmp_path, given, mode):
        sock = tmp_path / "http.sock"
        server = fresh("hello", f"--chmod-socket={given}", http=str(sock))
        assert stat.S_IMODE(sock.stat().st_mode) == mode
        assert server.get("/").body == b"hello\n"

    def test_several_listeners(self, fresh, tmp_path):
        sock = str(tmp_path / "http.sock")
        server = fresh("hello", "--http-socket", sock, uwsgi="127.0.0.1:0")
        assert [listener.kind for listener in server.listeners] == ["TCP", "TCP", "UNIX"]
        assert server.get("/").body == b"hello\n"
        assert server.packets().ask().body == b"hello\n"
        with Client(sock) as client:
            assert client.get("/").body == b"hello\n"


class TestLoadErrors:
    def refused(self, *arguments):
        outcome = run("--http-socket", "127.0.0.1:0", *arguments)
        assert outcome.returncode == 22, outcome.stderr
        return outcome.stderr + outcome.stdout

    def test_an_exception_names_file_and_line(self):
        text = self.refused("--chdir", str(APPS / "broken"), "-w", "app")
        assert "broken on purpose" in text
        assert re.search(r"broken/app\.py.{0,10}(line |:)5", text), text

    def test_a_syntax_error_names_file_and_line(self):
        text = self.refused("--wsgi-file", str(APPS / "broken" / "syntax.py"))
        assert "SyntaxError" in text
        assert re.search(r"syntax\.py.{0,10}(line |:)4", text), text

    def test_no_callable(self):
        text = self.refused("--chdir", str(APPS / "broken"), "-w", "nothing")
        assert "application" in text
        assert "nothing" in text

    def test_wrong_callable(self):
        assert "missing" in self.refused("--chdir", str(APPS / "hello"), "-w", "app:missing")

    def test_no_module(self):
        assert "no_such_module" in self.refused("-w", "no_such_module")

    def test_no_file(self):
        assert "no_such_file.py" in self.refused("--wsgi-file", "no_such_file.py")

    def test_in_a_mount(self):
        text = self.refused("--mount", f"/x={APPS / 'broken' / 'app.py'}")
        assert "broken on purpose" in text

    def test_lazily(self):
        text = self.refused("--lazy-apps", "--chdir", str(APPS / "broken"), "-w", "app")
        assert "broken on purpose" in text

    def test_without_master(self):
        text = self.refused("--master=false", "--chdir", str(APPS / "broken"), "-w", "app")
        assert "broken on purpose" in text

    def test_no_application_at_all(self):
        """Nothing was tried and failed: the configuration is incomplete."""
        outcome = run("--http-socket", "127.0.0.1:0")
        assert outcome.returncode == 1
        assert "no application" in outcome.stderr
        assert "--module" in outcome.stderr

    def test_a_taken_port(self, fresh):
        server = fresh("hello")
        host, port = server.http_address
        outcome = run("--http-socket", f"{host}:{port}", "--wsgi-file", str(APPS / "hello/app.py"))
        assert outcome.returncode == 1
        assert str(port) in outcome.stderr

    def test_no_listener(self):
        outcome = run("--wsgi-file", str(APPS / "hello" / "app.py"))
        assert outcome.returncode == 1
        assert "socket" in outcome.stderr


def test_listen_queue(fresh):
    """As many connections as the backlog holds are not refused while the worker is blocked."""
    server = fresh("hello", "--listen", "50")
    clients = [server.http() for _ in range(40)]
    for client in clients:
        client.send_request()
    assert all(c.read_response().status == 200 for c in clients)


def test_worker_and_master_ids(fresh):
    server = fresh("processes")
    found = json.loads(server.get("/").body)
    assert found["pid"] == server.worker()
    assert found["master"] == server.pid


THREADS = r"the application has started threads while it was loaded: .*--lazy-apps"


def test_an_application_that_starts_threads_when_it_is_loaded(fresh):
    """As `os.fork()` has it: the child has the one thread that forked, and the log says so."""
    server = fresh("early_thread", "--processes", "2", allow=[THREADS])
    assert server.get("/").body == b"MainThread"
    assert server.count_log(THREADS) == 1


def test_loaded_in_the_worker_it_keeps_its_threads(fresh):
    server = fresh("early_thread", "--lazy-apps")
    assert server.get("/").body == b"MainThread early"
