"""As process 1 of a pid namespace, as in a container: signals arrive, orphans are collected."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from tests.harness import procs
from tests.harness.http import Client
from tests.harness.needed import missing
from tests.harness.server import APPS, command, environment
from tests.harness.waiting import until

BOUND = re.compile(r"bound to TCP address 127\.0\.0\.1:(\d+)")
ORPHANS = """
import subprocess

def application(environ, start_response):
    # A child that leaves its own child behind.
    subprocess.run(["/bin/sh", "-c", "(exec 0<&- 1>&- 2>&-; sleep 0.01) &"], check=True)
    start_response("200 OK", [])
    return [b"orphaned"]
"""


class Container:
    """A server that is process 1 of its own pid namespace."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.log = folder / "container.log"
        arguments = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child", *command()]
        arguments += ["--http-socket", "127.0.0.1:0", *options]
        with self.log.open("wb") as out:
            self.unshare = subprocess.Popen(
                arguments, env=environment(), stdout=out, stderr=subprocess.STDOUT
            )
        until(lambda: "greenloom is ready" in self.text(), "the ready line", 20)

    def text(self) -> str:
        return self.log.read_text()

    @property
    def first(self) -> int:
        """Process 1, as seen from outside."""
        return procs.children(self.unshare.pid)[0]

    def get(self) -> bytes:
        with Client(("127.0.0.1", int(BOUND.findall(self.text())[-1]))) as client:
            return client.get("/").body

    def end(self, number: int) -> int:
        everybody = procs.descendants(self.unshare.pid)
        os.kill(self.first, number)
        code = self.unshare.wait(20)
        assert not any(procs.alive(pid) for pid in everybody)
        return code


@pytest.fixture
def container(tmp_path):
    probe = ["unshare", "--pid", "--fork", "--mount-proc", "true"]
    if not shutil.which("unshare") or subprocess.run(probe, check=False).returncode != 0:
        missing("this machine lets nobody make a pid namespace")
    started: list[Container] = []

    def start(*options: str) -> Container:
        started.append(Container(tmp_path, *options))
        return started[-1]

    yield start
    for one in started:
        if one.unshare.poll() is None:
            one.unshare.kill()
            one.unshare.wait()
        print(one.text())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
def test_it_stops(container, number):
    server = container("--chdir", str(APPS / "hello"), "-w", "app", "--processes", "2")
    assert "master process (pid: 1)" in server.text()
    assert server.get() == b"hello\n"
    assert server.end(number) == 0
    assert server.text().endswith("goodbye to greenloom.\n")


def test_it_reloads_and_ignores_what_has_no_meaning(container):
    server = container("--chdir", str(APPS / "hello"), "-w", "app")
    # The default of these would be to end or to stop a process; nobody does that to the first one.
    for number in (signal.SIGALRM, signal.SIGVTALRM, signal.SIGIO):
        os.kill(server.first, number)
    os.kill(server.first, signal.SIGHUP)
    until(lambda: "is ready (generation 2" in server.text(), "the reload")
    assert server.get() == b"hello\n"
    assert server.end(signal.SIGTERM) == 0


def test_orphans_are_collected(container, tmp_path):
    (tmp_path / "orphans.py").write_text(ORPHANS)
    server = container("--chdir", str(tmp_path), "-w", "orphans")
    for _ in range(20):
        assert server.get() == b"orphaned"
    # Master, generation and worker.
    until(lambda: len(procs.descendants(server.first)) == 2, "no orphan, no zombie")
    assert server.end(signal.SIGTERM) == 0
