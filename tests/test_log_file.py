"""The log file: begun, opened anew, renamed when it is too long; and dates in front of lines."""

from __future__ import annotations

import os
import re
import signal
import threading
from pathlib import Path

import pytest

from tests.harness import procs, request_log
from tests.harness.http import Client
from tests.harness.server import ROOT, run
from tests.harness.waiting import until


def targets(*paths: Path) -> list[str]:
    """The targets of all request lines in these files; every line of them is whole."""
    found = []
    for path in paths:
        text = path.read_text()
        assert text.endswith("\n")
        for line in text.splitlines():
            parsed = request_log.parse(line)
            assert parsed is not None or "=> generated" not in line, line
            if parsed is not None:
                found.append(parsed.uri)
    return found


def write_into(path: Path, pids: list[int]) -> bool:
    """Whether this file is the output of all these processes."""
    there = path.stat()
    return all(
        (os.stat(f"/proc/{pid}/fd/{fd}").st_ino == there.st_ino) for pid in pids for fd in (1, 2)
    )


def processes(server) -> list[int]:
    """The master, the generation and the workers."""
    return [server.pid, *procs.descendants(server.pid)]


class TestBegin:
    def test_mode(self, fresh, tmp_path):
        path = tmp_path / "new.log"
        fresh("hello", "--logfile-chmod", "604", logto=path)
        assert path.stat().st_mode & 0o777 == 0o604

    def test_mode_without_an_option(self, fresh, tmp_path):
        path = tmp_path / "new.log"
        fresh("hello", logto=path)
        assert path.stat().st_mode & 0o777 == 0o640

    def test_truncate(self, fresh, tmp_path):
        path = tmp_path / "old.log"
        path.write_text("an earlier line\n")
        server = fresh("hello", "--log-truncate", logto=path)
        server.get("/x")
        server.wait_requests(1)
        assert "an earlier line" not in path.read_text()

    def test_a_directory_that_is_not_there(self, tmp_path):
        path = tmp_path / "none" / "x.log"
        ended = run("--http-socket", "127.0.0.1:0", "--no-need-app", "--logto", str(path))
        assert ended.returncode == 1
        assert f"cannot write the log to {path}" in ended.stderr
        assert "create its directory" in ended.stderr


class TestOpenAnew:
    @pytest.mark.parametrize("options", [["--processes", "2"], ["--master=false"]])
    def test_after_a_renaming(self, fresh, tmp_path, options):
        path, old = tmp_path / "app.log", tmp_path / "app.log.1"
        server = fresh("hello", *options, logto=path)
        everybody = processes(server)
        server.get("/before")
        server.wait_requests(1)
        path.rename(old)
        server.get("/between")
        until(lambda: "/between" in targets(old), "a line in the renamed file")
        server.signal(signal.SIGUSR1)
        until(path.exists, "a new file")
        until(lambda: write_into(path, everybody), "the output of every process")
        server.get("/after")
        until(lambda: "/after" in targets(path), "a line in the new file")
        assert targets(old) == ["/before", "/between"]
        assert "was opened anew" in path.read_text()

    def test_a_relative_path_is_that_of_the_start(self, fresh, tmp_path):
        # The application's directory is another one.
        path = tmp_path / "here.log"
        server = fresh("hello", logto=Path(os.path.relpath(path, ROOT)))
        everybody = processes(server)
        path.rename(tmp_path / "renamed.log")
        server.signal(signal.SIGUSR1)
        until(path.exists, "a new file where the old one was")
        until(lambda: write_into(path, everybody), "the output of every process")

    def test_a_worker_that_is_busy(self, fresh, tmp_path, gate):
        path = tmp_path / "app.log"
        server = fresh("hold", logto=path, env=gate.env, probe=False)
        client = server.http()
        client.send(b"GET /block HTTP/1.1\r\nHost: a\r\n\r\n")
        worker = server.worker()
        until(
            lambda: str(gate.path) in procs.open_files(worker).values(),
            "the application at the gate",
        )
        everybody = processes(server)
        path.rename(tmp_path / "renamed.log")
        server.signal(signal.SIGUSR1)
        until(path.exists, "a new file")
        until(lambda: write_into(path, everybody), "the output of a worker that does nothing else")
        gate.release()
        assert client.read_response().status == 200

    def test_a_file_that_cannot_be_opened(self, fresh, tmp_path):
        folder, moved = tmp_path / "logs", tmp_path / "moved"
        folder.mkdir()
        server = fresh("hello", logto=folder / "app.log", allow=["cannot write the log to"])
        everybody = processes(server)
        folder.rename(moved)
        old = moved / "app.log"
        server.signal(signal.SIGUSR1)
        until(
            lambda: re.search(r"cannot write the log to .*still go to the file", old.read_text()),
            "a line about it",
        )
        server.get("/x")
        until(lambda: targets(old) == ["/x"], "a request line in the old file")
        assert write_into(old, everybody)
        # Once the directory is there again, so is the log.
        folder.mkdir()
        server.signal(signal.SIGUSR1)
        until((folder / "app.log").exists, "a new file")
        until(lambda: write_into(folder / "app.log", everybody), "the output of every process")

    def test_without_a_file(self, fresh):
        server = fresh("hello", allow=["cannot open the log anew"])
        server.signal(signal.SIGUSR1)
        server.wait_for_log(r"there is no log file \(--logto\)")
        assert server.get("/").status == 200

    def test_at_a_reload(self, fresh, tmp_path):
        path = tmp_path / "app.log"
        server = fresh("hello", "--log-reopen", logto=path)
        path.rename(tmp_path / "renamed.log")
        server.signal(signal.SIGHUP)
        until(path.exists, "a new file")
        until(lambda: "is ready (generation 2" in path.read_text(), "the reload's end in it")


class TestRotation:
    def test_no_line_is_lost(self, fresh, tmp_path):
        path = tmp_path / "app.log"
        options = ["--processes", "2", "--log-maxsize", "20k"]
        server = fresh("hello", *options, logto=path, probe=False)
        asked: list[str] = []
        enough = threading.Event()

        def ask(who):
            with Client(server.http_address) as client:
                number = 0
                while not enough.is_set():
                    number += 1
                    target = f"/{who}/{number}"
                    assert client.request("GET", target).status == 200
                    asked.append(target)

        threads = [threading.Thread(target=ask, args=(who,)) for who in range(3)]
        for thread in threads:
            thread.start()

        def renamed():
            return [file for file in tmp_path.iterdir() if re.search(r"app\.log\.\d+", file.name)]

        try:
            until(lambda: len(renamed()) >= 2 and path.exists(), "two renamed files and a new one")
        finally:
            enough.set()
            for thread in threads:
                thread.join()

        def logged():
            return sorted(targets(path, *renamed()))

        until(lambda: len(logged()) >= len(asked), "a line for every request")
        assert logged() == sorted(asked)
        said = "".join(file.read_text() for file in renamed())
        assert re.search(r"logsize: \d+, triggering rotation to \S+app\.log\.\d+\.\.\.", said)

    def test_a_name_of_its_own(self, fresh, tmp_path):
        path, backup = tmp_path / "app.log", tmp_path / "backup.log"
        # More than is said at a start: the file is renamed when all of that has been read.
        options = ["--log-maxsize", "8000", "--log-backupname", str(backup)]
        server = fresh("hello", *options, logto=path, probe=False)
        for _ in range(5):
            server.get("/" + "x" * 2000)
        until(lambda: backup.exists() and path.exists(), "a renamed and a new file")
        assert "is ready" in backup.read_text()

    def test_needs_the_master(self, tmp_path):
        options = ["--no-need-app", "--master=false", "--log-maxsize", "1000"]
        path = tmp_path / "app.log"
        ended = run("--http-socket", "127.0.0.1:0", *options, "--logto", str(path))
        assert ended.returncode == 1
        assert "log-maxsize" in ended.stderr
        assert "this needs a master" in ended.stderr


class TestDates:
    CTIME = r"[A-Z][a-z]{2} [A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d \d{4} - "

    @pytest.mark.parametrize(
        ("option", "date"),
        [
            ("--log-date", CTIME),
            ("--log-date=%Y-%m-%d %H:%M:%S", r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d - "),
        ],
    )
    def test_before_plain_lines(self, fresh, option, date):
        server = fresh("logs", option, "--processes", "2")
        plain = [line for line in server.log_lines() if line]
        assert len(plain) > 10
        for line in plain:
            assert re.match(date, line), line
        server.get("/say")
        server.wait_requests(1)
        lines = server.lines_after_ready()
        said = [line for line in lines if request_log.parse(line) is None]
        assert re.fullmatch(date + "said with uwsgi.log", said[0])
        assert said[1:] == ["said with print", "said to stderr"]

    def test_lines_that_always_have_one(self, fresh):
        server = fresh("logs", "--log-date=%H:%M:%S")
        client = server.http()
        client.send(b"GET / HTTP/1.1\r\n\r\n")
        assert client.read_response().status == 400
        (line,) = server.wait_for_lines(1)
        assert re.match(r"\d\d:\d\d:\d\d - (?!.*\d{4} - )", line), line

    def test_without_the_option(self, fresh):
        server = fresh("logs")
        assert not any(re.match(self.CTIME, line) for line in server.log_lines())
