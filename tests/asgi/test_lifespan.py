"""Lifespans: before the first request of a worker and after its last, each application its own."""

from __future__ import annotations

import re
import signal

import pytest

from tests.harness.asking import ask
from tests.harness.server import APPS, run
from tests.harness.waiting import until

KEPT = r"(?i)generation \d+ .*(goes on|stays|keeps|serves on)"
CANNOT_SERVE = 23
NOISE = ["Traceback", r"(?i)\berrors?\b", "(?i)fail"]
FULL = {
    "text": "from startup",
    "shared": [],
    "begun": ["startup"],
    "runs": True,
}
SHUTDOWN = ["shutdown begins", "shutdown ends"]
STARTUP = ["startup begins", "startup ends"]


def said(server):
    """What each process has said, in order."""
    found = {}
    for pid, what in re.findall(r"^lifespan (\d+) (.*)$", server.log_text(), re.MULTILINE):
        found.setdefault(int(pid), []).append(what)
    return found


def stop(server, how=signal.SIGTERM):
    server.signal(how)
    assert server.wait_exit() == 0


class TestStartup:
    def test_before_the_first_request(self, fresh_asgi):
        server = fresh_asgi("asgi_lifespan")
        server.mark = 0
        # It waits several times, and nobody is served before it is over.
        assert ask(server, "/") == FULL
        assert said(server) == {server.worker(): STARTUP}

    def test_each_worker_has_its_own(self, fresh_asgi):
        server = fresh_asgi("asgi_lifespan", "--processes", "3")
        server.mark = 0
        assert said(server) == dict.fromkeys(server.workers(), STARTUP)
        stop(server)
        assert list(said(server).values()) == [STARTUP + SHUTDOWN] * 3

    def test_not_for_each_request(self, fresh_asgi):
        server = fresh_asgi("asgi_lifespan")
        for _ in range(5):
            assert ask(server, "/")["begun"] == ["startup"]

    @pytest.mark.parametrize("options", [("--lazy-apps",), ("--master=false",)])
    def test_other_ways_to_serve(self, fresh_asgi, options):
        server = fresh_asgi("asgi_lifespan", *options)
        assert ask(server, "/") == FULL
        stop(server)
        assert [lines[-2:] for lines in said(server).values()] == [SHUTDOWN]


class TestState:
    def test_each_request_has_a_copy(self, fresh_asgi):
        """A shallow one: what is in it is shared."""
        server = fresh_asgi("asgi_lifespan")
        assert ask(server, "/") == FULL
        assert ask(server, "/") == {**FULL, "shared": [1]}
        assert ask(server, "/") == {**FULL, "shared": [1, 1]}

    @pytest.mark.parametrize("kind", ["raises", "raises_in_startup", "returns"])
    def test_none_without_a_lifespan(self, fresh_asgi, kind):
        server = fresh_asgi("asgi_lifespan", env={"LIFESPAN": kind}, allow=NOISE)
        found = ask(server, "/")
        assert found["runs"] is False
        assert found["begun"] == []

    def test_one_that_is_mounted_twice_has_one(self, fresh_asgi):
        server = fresh_asgi("asgi_lifespan", "--asgi", "/again=app")
        assert ask(server, "/") == FULL
        assert ask(server, "/again/")["text"] == "from startup"
        stop(server)
        (lines,) = said(server).values()
        assert lines == [*STARTUP, *SHUTDOWN]

    def test_each_application_has_its_own(self, fresh_asgi):
        server = fresh_asgi("asgi_lifespan", "--asgi", "/second=app:second")
        assert ask(server, "/") == FULL
        assert ask(server, "/second")["text"] == "of the second"
        assert ask(server, "/") == {**FULL, "shared": [1]}
        stop(server)
        (lines,) = said(server).values()
        assert sorted(lines) == sorted([*STARTUP, *SHUTDOWN, "second shutdown"])


class TestUnsupported:
    @pytest.mark.parametrize("kind", ["raises", "raises_in_startup", "returns"])
    def test_serves(self, fresh_asgi, kind):
        server = fresh_asgi("asgi_lifespan", env={"LIFESPAN": kind}, allow=NOISE)
        for _ in range(3):
            assert server.get("/").status == 200
        stop(server)

    @pytest.mark.parametrize("kind", ["returns_after_startup", "raises_after_startup"])
    def test_ends_too_early(self, fresh_asgi, kind):
        server = fresh_asgi("asgi_lifespan", env={"LIFESPAN": kind}, allow=NOISE)
        for _ in range(3):
            assert server.get("/").status == 200
        stop(server)


class TestShutdown:
    @pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
    def test_at_the_stop(self, fresh_asgi, how):
        server = fresh_asgi("asgi_lifespan")
        server.mark = 0
        worker = server.worker()
        stop(server, how)
        assert said(server) == {worker: STARTUP + SHUTDOWN}

    def test_after_the_last_request(self, fresh_asgi, gate):
        server = fresh_asgi("asgi_lifespan", env=gate.env)
        client = server.http()
        client.send_request(target="/hold")
        head = client.read_head()
        assert client.read_chunk()
        server.signal(signal.SIGTERM)
        server.wait_for_log("SIGINT/SIGTERM received")
        gate.release()
        assert client.read_body(head).body == b" released"
        assert server.wait_exit() == 0
        (lines,) = said(server).values()
        assert lines[-3:] == ["request ends", *SHUTDOWN]

    def test_at_the_reload(self, fresh_asgi):
        server = fresh_asgi("asgi_lifespan", "--processes", "2")
        server.mark = 0
        before = server.workers()
        server.reload()
        until(lambda: not set(before) & set(server.workers()), "the old workers have left")
        found = said(server)
        assert [found[pid] for pid in before] == [STARTUP + SHUTDOWN] * 2
        after = server.workers()
        assert [found[pid] for pid in after] == [STARTUP] * 2
        assert ask(server, "/")["text"] == "from startup"

    @pytest.mark.parametrize(
        ("kind", "what"),
        [
            ("shutdown_failed", "not in order, said the test"),
            ("shutdown_raises", "ValueError: in the shutdown"),
        ],
    )
    def test_one_that_fails(self, fresh_asgi, kind, what):
        """It is said; the worker leaves all the same."""
        server = fresh_asgi("asgi_lifespan", env={"LIFESPAN": kind}, allow=NOISE)
        assert server.get("/").status == 200
        stop(server)
        assert server.count_log(what) == 1


@pytest.mark.parametrize("kind", ["failed", "failed_and_stays"])
class TestFailed:
    @pytest.mark.parametrize("options", [(), ("--processes", "2"), ("--lazy-apps",)])
    def test_at_the_start(self, pair, options, kind):
        ended = run(
            *("--http-socket", "127.0.0.1:0", "--chdir", str(APPS / "asgi_lifespan")),
            *("--asgi", "app", *pair.arguments(4), *options),
            env={"LIFESPAN": kind},
        )
        text = ended.stdout + ended.stderr
        assert ended.returncode > 0, text
        assert "no database, said the test" in text
        assert "greenloom is ready" not in text
        assert "panicked" not in text

    def test_an_interpreter_that_ends_slowly(self, pair, kind):
        """Nobody asks it any more what it does, once it cannot answer."""
        ended = run(
            *("--http-socket", "127.0.0.1:0", "--chdir", str(APPS / "asgi_lifespan")),
            *("--asgi", "app", *pair.arguments(4)),
            env={"LIFESPAN": kind, "SLOW_END": "1"},
        )
        text = ended.stdout + ended.stderr
        assert ended.returncode == CANNOT_SERVE, text
        assert "died" not in text

    def test_at_the_reload(self, fresh_asgi, tmp_path, kind):
        """The old generation serves on; a repaired one takes over from it."""
        path = tmp_path / "kind"
        path.write_text("full")
        server = fresh_asgi(
            "asgi_lifespan", env={"LIFESPAN_FILE": str(path)}, allow=NOISE, probe=False
        )
        before = server.workers()
        idle = server.http()
        assert idle.get("/").json() == FULL
        path.write_text(kind)
        server.signal(signal.SIGHUP)
        server.wait_for_log("no database, said the test", 20)
        server.wait_for_log(KEPT, 20)
        until(lambda: server.workers() == before, "what failed has gone")
        assert idle.get("/").status == 200
        assert ask(server, "/")["text"] == "from startup"
        path.write_text("full")
        server.reload()
        until(lambda: not set(before) & set(server.workers()), "the old workers have left")
        assert idle.get("/").status == 200
