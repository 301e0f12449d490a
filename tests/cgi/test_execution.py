"""How a script is run: its program, arguments, environment, descriptors, and what it says aside."""

from __future__ import annotations

import os
import signal
import subprocess

import pytest

from tests.cgi.scripts import FOLDER, HEAD, MOUNT, do, write
from tests.harness.waiting import until

ENVIRONMENT = HEAD + r"cat /proc/$$/environ"
SHELL_HEAD = "#!/bin/sh\nprintf 'Content-Type: text/plain\\n\\n'\n"


def started_with():
    """Posix signals that whoever runs the tests ignores: the server's children ignore them, too."""
    known = {number for number in signal.Signals if signal.getsignal(number) == signal.SIG_IGN}
    return known - {signal.SIGPIPE, signal.SIGXFSZ}


def variables(answer):
    pairs = (part.partition(b"=") for part in answer.body.split(b"\0") if part)
    return {name.decode(): value.decode("latin-1") for name, _, value in pairs}


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "scripts"


class TestPrograms:
    def test_one_that_is_not_executable_is_403_and_says_what_to_do(self, alone, folder):
        write(folder / "plain", SHELL_HEAD, 0o644)
        server = alone("--cgi", f"/x={folder}", allow=["cannot run .*/plain"])
        if os.access(folder / "plain", os.X_OK):
            pytest.skip("this user may execute anything")
        assert server.get("/x/plain").status == 403
        server.wait_for_log(r"cannot run \S+/plain: .*chmod \+x.*--cgi-helper.*answered 403")

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("printf 'X: y\\n\\n'\n", "must name an interpreter"),
            ("", "must name an interpreter"),
            ("#!/no/such/interpreter\n", "is the interpreter that its first line names there"),
            ("#!/bin/sh\r\nprintf 'X: y\\n\\n'\n", "is the interpreter that its first line names"),
            ("#!/etc\n", "cannot start"),
            ("\x7fELF and nothing behind it", "cannot start"),
        ],
        ids=["no #!", "empty", "missing", "CRLF", "directory", "no program"],
    )
    def test_one_that_cannot_be_started_is_500_and_says_why(self, alone, folder, text, said):
        write(folder / "bad", text)
        write(folder / "good", SHELL_HEAD + "echo good\n")
        server = alone("--cgi", f"/x={folder}", allow=["cannot start .*/bad"])
        with server.http() as client:
            assert client.get("/x/bad").status == 500
            # The connection and the server serve on.
            assert client.get("/x/good").body == b"good\n"
        server.wait_for_log(said)

    def test_a_fifo_or_directory_in_place_of_a_script(self, alone, folder):
        folder.mkdir()
        os.mkfifo(folder / "fifo", 0o755)
        server = alone("--cgi", f"/x={folder}")
        assert server.get("/x/fifo").status in (403, 404)

    def test_a_compiled_program_runs(self, alone, folder):
        folder.mkdir()
        source = folder / "program.c"
        source.write_text('#include <stdio.h>\nint main(void){puts("X-Is: C\\n");return 0;}\n')
        if subprocess.run(["cc", "-o", str(folder / "c"), str(source)], check=False).returncode:
            pytest.skip("no compiler")
        assert alone("--cgi", f"/x={folder}").get("/x/c").header("x-is") == "C"

    def test_its_exit_code_means_nothing(self, server):
        answer = do(server, HEAD + "echo done; exit 3")
        assert (answer.status, answer.body) == (200, b"done\n")

    def test_one_that_dies_of_a_signal_has_answered_what_it_wrote(self, server):
        answer = do(server, HEAD + "echo so far; kill -9 $$")
        assert (answer.status, answer.body) == (200, b"so far\n")


class TestArguments:
    SAYS = HEAD + r"""printf '<%s>' "$@" """

    @pytest.mark.parametrize(
        ("query", "words"),
        [
            ("one", b"<one>"),
            ("one+two%20x", b"<one><two x>"),
            ("a%2bb+%3d", b"<a+b><=>"),
            ("-x", b"<-x>"),
            ("$(id)+`id`+;+*", b"<$(id)><`id`><;><*>"),
            ("a=1", b"<>"),
            ("one+a=1", b"<>"),
            ("", b"<>"),
            ("a%zz", b"<>"),
            ("a%00b", b"<>"),
        ],
    )
    def test_words_of_a_query_that_is_no_form(self, server, query, words):
        answer = do(server, self.SAYS, path=f"/cgi-bin/do?{query}")
        assert (answer.status, answer.body) == (200, words)

    def test_its_name_is_its_path(self, server):
        answer = do(server, HEAD + r"tr '\0' '\n' </proc/$$/cmdline")
        assert answer.body.decode().split("\n") == ["/bin/sh", f"{FOLDER}/do", ""]


class TestEnvironment:
    def test_nothing_of_the_server_but_path(self, scripts):
        server = scripts(env={"SECRET": "s3cret", "PATH": "/usr/bin:/bin", "LANG": "C"})
        found = variables(do(server, ENVIRONMENT))
        assert found["PATH"] == "/usr/bin:/bin"
        assert "s3cret" not in found.values()
        assert {"SECRET", "LANG", "HOME", "PWD"}.isdisjoint(found)
        request = {
            "HTTP_CONNECTION",
            "HTTP_HOST",
            "HTTP_X_DO",
            "QUERY_STRING",
            "REQUEST_METHOD",
            "REQUEST_URI",
        }
        server_side = {"SERVER_NAME", "SERVER_PORT", "SERVER_PROTOCOL", "SERVER_SOFTWARE"}
        script = {"DOCUMENT_ROOT", "SCRIPT_FILENAME", "SCRIPT_NAME", "GATEWAY_INTERFACE"}
        others = {"REMOTE_ADDR", "REMOTE_PORT", "REDIRECT_STATUS", "PATH"}
        assert set(found) == request | server_side | script | others

    def test_chosen_variables_are_given(self, scripts):
        server = scripts(
            *("--cgi-env", "LANG=C.UTF-8", "--cgi-env", "TOKEN", "--cgi-env", "NOWHERE"),
            *("--cgi-env", "EMPTY=", "--cgi-env", "SERVER_NAME=ours.example"),
            env={"TOKEN": "a=b c"},
        )
        found = variables(do(server, ENVIRONMENT))
        assert found["LANG"] == "C.UTF-8"
        assert found["TOKEN"] == "a=b c"
        assert found["EMPTY"] == ""
        assert found["SERVER_NAME"] == "ours.example"
        assert "NOWHERE" not in found

    def test_others_are_taken_away(self, scripts):
        server = scripts(
            *("--cgi-unset", "HTTP_X_SECRET", "--cgi-unset", "PATH"),
            *("--cgi-env", "BOTH=1", "--cgi-unset", "BOTH"),
        )
        found = variables(
            do(server, "PATH=/bin:/usr/bin; " + ENVIRONMENT, headers=[("X-Secret", "1")])
        )
        assert {"HTTP_X_SECRET", "PATH", "BOTH"}.isdisjoint(found)

    @pytest.mark.parametrize("name", ["Proxy", "PROXY", "proxy"])
    def test_a_client_cannot_name_a_proxy(self, server, name):
        found = variables(do(server, ENVIRONMENT, headers=[(name, "http://evil.example")]))
        assert "HTTP_PROXY" not in found
        assert not any("evil" in value for value in found.values())

    def test_nor_can_it_set_what_is_not_its_own(self, server):
        headers = [("Path", "/evil"), ("Ld-Preload", "x"), ("Script-Name", "x"), ("X", "a\tb")]
        found = variables(do(server, ENVIRONMENT, headers=headers))
        assert "evil" not in found["PATH"]
        assert "LD_PRELOAD" not in found
        assert found["SCRIPT_NAME"] == "/cgi-bin/do"
        assert found["HTTP_LD_PRELOAD"] == "x"

    def test_two_spellings_of_one_name_are_no_second_variable(self, server):
        answer = do(
            server, ENVIRONMENT, headers=[("X-A", "true"), ("X_A", "false"), ("X-A", "again")]
        )
        names = [part.partition(b"=")[0] for part in answer.body.split(b"\0")]
        assert names.count(b"HTTP_X_A") == 1
        assert b"HTTP_X_A=false" not in answer.body.split(b"\0")


class TestSurroundings:
    def test_three_descriptors_and_no_other(self, server):
        answer = do(server, HEAD + "exec ls /proc/$$/fd")
        # The fourth is ls's own look at the directory.
        assert answer.body.split() == [b"0", b"1", b"2", b"3"]

    @pytest.mark.parametrize("where", ["alone", "beside"])
    def test_no_posix_signal_is_blocked_or_ignored(self, where, scripts, beside):
        server = scripts() if where == "alone" else beside("hello", *MOUNT)
        answer = do(server, HEAD + "exec cat /proc/$$/status")
        lines = dict(line.split(":\t", 1) for line in answer.body.decode().splitlines())
        assert int(lines["SigBlk"], 16) == 0
        # 32 and 33 are the C library's. CPython ignores SIGXFSZ (25), and children inherit that: a
        # write beyond the limit of a file's size fails, instead of ending the script.
        inherited = started_with() | ({signal.SIGXFSZ} if where == "beside" else set())
        ignored = {number + 1 for number in range(64) if int(lines["SigIgn"], 16) >> number & 1}
        assert ignored.isdisjoint(set(range(1, 32)) - inherited)

    def test_a_group_of_its_own(self, server):
        answer = do(server, HEAD + "cut -d' ' -f1,5 /proc/$$/stat")
        pid, group = answer.body.split()
        assert pid == group

    def test_its_input_is_empty_without_a_body(self, server):
        assert do(server, HEAD + "wc -c").body.strip() == b"0"

    def test_what_it_says_on_stderr_is_in_the_log(self, server):
        assert do(server, HEAD + "echo to the log >&2; echo out").body == b"out\n"
        server.wait_for_log(r"^to the log$")

    def test_much_on_stderr_delays_nothing(self, server):
        loud = "head -c 3000000 /dev/zero | tr '\\0' 'x' >&2; "
        assert do(server, HEAD + loud + "echo out").body == b"out\n"
        until(lambda: server.log_path.stat().st_size - server.mark > 3_000_000, "all of it")
