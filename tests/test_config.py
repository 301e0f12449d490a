"""The command line and INI files: what is understood, what is refused, and how."""

from __future__ import annotations

import re
import textwrap

import pytest

from tests.harness.server import APPS, ROOT, run

HELLO = str(APPS / "hello" / "app.py")
GOOD = ("--http-socket", "127.0.0.1:0", "--wsgi-file", HELLO)


def write(folder, text, name="app.ini"):
    path = folder / name
    path.write_text(textwrap.dedent(text))
    return path


def check(path, *options, **how):
    return run("--check", "--ini", str(path), *options, **how)


class TestCommandLine:
    def test_version(self):
        outcome = run("--version")
        assert outcome.returncode == 0
        assert re.search(r"\d+\.\d+\.\d+", outcome.stdout)

    def test_help(self):
        outcome = run("--help")
        assert outcome.returncode == 0
        for option in ("--async", "--http-socket", "--processes", "--post-buffering", "--ini"):
            assert option in outcome.stdout

    def test_loop_list(self):
        outcome = run("--loop-list")
        assert outcome.returncode == 0
        assert "native" in outcome.stdout

    @pytest.mark.parametrize(
        ("wrong", "near"),
        [
            ("--http-sokcet", "http-socket"),
            ("--proceses", "processes"),
            ("--asinc", "async"),
            ("--wsgifile", "wsgi-file"),
        ],
    )
    def test_an_unknown_option_names_the_nearest(self, wrong, near):
        outcome = run(wrong, "1")
        assert outcome.returncode == 1
        assert wrong.strip("-") in outcome.stderr
        assert near in outcome.stderr

    @pytest.mark.parametrize(
        "options",
        [
            ("--async", "abc"),
            ("--async", "-1"),
            ("--async", "1000001"),
            ("--async", "5x"),
            ("--async",),
            ("--processes", ""),
            ("--processes", "1.5"),
            ("--chmod-socket=999",),
        ],
    )
    def test_bad_values(self, options):
        outcome = run("--check", *GOOD, *options)
        assert outcome.returncode == 1
        assert options[0].strip("-").partition("=")[0] in outcome.stderr

    def test_async_0_is_none(self, fresh):
        server = fresh("hello", "--async", "0")
        assert "async" not in server.log_text().partition("Operational MODE: ")[2].split("\n")[0]
        assert server.get("/").body == b"hello\n"

    def test_known_but_absent_options_are_refused_by_name(self):
        outcome = run("--check", *GOOD, "--spooler", "jobs")
        assert outcome.returncode == 1
        assert "spooler" in outcome.stderr

    def test_short_options(self, fresh):
        server = fresh(None, "-p", "2", "--chdir", str(APPS / "hello"), "-w", "app")
        assert len(server.workers()) == 2

    def test_plugins_are_accepted(self):
        for spelling in (["--plugin", "python"], ["--plugins", "python,http"]):
            assert run("--check", *GOOD, *spelling).returncode == 0

    def test_a_missing_part_is_refused(self):
        outcome = run("--check", *GOOD, "--plugin", "nosuchplugin")
        assert outcome.returncode == 1
        assert "nosuchplugin" in outcome.stderr


class TestAccounts:
    """Names come from the system; whether we may become them shows at the start."""

    @pytest.mark.parametrize("options", [("--uid", "root", "--gid", "root"), ("--uid", "4711")])
    def test_known(self, options):
        outcome = run("--check", *GOOD, *options)
        assert outcome.returncode == 0, outcome.stderr

    @pytest.mark.parametrize("option", ["--uid", "--gid"])
    def test_unknown(self, option):
        outcome = run("--check", *GOOD, option, "no such account")
        assert outcome.returncode == 1
        assert (
            f'option "{option.strip("-")}", value "no such account": there is no such'
            in outcome.stderr
        )


class TestCheck:
    def test_contradictions_name_both_places(self, tmp_path):
        path = write(tmp_path, "[uwsgi]\nmaster = false\n")
        outcome = run("--check", *GOOD, "--stats", "127.0.0.1:0", "--ini", str(path))
        assert outcome.returncode == 1
        assert 'argument 6: option "stats"' in outcome.stderr
        assert f"switched off ({path}:2)" in outcome.stderr

    def test_good(self):
        outcome = run("--check", *GOOD)
        assert outcome.returncode == 0, outcome.stderr

    def test_bad(self):
        assert run("--check", *GOOD, "--nonsense").returncode == 1

    def test_does_not_bind(self, fresh):
        host, port = fresh("hello").http_address
        outcome = run("--check", "--http-socket", f"{host}:{port}", "--wsgi-file", HELLO)
        assert outcome.returncode == 0, outcome.stderr


class TestIni:
    def test_serves(self, fresh, tmp_path):
        path = write(
            tmp_path,
            f"""
            [uwsgi]
            ; a comment
            # another one
            http-socket = 127.0.0.1:0
            wsgi-file = {HELLO}
            async = 3
            """,
        )
        server = fresh(None, "--ini", str(path), http=None, probe=False)
        assert server.listeners[0].kind == "TCP"
        server.http_number = 0
        assert server.get("/").body == b"hello\n"

    def test_positional(self, fresh, tmp_path):
        path = write(
            tmp_path,
            f"""
            [uwsgi]
            http-socket = 127.0.0.1:0
            wsgi-file = {HELLO}
            """,
        )
        server = fresh(None, str(path), http=None, probe=False)
        server.http_number = 0
        assert server.get("/").body == b"hello\n"

    def test_an_unknown_key_names_file_line_and_nearest(self, tmp_path):
        path = write(
            tmp_path,
            f"""\
            [uwsgi]
            http-socket = 127.0.0.1:0
            proceses = 2
            wsgi-file = {HELLO}
            """,
        )
        outcome = check(path)
        assert outcome.returncode == 1
        assert f"{path}:3" in outcome.stderr
        assert "proceses" in outcome.stderr
        assert "processes" in outcome.stderr

    def test_a_bad_value_names_file_and_line(self, tmp_path):
        path = write(tmp_path, "[uwsgi]\nhttp-socket = 127.0.0.1:0\nasync = many\n")
        outcome = check(path)
        assert outcome.returncode == 1
        assert f"{path}:3" in outcome.stderr
        assert "many" in outcome.stderr

    def test_a_missing_file(self, tmp_path):
        outcome = check(tmp_path / "none.ini")
        assert outcome.returncode == 1
        assert "none.ini" in outcome.stderr

    def test_a_missing_section(self, tmp_path):
        path = write(tmp_path, "[other]\nasync = 1\n")
        outcome = check(path)
        assert outcome.returncode == 1
        assert "uwsgi" in outcome.stderr

    def test_a_chosen_section(self, fresh, tmp_path):
        path = write(
            tmp_path,
            f"""
            [uwsgi]
            nonsense-that-nobody-reads = 1
            [prod]
            http-socket = 127.0.0.1:0
            wsgi-file = {HELLO}
            """,
        )
        server = fresh(None, "--ini", f"{path}:prod", http=None, probe=False)
        server.http_number = 0
        assert server.get("/").body == b"hello\n"

    def test_an_unknown_key_that_is_used_is_a_placeholder(self, tmp_path):
        path = write(
            tmp_path,
            """
            [uwsgi]
            project = shop
            http-socket = 127.0.0.1:0
            pidfile = /tmp/%(project).pid
            """,
        )
        outcome = check(path, "--wsgi-file", HELLO, "--print-config")
        assert outcome.returncode == 0, outcome.stderr
        assert "/tmp/shop.pid" in outcome.stdout

    def test_substitutions(self, tmp_path):
        secret = tmp_path / "value"
        secret.write_text("from-file\n")
        path = write(
            tmp_path,
            f"""
            [uwsgi]
            http-socket = 127.0.0.1:0
            wsgi-file = {HELLO}
            env = A=$(FROM_ENV)
            env = B=@({secret})
            env = C=%d
            env = D=%n
            env = E=100%%
            set-placeholder = base=/srv
            env = F=%(base)/x
            """,
        )
        outcome = run("--print-config", "--ini", str(path), env={"FROM_ENV": "environment"})
        assert outcome.returncode == 0, outcome.stderr
        for expected in (
            "A=environment",
            "B=from-file",
            f"C={tmp_path}/",
            "D=app",
            "E=100%%",
            "F=/srv/x",
        ):
            assert expected in outcome.stdout, expected

    def test_an_included_file_names_its_own_line(self, tmp_path):
        inner = write(tmp_path, "[uwsgi]\n\nasinc = 2\n", "inner.ini")
        path = write(tmp_path, f"[uwsgi]\nini = {inner}\n")
        outcome = check(path)
        assert outcome.returncode == 1
        assert f"{inner}:3" in outcome.stderr


class TestStandardInput:
    """It can be read once; with a master every generation reads the configuration again."""

    TEXT = f"[uwsgi]\nhttp-socket = 127.0.0.1:0\nwsgi-file = {HELLO}\n"

    @pytest.mark.parametrize("name", ["-", "-:uwsgi", "/dev/stdin"])
    def test_refused_with_a_master(self, name):
        outcome = run("--ini", name, stdin=self.TEXT)
        assert outcome.returncode == 1
        assert "only once" in outcome.stderr
        assert "--master=false" in outcome.stderr

    def test_read_where_once_is_enough(self):
        outcome = run("--ini", "-", "--master=false", "--check", stdin=self.TEXT)
        assert outcome.returncode == 0, outcome.stderr
        outcome = run("--ini", "-", "--print-config", stdin=self.TEXT)
        assert outcome.returncode == 0, outcome.stderr
        assert printed(outcome.stdout)["wsgi-file"] == (HELLO, "-:3")

    def test_the_text_counts(self):
        outcome = run("--ini", "-", "--master=false", "--check", stdin="[uwsgi]\nproceses = 2\n")
        assert outcome.returncode == 1
        assert "-:2" in outcome.stderr


def printed(text):
    """Options given, as {name: (value, comment above it)}."""
    found, comment = {}, ""
    for line in text.splitlines():
        if line.startswith(";"):
            comment = line.strip("; ")
        elif "=" in line:
            name, _, value = line.partition("=")
            found[name.strip()] = (value.strip(), comment)
    return found


class TestPrintConfig:
    def test_value_and_origin(self, tmp_path):
        path = write(tmp_path, "[uwsgi]\nhttp-socket = 127.0.0.1:0\nprocesses = 4\n")
        outcome = run("--print-config", "--ini", str(path), "--async", "7", "--wsgi-file", HELLO)
        assert outcome.returncode == 0, outcome.stderr
        found = printed(outcome.stdout)
        assert found["processes"] == ("4", f"{path}:3")
        assert found["async"] == ("7", "command line, argument 4")

    def test_defaults_are_shown(self):
        outcome = run("--print-config", *GOOD)
        assert re.search(r"; post-buffering = 1m", outcome.stdout)
        assert "post-buffering" not in printed(outcome.stdout)

    def test_can_be_read_again(self, tmp_path):
        first = run("--print-config", *GOOD, "--async", "3", "--env", "A=50%").stdout
        path = write(tmp_path, first)
        second = run("--print-config", "--ini", str(path)).stdout
        values = [{k: v for k, (v, _) in printed(text).items()} for text in (first, second)]
        assert values[0] == values[1]
        assert values[0]["async"] == "3"

    def test_order_decides(self, tmp_path):
        path = write(tmp_path, "[uwsgi]\nprocesses = 4\n")
        expected = {
            ("--processes", "2", "--ini", str(path)): "4",
            ("--ini", str(path), "--processes", "2"): "2",
            (str(path), "--processes", "2"): "4",
        }
        for arguments, value in expected.items():
            outcome = run("--print-config", *GOOD, *arguments)
            assert printed(outcome.stdout)["processes"][0] == value, arguments


CORPUS = sorted((ROOT / "tests" / "corpus" / "ini").glob("*.ini"))


@pytest.mark.parametrize("path", CORPUS, ids=lambda p: p.name)
def test_corpus(path):
    """Published configurations: each starts, or is refused with the names of what is missing."""
    expectation = re.search(r"^; expect: (start|refuse)(.*)$", path.read_text(), re.MULTILINE)
    outcome = check(path, cwd=path.parent)
    if expectation[1] == "start":
        assert outcome.returncode == 0, outcome.stderr
        return
    assert outcome.returncode == 1
    for name in expectation[2].split():
        assert re.search(rf'{re.escape(path.name)}:\d+: .*"{re.escape(name)}"', outcome.stderr), (
            name
        )


def test_the_corpus_is_there():
    assert len(CORPUS) >= 20
