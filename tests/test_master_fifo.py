"""--master-fifo: commands of one byte."""

from __future__ import annotations

import os
import stat
import threading

import pytest

from tests.harness import procs
from tests.harness.server import APPS, run
from tests.harness.waiting import until


@pytest.fixture
def fifo(tmp_path):
    return tmp_path / "fifo"


def test_it_is_there_and_goes(fresh, fifo):
    server = fresh("hello", "--master-fifo", str(fifo))
    assert stat.S_ISFIFO(fifo.stat().st_mode)
    assert stat.S_IMODE(fifo.stat().st_mode) == 0o600
    fifo.write_text("q\n")
    assert server.wait_exit() == 0
    assert not fifo.exists()
    server.wait_for_log(f"VACUUM: fifo {fifo} removed")


def test_at_once(fresh, fifo, gate):
    server = fresh("hold", "--master-fifo", str(fifo), env=gate.env)
    client = server.http()
    client.send_request(target="/hold")
    client.read_head()
    fifo.write_text("Q")
    assert server.wait_exit() == 0


@pytest.mark.parametrize("byte", "rRcwW")
def test_reload(fresh, fifo, byte):
    server = fresh("hello", "--master-fifo", str(fifo))
    fifo.write_text(byte)
    server.wait_for_log(r"is ready \(generation 2")
    assert server.get("/").body == b"hello\n"


def test_workers(fresh, fifo):
    server = fresh("hello", "--master-fifo", str(fifo))
    fifo.write_text("+")
    until(lambda: len(server.workers()) == 2, "a second worker")
    fifo.write_text("-")
    until(lambda: len(server.workers()) == 1, "the second worker has left")
    server.baseline = {}


def test_numbers_pid_file_and_log(fresh, fifo, tmp_path):
    pidfile, log = tmp_path / "app.pid", tmp_path / "app.log"
    server = fresh("hello", "--master-fifo", str(fifo), "--pidfile", str(pidfile), logto=log)
    pidfile.unlink()
    log.rename(tmp_path / "app.log.1")
    fifo.write_text("lsP")
    until(pidfile.exists, "the pid file")
    assert int(pidfile.read_text()) == server.pid
    server.wait_for_log("instance total requests: 0")


def test_what_is_not_available_is_said_and_the_rest_ignored(fresh, fifo):
    server = fresh("hello", "--master-fifo", str(fifo))
    fifo.write_bytes(b"fxyz\x00\xff\n \nCs")
    server.wait_for_log("instance total requests")
    assert server.count_log("master fifo: command . is not available") == 2


def test_writers_that_leave_cost_nothing(fresh, fifo):
    """A pipe whose last writer leaves would be readable for ever."""
    server = fresh("hello", "--master-fifo", str(fifo))
    for _ in range(5):
        fifo.write_text("\n")
    fifo.write_text("s")
    server.wait_for_log("instance total requests")
    before = procs.cpu_ticks(server.pid)
    for _ in range(20):
        assert server.get("/").body == b"hello\n"
    assert procs.cpu_ticks(server.pid) - before < 20


def test_several(fresh, tmp_path):
    paths = [tmp_path / name for name in ("a", "b")]
    server = fresh("hello", *(f"--master-fifo={path}" for path in paths))
    # Whoever writes to one that is not active waits until it is.
    writer = threading.Thread(target=paths[1].write_text, args=("s",))
    writer.start()
    paths[0].write_text("1")
    server.wait_for_log(f"active master fifo is now {paths[1]}")
    writer.join(20)
    server.wait_for_log("instance total requests")
    with pytest.raises(OSError, match="No such device"):
        os.open(paths[0], os.O_WRONLY | os.O_NONBLOCK)
    paths[1].write_text("0")
    server.wait_for_log(f"active master fifo is now {paths[0]}")


def test_after_a_kill_it_is_made_anew(fresh, fifo):
    os.mkfifo(fifo, 0o666)
    fresh("hello", "--master-fifo", str(fifo))
    assert stat.S_IMODE(fifo.stat().st_mode) == 0o600


def test_another_file_is_not_replaced(fifo):
    fifo.write_text("precious")
    outcome = run(
        "--http-socket", "127.0.0.1:0", "--chdir", str(APPS / "hello"), "-w", "app",
        "--master-fifo", str(fifo),
    )  # fmt: skip
    assert outcome.returncode == 1
    assert "not a fifo" in outcome.stderr
    assert fifo.read_text() == "precious"
