"""--uid, --gid and --umask: who the server is, whose its files are; and there is no way back."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tests.harness.server import APPS, run
from tests.harness.unprivileged import PYTHONPATH

ROOT_ONLY = "/etc/shadow"


def status(pid, field):
    text = Path(f"/proc/{pid}/status").read_text()
    return next(line.split()[1:] for line in text.splitlines() if line.startswith(f"{field}:"))


def start(fresh, user, *options, **how):
    return fresh(
        "hello", *options, program=user.program, env={**user.env, **how.pop("env", {})},
        cwd=user.folder, **how,
    )  # fmt: skip


def everybody(server):
    return [server.pid, *server.remember()]


class TestBecoming:
    def test_all_processes_are_the_user(self, unprivileged, fresh):
        server = start(fresh, unprivileged, "--uid", unprivileged.name, "--processes", "2")
        server.wait_for_log(
            rf"^setgid\(\) to {unprivileged.gid}\nsetuid\(\) to {unprivileged.uid}$"
        )
        assert "as root" not in server.log_text()
        assert len(everybody(server)) == 4
        for pid in everybody(server):
            assert status(pid, "Uid") == [str(unprivileged.uid)] * 4
            assert status(pid, "Gid") == [str(unprivileged.gid)] * 4
            assert status(pid, "Groups") == [str(unprivileged.gid)]
            assert int(status(pid, "CapEff")[0], 16) == 0
            assert int(status(pid, "CapPrm")[0], 16) == 0
        assert server.get("/").body == b"hello\n"

    def test_a_group_of_ones_own(self, unprivileged, fresh):
        server = start(fresh, unprivileged, "--uid", unprivileged.name, "--gid", "4711")
        for pid in everybody(server):
            assert status(pid, "Gid") == ["4711"] * 4
            assert status(pid, "Groups") == ["4711"]

    def test_a_user_without_a_name(self, unprivileged, fresh):
        unprivileged.folder.chmod(0o777)
        server = start(fresh, unprivileged, "--uid", "54321", "--gid", "54322")
        assert status(server.worker(), "Uid") == ["54321"] * 4
        assert status(server.worker(), "Groups") == ["54322"]

    def test_a_user_without_a_group(self, unprivileged, fresh):
        unprivileged.folder.chmod(0o777)
        server = start(fresh, unprivileged, "--uid", "54321")
        server.wait_for_log("the group is still root's")
        assert status(server.worker(), "Groups") == []

    def test_without_a_master(self, unprivileged, fresh):
        server = start(fresh, unprivileged, "--uid", unprivileged.name, "--master=false")
        assert status(server.pid, "Uid") == [str(unprivileged.uid)] * 4
        assert server.get("/").body == b"hello\n"

    def test_there_is_no_way_back(self, unprivileged, fresh):
        source = (
            "import os\n"
            "def application(environ, start_response):\n"
            "    start_response('200 OK', [])\n"
            "    for attempt in (lambda: os.setuid(0), lambda: os.setgid(0),\n"
            "                    lambda: os.setgroups([0]), lambda: os.setresuid(0, 0, 0),\n"
            f"                    lambda: open({ROOT_ONLY!r})):\n"
            "        try:\n"
            "            attempt()\n"
            "        except PermissionError:\n"
            "            yield b'refused\\n'\n"
        )
        (unprivileged.folder / "climbing.py").write_text(source)
        server = fresh(
            None, "--chdir", str(unprivileged.folder), "-w", "climbing",
            "--uid", unprivileged.name,
            program=unprivileged.program, env=unprivileged.env, cwd=unprivileged.folder,
        )  # fmt: skip
        assert server.get("/").body == b"refused\n" * 5

    def test_a_reload_and_a_respawn_as_the_user(self, unprivileged, fresh):
        server = start(
            fresh, unprivileged, "--uid", unprivileged.name, allow=["(?i)signal|died|killed"]
        )
        os.kill(server.worker(), signal.SIGKILL)
        server.wait_for_log("Respawned")
        assert server.get("/").body == b"hello\n"
        server.signal(signal.SIGHUP)
        server.wait_for_log(r"is ready \(generation 2")
        assert server.get("/").body == b"hello\n"
        assert status(server.workers()[-1], "Uid") == [str(unprivileged.uid)] * 4

    def test_anybody_else_stays_who_they_are(self, unprivileged, tmp_path):
        """As in uWSGI: the same configuration serves the developer."""
        process = subprocess.Popen(
            [*unprivileged.program, "--http-socket", "127.0.0.1:0", "--uid", "1", "--gid", "1",
             "--chdir", str(APPS / "hello"), "--module", "app"],
            user=unprivileged.uid, group=unprivileged.gid, extra_groups=[], cwd="/",
            env={"PYTHONPATH": PYTHONPATH, "PATH": os.defpath}, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        try:
            lines = []
            for line in process.stderr:
                lines.append(line)
                if "greenloom is ready" in line:
                    break
            text = "".join(lines)
            assert "cannot setuid() to 1 as non-root user" in text
            assert "cannot setgid() to 1 as non-root user" in text
            assert status(process.pid, "Uid") == [str(unprivileged.uid)] * 4
        finally:
            process.terminate()
            process.communicate(timeout=20)
        assert process.returncode == 0

    def test_a_root_that_may_not(self, tmp_path):
        """Without CAP_SETUID nothing is served, rather than as root."""
        if os.geteuid() != 0:
            pytest.skip("only root can give up a capability")
        sock = tmp_path / "app.sock"
        drop = (
            "import ctypes, os, sys\n"
            "for capability in (6, 7):\n"
            "    assert ctypes.CDLL(None).prctl(24, capability, 0, 0, 0) == 0\n"
            "os.execvp(sys.argv[1], sys.argv[1:])\n"
        )
        outcome = subprocess.run(
            [sys.executable, "-c", drop, sys.executable, "-m", "greenloom", "--uid", "1",
             "--http-socket", str(sock), "--chdir", str(APPS / "hello"), "-w", "app"],
            capture_output=True, text=True, timeout=20, check=False,
        )  # fmt: skip
        assert outcome.returncode == 1
        assert "CAP_SETUID" in outcome.stderr
        assert "spawned" not in outcome.stderr
        assert not sock.exists()


class TestFiles:
    def test_they_are_used_and_removed_as_the_user(self, unprivileged, fresh):
        folder = unprivileged.folder
        sock, pidfile, fifo = folder / "app.sock", folder / "app.pid", folder / "fifo"
        log = folder / "app.log"
        server = start(
            fresh, unprivileged, "--uid", unprivileged.name, "--chmod-socket=660",
            "--pidfile", str(pidfile), "--master-fifo", str(fifo),
            http=str(sock), logto=log,
        )  # fmt: skip
        for file in (sock, fifo, log):
            assert (file.stat().st_uid, file.stat().st_gid) == (unprivileged.uid, unprivileged.gid)
        # Programs send signals to what it says: whoever runs the application must not write it.
        assert pidfile.stat().st_uid == 0
        assert stat.S_IMODE(pidfile.stat().st_mode) == 0o644
        log.rename(folder / "app.log.1")
        server.signal(signal.SIGUSR1)
        server.wait_for_log("was opened anew")
        fifo.write_text("q")
        assert server.wait_exit() == 0
        assert not sock.exists()
        assert not pidfile.exists()
        assert not fifo.exists()

    def test_in_a_folder_of_roots_they_stay_and_the_log_says_so(self, unprivileged, fresh):
        folder = unprivileged.folder / "roots"
        folder.mkdir(mode=0o755)
        sock, pidfile = folder / "app.sock", folder / "app.pid"
        for _ in range(2):  # The second start finds what the first one left.
            server = start(
                fresh, unprivileged, "--uid", unprivileged.name, "--pidfile", str(pidfile),
                http=str(sock), allow=["stays: Permission denied"],
            )  # fmt: skip
            assert server.get("/").body == b"hello\n"
            assert int(pidfile.read_text()) == server.pid
            server.signal(signal.SIGTERM)
            assert server.wait_exit() == 0
            server.wait_for_log(f"VACUUM: unix socket {sock} stays: Permission denied")
            server.wait_for_log(f"VACUUM: pidfile {pidfile} stays: Permission denied")

    def test_a_log_with_another_name_is_not_given_away(self, unprivileged, fresh):
        """The user could have made it the second name of a file of root's."""
        precious, log = unprivileged.folder / "precious", unprivileged.folder / "app.log"
        precious.touch(mode=0o600)
        os.link(precious, log)
        start(fresh, unprivileged, "--uid", unprivileged.name, logto=log)
        assert precious.stat().st_uid == 0

    @pytest.mark.parametrize(("mask", "mode"), [("027", 0o750), ("000", 0o777), ("077", 0o700)])
    def test_umask(self, fresh, tmp_path, mask, mode):
        sock = tmp_path / "app.sock"
        server = fresh("hello", "--umask", mask, http=str(sock))
        assert stat.S_IMODE(sock.stat().st_mode) == mode
        for pid in (server.pid, server.worker()):
            assert int(status(pid, "Umask")[0], 8) == int(mask, 8)


def test_unknown_users_are_refused():
    outcome = run("--http-socket", "127.0.0.1:0", "-w", "x", "--uid", "no-such-user")
    assert outcome.returncode == 1
    assert "no-such-user" in outcome.stderr
