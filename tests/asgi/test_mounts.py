"""Which application gets a request, and what it is told of where it is mounted."""

from __future__ import annotations

import pytest

from tests.harness.asking import ask
from tests.harness.server import APPS

CHDIR = ("--chdir", str(APPS / "asgi_mounts"))


@pytest.fixture
def start(serve_asgi):
    def started(*options, **how):
        return serve_asgi(None, *CHDIR, *options, **how)

    return started


class TestNames:
    """The ways to say which application."""

    @pytest.mark.parametrize(
        ("options", "name"),
        [
            (("--asgi", "one"), "one"),
            (("--asgi", "one:application"), "one"),
            (("--asgi", "one:named"), "named"),
            (("--asgi", "one:instance"), "instance"),
            (("--asgi", "one.py"), "one"),
            (("--asgi", "one.py:named"), "named"),
            (("--asgi=one:named",), "named"),
            (("-w", "one:named", "--asgi"), "named"),
            (("--asgi", "-w", "one"), "one"),
            (("--wsgi-file", "one.py", "--asgi"), "one"),
            (("--wsgi-file", "one.py", "--callable", "named", "--asgi"), "named"),
            (("--module", "one", "--callable", "named", "--asgi"), "named"),
        ],
    )
    def test_command_line(self, start, options, name):
        assert ask(start(*options), "/a/b") == [name, "", "/a/b", "/a/b"]

    @pytest.mark.parametrize(
        ("lines", "name"),
        [
            (["asgi = one:named"], "named"),
            (["asgi = one"], "one"),
            (["module = one:named", "asgi = true"], "named"),
            (["wsgi-file = one.py", "asgi = true"], "one"),
            (["asgi = one", "asgi = /x=two"], "one"),
        ],
    )
    def test_ini(self, serve_asgi, tmp_path, lines, name):
        ini = tmp_path / "site.ini"
        ini.write_text("\n".join(["[uwsgi]", f"chdir = {CHDIR[1]}", *lines, ""]))
        server = serve_asgi(None, "--ini", str(ini))
        assert ask(server, "/a") == [name, "", "/a", "/a"]

    def test_a_module_in_a_package(self, fresh_asgi, tmp_path):
        package = tmp_path / "shop"
        package.mkdir()
        source = (APPS / "asgi_mounts" / "one.py").read_text()
        (package / "main.py").write_text(source.replace("application", "app"))
        ini = tmp_path / "site.ini"
        ini.write_text(f"[greenloom]\nchdir = {tmp_path}\nasgi = shop.main:app\n")
        server = fresh_asgi(None, "--ini", str(ini))
        assert ask(server, "/a") == ["one", "", "/a", "/a"]


class TestPrefixes:
    @pytest.fixture
    def server(self, start):
        return start("--asgi", "one", "--asgi", "/two=two", "--asgi", "/two/deep=one:named")

    @pytest.mark.parametrize(
        ("target", "found"),
        [
            ("/", ["one", "", "/", "/"]),
            ("/a", ["one", "", "/a", "/a"]),
            ("/two", ["two", "/two", "/two", "/two"]),
            ("/two/", ["two", "/two", "/two/", "/two/"]),
            ("/two/a?b", ["two", "/two", "/two/a", "/two/a"]),
            ("/twofold", ["one", "", "/twofold", "/twofold"]),
            ("/two/deep/a", ["named", "/two/deep", "/two/deep/a", "/two/deep/a"]),
            ("/t%77o/a%2Fb", ["two", "/two", "/two/a/b", "/t%77o/a%2Fb"]),
        ],
    )
    def test_path_includes_the_prefix(self, server, target, found):
        assert ask(server, target) == found

    def test_without_one_for_the_rest(self, start):
        server = start("--asgi", "/one=one", "--asgi", "/two=two", probe=False)
        assert ask(server, "/one/a") == ["one", "/one", "/one/a", "/one/a"]
        assert ask(server, "/two") == ["two", "/two", "/two", "/two"]
        # As with --mount: the first one takes what is nobody else's.
        assert ask(server, "/three") == ["one", "", "/three", "/three"]

    def test_packets(self, start):
        server = start("--asgi", "one", "--asgi", "/two=two", uwsgi="127.0.0.1:0")
        answer = server.packets().ask(path="/two/a")
        assert answer.json() == ["two", "/two", "/two/a", "/two/a"]


class TestBesideWsgi:
    def test_an_asgi_site(self, start):
        server = start("--asgi", "one", "--mount", "/old=wsgi.py")
        self.both(server, "/new", ["one", "", "/new", "/new"], "/old", ["wsgi", "/old"])

    def test_a_wsgi_site(self, start):
        server = start("--module", "wsgi", "--asgi", "/new=one")
        self.both(server, "/new/a", ["one", "/new", "/new/a", "/new/a"], "", ["wsgi", ""])

    def both(self, server, asgi, found, prefix, wsgi):
        """One after the other on one connection, and at a time in one worker."""
        client = server.http()
        for _ in range(3):
            assert client.get(asgi).json() == found
            assert client.get(f"{prefix}/x").json() == [*wsgi, "/x"]
        waits = [server.http() for _ in range(3)]
        for waiting in waits:
            waiting.send_request(target=f"{prefix}/wait")
        for _ in range(5):
            assert ask(server, asgi) == found
        assert ask(server, f"{prefix}/go")[-1] == "/go"
        assert [waiting.read_response().json() for waiting in waits] == [[*wsgi, "/wait"]] * 3
        lines = server.wait_requests(15)
        assert len({line.pid for line in lines}) == 1
        # Each kind of application has a number of its own.
        assert len({line.app for line in lines}) == 2
