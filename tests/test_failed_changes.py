"""Changes that do not come to their end: the next has its chance, and nobody is missing."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path

import pytest

from tests.harness import procs
from tests.harness.status import ctl
from tests.harness.waiting import until

GOOD = """\
def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"{answer}"]
"""


@pytest.fixture
def changing(fresh, tmp_path: Path):
    """A server whose application the test may rewrite: `(server, write)`."""
    module = tmp_path / "changing_app.py"

    def write(text: str) -> None:
        module.write_text(text)

    def start(*options: str, **how):
        write(GOOD.format(answer="one"))
        return fresh(
            None, "--chdir", str(tmp_path), "--module", "changing_app", *options, **how
        ), write

    return start


def hang(tmp_path: Path) -> str:
    """An application that says that it is being loaded, and is so for ever."""
    mark = str(tmp_path / "loading")
    return f"import time\nopen({mark!r}, 'a').write('x')\nwhile True:\n    time.sleep(10)\n"


@pytest.mark.parametrize("options", [(), ("--lazy-apps",)], ids=["preforked", "lazy"])
def test_an_application_that_hangs_while_it_is_loaded_makes_room(changing, tmp_path, options):
    """The old workers serve on; in the end the next reload replaces the one that hangs."""
    server, write = changing("--processes", "2", *options)
    write(hang(tmp_path))
    server.signal(signal.SIGHUP)
    mark = tmp_path / "loading"
    loading = 2 if options else 1
    until(lambda: mark.exists() and mark.stat().st_size == loading, "whoever loads it hangs")
    write(GOOD.format(answer="the second"))
    server.signal(signal.SIGHUP)
    server.wait_for_log("another one follows it")
    assert server.get("/").body == b"one"
    server.wait_for_log(r"greenloom is ready \(generation 3, 2 workers\)", 60)
    until(lambda: server.get("/").body == b"the second", "the second reload is through")
    until(lambda: len(server.workers()) == 2, "the others have left")


def test_an_upgrade_forgets_no_worker(changing, tmp_path):
    """The next program forks those that wait for their next process, also if its reload fails."""
    where = tmp_path / "ctl.sock"
    server, write = changing(
        "--processes",
        "2",
        "--control-socket",
        str(where),
        allow=["DAMN", "Traceback", "Error", "unable to load app", "the traceback above"],
    )
    (before,) = (pid for pid in procs.children(server.pid) if procs.alive(pid))

    def both_wait() -> bool:
        for pid in server.workers():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return server.count_log(r"the next attempt is in (1600|3200) ms") == 2

    until(both_wait, "both workers wait for their next process")
    write("raise ValueError('not this one')\n")
    assert ctl(where, "upgrade").returncode == 1
    server.wait_for_log("reload failed: .*; generation 1 serves on")
    until(lambda: len(server.workers()) == 2, "both workers are there again")
    assert procs.alive(before)
    assert server.get("/").body == b"one"


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2])
@pytest.mark.parametrize("options", [(), ("--lazy-apps",)], ids=["preforked", "lazy"])
def test_a_posix_signal_to_everybody_is_for_the_master(changing, options, number):
    """As a terminal sends it that closes."""
    server, _ = changing("--processes", "2", *options, allow=["there is no log file"])
    server.begin()
    for pid in server.remember():
        os.kill(pid, number)
    server.signal(number)
    if number == signal.SIGHUP:
        server.wait_for_log(r"greenloom is ready \(generation 2, 2 workers\)")
    else:
        assert server.get("/").body == b"one"
    assert server.get("/").body == b"one"
    server.signal(signal.SIGTERM)
    assert server.wait_exit() == 0
    assert "killed by signal" not in server.log_text()
