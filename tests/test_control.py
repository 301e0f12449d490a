"""The control socket and `greenloom ctl`."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import stat
import threading
from pathlib import Path

import pytest

from tests.harness import procs
from tests.harness.server import APPS, READY, Server, run
from tests.harness.status import ask_http, connect, ctl, stats, status
from tests.harness.waiting import until

HELLO = ("--chdir", str(APPS / "hello"), "--module", "app")

APP = """\
def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"ANSWER\\n"]
"""


@pytest.fixture
def where(tmp_path: Path) -> Path:
    return tmp_path / "ctl.sock"


@pytest.fixture
def changing(fresh, tmp_path: Path, where: Path):
    """A server whose application the test may rewrite: `(server, write)`."""
    module = tmp_path / "changing.py"

    def write(answer: str) -> None:
        module.write_text(APP.replace("ANSWER", answer))

    def start(*options: str, **how):
        write("one")
        with_app = ("--wsgi-file", str(module), "--control-socket", str(where))
        return fresh(None, *with_app, *options, **how), write

    return start


def talk(where: Path, *lines: bytes) -> list[dict]:
    """Sends lines over one connection; as many answers."""
    with connect(str(where)) as door, door.makefile("rb") as answers:
        found = []
        for line in lines:
            door.sendall(line)
            found.append(json.loads(answers.readline()))
        return found


def wait_answer(server: Server, body: bytes) -> None:
    """The old workers hear of their successors only when those serve, and may take one more."""
    until(lambda: server.get("/").body == body, f"{body!r} from the next generation")


class TestSocket:
    def test_only_the_user_is_let_in(self, fresh, where):
        fresh("hello", "--control-socket", str(where))
        assert stat.S_IMODE(where.stat().st_mode) == 0o600

    def test_it_is_removed_at_the_end(self, fresh, where):
        server = fresh("hello", "--control-socket", str(where))
        server.signal(signal.SIGTERM)
        assert server.wait_exit() == 0
        assert not where.exists()

    def test_a_stale_one_is_replaced(self, fresh, where):
        with socket.socket(socket.AF_UNIX) as old:
            old.bind(str(where))
        fresh("hello", "--control-socket", str(where))
        assert status(where)["ready"] is True

    def test_one_in_use_is_not(self, fresh, where):
        fresh("hello", "--control-socket", str(where))
        second = run("--http-socket=127.0.0.1:0", *HELLO, "--control-socket", str(where))
        assert second.returncode == 1
        assert "(--control-socket)" in second.stderr
        assert status(where)["ready"] is True

    def test_another_file_is_not(self, where):
        where.write_text("mine")
        refused = run("--http-socket=127.0.0.1:0", *HELLO, "--control-socket", str(where))
        assert refused.returncode == 1
        assert "a file that is not a socket is in the way" in refused.stderr
        assert where.read_text() == "mine"


class TestCommands:
    def test_status(self, fresh, where):
        server = fresh("hello", "--processes", "2", "--async", "3", "--control-socket", str(where))
        server.get("/")
        server.wait_requests(1)
        shown = status(where)
        assert (shown["phase"], shown["ready"], shown["generation"]) == ("serving", True, 1)
        assert shown["pid"] == server.pid
        assert sorted(w["pid"] for w in shown["workers"]) == server.workers()
        assert {(w["state"], w["cores"]) for w in shown["workers"]} == {("accepting", 3)}
        assert sum(w["requests"] for w in shown["workers"]) == 1
        table = ctl(where, "status")
        assert table.returncode == 0
        assert f"(pid {server.pid}): serving, ready" in table.stdout
        for pid in server.workers():
            assert str(pid) in table.stdout

    def test_reload_answers_when_the_next_generation_serves(self, changing, where):
        server, write = changing()
        write("two")
        done = ctl(where, "reload")
        assert (done.returncode, done.stdout) == (0, "generation 2 serves\n")
        wait_answer(server, b"two\n")
        assert status(where)["reloads"] == 1

    def test_a_reload_that_fails_says_why(self, changing, where):
        server, write = changing(allow=["(?i)error", "(?i)traceback"])
        write('two" + broken')
        failed = ctl(where, "reload")
        assert failed.returncode == 1
        assert "generation 1 serves on" in failed.stderr
        assert server.get("/").body == b"one\n"
        assert (status(where)["reloads"], status(where)["failed_reloads"]) == (0, 1)
        write("three")
        assert ctl(where, "reload").returncode == 0
        wait_answer(server, b"three\n")

    def test_reload_without_waiting(self, changing, where):
        server, _ = changing()
        assert ctl(where, "reload", "--no-wait").stdout == "asked for: reload\n"
        until(lambda: server.count_log(READY.pattern) == 2, "the next generation")

    def test_reloads_of_several_at_once(self, changing, where):
        server, _ = changing()
        results = []
        threads = [
            threading.Thread(target=lambda: results.append(ctl(where, "reload"))) for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [r.returncode for r in results] == [0] * 4, results
        assert server.get("/").body == b"one\n"

    def test_upgrade(self, changing, where):
        server, write = changing()
        write("two")
        done = ctl(where, "upgrade", deadline_s=60)
        assert done.returncode == 0, done
        assert "the program was replaced, generation 2 serves" in done.stdout
        wait_answer(server, b"two\n")
        assert status(where)["upgrades"] == 1

    def test_the_doors_stay_open_over_an_upgrade(self, changing, where):
        server, _ = changing("--stats", "127.0.0.1:0", "--metrics", "127.0.0.1:0")
        before = where.stat().st_ino
        assert ctl(where, "upgrade", deadline_s=60).returncode == 0
        assert stats(server)["greenloom"]["upgrades"] == 1
        assert ask_http(server, "/readyz").status == 200
        assert where.stat().st_ino == before
        assert server.count_log("Stats server enabled") == 1
        server.signal(signal.SIGTERM)
        assert server.wait_exit() == 0
        assert not where.exists()

    def test_workers(self, fresh, where):
        server = fresh("hello", "--control-socket", str(where))
        assert ctl(where, "workers", "+2").stdout == "3 workers instead of 1\n"
        until(lambda: len(server.workers()) == 3, "three workers")
        until(lambda: [w["state"] for w in status(where)["workers"]] == ["accepting"] * 3, "all")
        assert ctl(where, "workers", "1").returncode == 0
        until(lambda: len(server.workers()) == 1, "one worker")
        refused = ctl(where, "workers", "0")
        assert refused.returncode == 1
        assert "at least 1" in refused.stderr

    def test_stacks(self, fresh, where, gate):
        server = fresh("hold", "--async", "2", "--control-socket", str(where), env=gate.env)
        client = server.http()
        client.send_request("GET", "/hold")
        until(lambda: status(where)["workers"][0]["suspended"] == 1, "the request in its core")
        assert ctl(where, "stacks").returncode == 0
        server.wait_for_log("/hold")
        gate.release()
        client.read_response()

    def test_drain(self, fresh, where):
        server = fresh("hello", "--control-socket", str(where))
        assert ctl(where, "drain").returncode == 0
        shown = status(where)
        assert (shown["ready"], shown["why_not_ready"]) == (False, "drained")
        assert server.get("/").status == 200
        assert ctl(where, "undrain").returncode == 0
        assert status(where)["ready"] is True

    @pytest.mark.parametrize("words", [["stop"], ["stop", "--now"]])
    def test_stop(self, fresh, where, words):
        server = fresh("hello", "--control-socket", str(where))
        assert ctl(where, *words).returncode == 0
        assert server.wait_exit() == 0

    def test_reopening_a_log_that_is_none_is_refused(self, fresh, where):
        fresh("hello", "--control-socket", str(where), allow=["cannot open the log anew"])
        refused = ctl(where, "reopen-log")
        assert refused.returncode == 1
        assert "there is no log file" in refused.stderr

    def test_reopen_log(self, fresh, where, tmp_path):
        log = tmp_path / "log"
        server: Server = fresh("hello", "--control-socket", str(where), logto=log)
        moved = tmp_path / "log.1"
        log.rename(moved)
        assert ctl(where, "reopen-log").returncode == 0
        server.get("/")
        until(lambda: "GET /" in log.read_text(), "the request line in the new file")
        assert "GET /" not in moved.read_text()


class TestUsage:
    @pytest.mark.parametrize("words", [["dance"], ["workers"], ["reload", "--now"], []])
    def test_what_makes_no_sense(self, where, words):
        refused = ctl(where, *words)
        assert refused.returncode == 2
        assert "try greenloom ctl --help" in refused.stderr

    def test_help(self, where):
        assert ctl(where, "--help").stdout.startswith("usage: greenloom ctl")

    def test_no_server(self, where):
        gone = ctl(where, "status")
        assert gone.returncode == 3
        assert "is it running" in gone.stderr
        with socket.socket(socket.AF_UNIX) as old:
            old.bind(str(where))
        left = ctl(where, "status")
        assert left.returncode == 3
        assert "left the file behind" in left.stderr


class TestProtocol:
    def test_words_and_objects_on_one_connection(self, fresh, where):
        fresh("hello", "--control-socket", str(where))
        answers = talk(
            where,
            b"status\n",
            b'{"command": "drain"}\n',
            b"what?\n",
            b'{"command": "drain", "force": 1}\n',
            b"undrain\n",
        )
        assert [answer["ok"] for answer in answers] == [True, True, False, False, True]
        assert answers[2]["message"] == "there is no command what?"
        assert "unknown field" in answers[3]["message"]

    def test_a_client_that_has_said_all_still_gets_its_answer(self, fresh, where):
        fresh("hello", "--control-socket", str(where))
        with connect(str(where)) as door:
            door.sendall(b"reload")
            door.shutdown(socket.SHUT_WR)
            answer = b"".join(iter(lambda: door.recv(4096), b""))
        assert json.loads(answer) == {"ok": True, "message": "generation 2 serves"}

    def test_lines_without_end(self, fresh, where):
        fresh("hello", "--control-socket", str(where))
        (answer,) = talk(where, b"x" * 10_000)
        assert answer["ok"] is False

    def test_clients_that_leave_or_say_nothing(self, fresh, where):
        server = fresh("hello", "--control-socket", str(where))
        idle = [connect(str(where)) for _ in range(100)]
        for client in idle[::2]:
            # The server may have given its place to another one.
            with contextlib.suppress(OSError):
                client.sendall(b"reload\n")
            client.close()
        assert server.get("/").status == 200
        assert ctl(where, "status").returncode == 0
        for client in idle[1::2]:
            client.close()
        until(lambda: status(where)["phase"] == "serving", "an end of all the reloads")

    def test_a_client_that_reads_nothing(self, fresh, where):
        server = fresh("hello", "--control-socket", str(where))
        with connect(str(where)) as door:
            door.settimeout(0.2)
            with contextlib.suppress(OSError):
                for _ in range(10_000):
                    door.sendall(b"status\n" * 500)
            assert ctl(where, "status").returncode == 0
        assert procs.alive(server.pid)
