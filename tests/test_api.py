"""The API outside the server, outside a request, and in other threads."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest

from tests.harness.server import command, environment


def interpreter() -> str:
    """The interpreter beside the command: the one greenloom is installed for."""
    from pathlib import Path

    beside = Path(command()[0]).parent / "python"
    return str(beside) if beside.exists() else sys.executable


def outside(code: str):
    return subprocess.run(
        [interpreter(), "-c", textwrap.dedent(code)],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )


class TestOutsideTheServer:
    def test_import_works(self):
        outcome = outside("import greenloom.api; print('imported')")
        assert outcome.stdout == "imported\n", outcome.stderr

    @pytest.mark.parametrize(
        "call",
        [
            "suspend()",
            "async_sleep(1)",
            "wait_fd_read(0, 1)",
            "wait_fd_write(1, 1)",
            "ready_fd()",
            "worker_id()",
            "log('x')",
            "masterpid()",
        ],
    )
    def test_calls_say_that_no_server_runs(self, call):
        outcome = outside(
            f"""
            import greenloom.api
            try:
                greenloom.api.{call}
            except RuntimeError as error:
                print(error)
            else:
                print("no error")
            """
        )
        assert "server" in outcome.stdout, outcome

    def test_python_m(self):
        outcome = subprocess.run(
            [interpreter(), "-m", "greenloom", "--version"],
            env=environment(),
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )
        assert outcome.returncode == 0, outcome.stderr
        assert outcome.stdout.strip()


class TestOutsideARequest:
    NEED_REQUEST = ("suspend", "async_sleep", "wait_fd_read", "wait_fd_write", "connection_fd")

    @pytest.mark.parametrize("where", ["import", "thread"])
    def test_raises(self, serve, modes, where):
        server = serve("misuse", *modes)
        found = server.get(f"/{where}").json()
        for name in self.NEED_REQUEST:
            assert "error" in found[name], (name, found[name])
            assert found[name]["text"]
        assert server.get(f"/{where}").status == 200

    def test_the_request_goes_on(self, serve):
        server = serve("misuse", "--async", "2")
        for _ in range(5):
            assert server.get("/thread").status == 200


def test_both_names_are_one_module(serve, tmp_path):
    source = """
    import greenloom.api
    import uwsgi


    def application(environ, start_response):
        start_response("200 OK", [])
        return [str(uwsgi is greenloom.api).encode()]
    """
    (tmp_path / "names.py").write_text(textwrap.dedent(source))
    assert serve(None, "--chdir", str(tmp_path), "-w", "names").get("/").body == b"True"
