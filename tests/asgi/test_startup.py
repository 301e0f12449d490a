"""What does not start: without a loop, without an application, or with one of the wrong kind."""

from __future__ import annotations

import pytest

from tests.harness.server import APPS, run

FOLDER = str(APPS / "asgi_refused")
WRONG_APPLICATION = 22


def refused(*options):
    """What is said of a start that did not happen, and its exit code."""
    ended = run("--http-socket", "127.0.0.1:0", "--chdir", FOLDER, *options)
    text = ended.stdout + ended.stderr
    assert ended.returncode not in (0, None), text
    assert ended.returncode > 0, f"killed by a signal:\n{text}"
    assert "is ready" not in text
    assert "panicked" not in text
    return text, ended.returncode


def lines(tmp_path, *found):
    ini = tmp_path / "site.ini"
    ini.write_text("\n".join(["[uwsgi]", *found, ""]))
    return "--ini", str(ini)


class TestWithoutALoop:
    @pytest.mark.parametrize(
        "options",
        [(), ("--async", "8"), ("--async", "8", "--greenlet"), ("--async", "8", "--ugreen")],
    )
    @pytest.mark.parametrize(
        "how", [("--asgi", "apps:asgi"), ("--asgi", "/a=apps:asgi"), ("-w", "apps:asgi", "--asgi")]
    )
    def test_one_is_needed(self, options, how):
        text, _ = refused(*how, *options)
        assert "asgi" in text
        assert "asyncio = N" in text

    def test_gevent_is_none(self):
        text, _ = refused("--asgi", "apps:asgi", "--gevent", "8")
        assert "asgi" in text
        assert "asyncio" in text

    def test_in_ini(self, tmp_path):
        text, _ = refused(*lines(tmp_path, "asgi = apps:asgi", "async = 8"))
        assert "asgi" in text
        assert "asyncio" in text


@pytest.fixture
def on_loop(pair):
    return pair.arguments(4)


class TestKinds:
    @pytest.mark.parametrize("name", ["wsgi", "two_arguments"])
    def test_no_asgi_application(self, on_loop, name):
        text, code = refused("--asgi", f"apps:{name}", *on_loop)
        assert code == WRONG_APPLICATION
        assert "ASGI" in text
        assert name in text

    @pytest.mark.parametrize("name", ["nothing", "number", "missing"])
    def test_no_callable(self, on_loop, name):
        text, code = refused("--asgi", f"apps:{name}", *on_loop)
        assert code == WRONG_APPLICATION
        assert name in text

    def test_mounted(self, on_loop):
        text, code = refused("--asgi", "apps:asgi", "--asgi", "/old=apps:wsgi", *on_loop)
        assert code == WRONG_APPLICATION
        assert "ASGI" in text

    @pytest.mark.parametrize("name", ["asgi", "instance"])
    @pytest.mark.parametrize("how", ["-w", "--mount"])
    def test_no_wsgi_application(self, on_loop, name, how):
        """A coroutine function can be none, and the message says what to write."""
        what = f"apps:{name}" if how == "-w" else f"/a=apps:{name}"
        text, code = refused(how, what, *on_loop)
        assert code == WRONG_APPLICATION
        assert "ASGI" in text
        assert "--asgi" in text

    def test_no_wsgi_application_without_a_loop(self):
        text, code = refused("-w", "apps:asgi")
        assert code == WRONG_APPLICATION
        assert "--asgi" in text


class TestMissing:
    def test_module(self, on_loop):
        text, code = refused("--asgi", "no_such_module:app", *on_loop)
        assert code == WRONG_APPLICATION
        assert "no_such_module" in text

    def test_file(self, on_loop):
        text, _ = refused("--asgi", "no_such_file.py", *on_loop)
        assert "no_such_file.py" in text

    def test_module_that_fails(self, on_loop):
        text, code = refused("--asgi", "broken", *on_loop)
        assert code == WRONG_APPLICATION
        assert "broken on purpose" in text

    def test_application(self, on_loop):
        """--asgi alone says of which kind it is, not which one."""
        text, _ = refused("--asgi", *on_loop)
        assert "asgi" in text

    def test_application_in_ini(self, on_loop, tmp_path):
        text, _ = refused(*on_loop, *lines(tmp_path, "asgi = true"))
        assert "asgi" in text

    @pytest.mark.parametrize("value", ["/a=", "/=", "apps:"])
    def test_half_of_it(self, on_loop, value):
        refused(f"--asgi={value}", *on_loop)


def test_two_for_the_whole_site(on_loop):
    text, _ = refused("--asgi", "apps:asgi", "--asgi", "apps:instance", *on_loop)
    assert "asgi" in text


def test_one_of_each_for_the_whole_site(on_loop):
    text, _ = refused("--asgi", "apps:asgi", "--module", "apps:wsgi", *on_loop)
    assert "asgi" in text


def test_workers_without_an_asgi_application_do_without_its_modules(serve):
    server = serve("imports", "--async", "2", "--ugreen")
    modules = "sys&asyncio&inspect&greenloom.engines.asgi"
    assert server.get(f"/?{modules}").body == b"sys"
