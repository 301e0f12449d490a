"""The API outside the server, outside a request, and in other threads."""

from __future__ import annotations

import ast
import subprocess
import sys
import textwrap
from typing import ClassVar

import pytest

from tests.harness.server import ROOT, command, environment


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


class TestTypes:
    """The stub says of the module what is true."""

    STUB = ROOT / "python" / "greenloom" / "api.pyi"
    HOOKS: ClassVar = {"post_fork_hook", "atexit", "after_req_hook"}
    """Applications assign them; until then the module has no such names."""

    def declared(self):
        names = set()
        for node in ast.parse(self.STUB.read_text()).body:
            # Of the classes only exceptions are there at run time; the others are shapes of dicts.
            bases = set(map(ast.unparse, node.bases)) if isinstance(node, ast.ClassDef) else set()
            exception = bases & {"BaseException", "OSError"}
            if isinstance(node, ast.FunctionDef) or exception:
                names.add(node.name)
            elif isinstance(node, ast.AnnAssign):
                names.add(node.target.id)
        return names

    def test_what_the_stub_declares_is_there(self):
        outcome = outside("import greenloom.api; print(*greenloom.api.__all__)")
        exported = set(outcome.stdout.split())
        assert "suspend" in exported, outcome.stderr
        assert self.declared() - exported == self.HOOKS

    def test_what_the_stub_leaves_out_only_raises(self, serve, tmp_path):
        """A name without types is one that nobody can call anyway."""
        source = f"""
        import uwsgi

        declared = set({sorted(self.declared())!r})


        def outcome(name):
            try:
                getattr(uwsgi, name)()
            except NotImplementedError as error:
                assert name in str(error)
                return "raises"
            except Exception as error:
                return repr(error)
            return "returns"


        def application(environ, start_response):
            start_response("200 OK", [("Content-Type", "text/plain")])
            for name in sorted(set(uwsgi.__all__) - declared):
                yield f"{{name}} {{outcome(name)}}\\n".encode()
        """
        (tmp_path / "untyped.py").write_text(textwrap.dedent(source))
        server = serve(None, "--chdir", str(tmp_path), "-w", "untyped")
        found = dict(line.split(" ", 1) for line in server.get("/").body.decode().splitlines())
        assert "cache_get" in found
        assert set(found.values()) == {"raises"}, found


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


@pytest.mark.parametrize("options", [(), ("--lazy-apps",), ("--master=false",)])
def test_the_servers_own_variable_is_not_the_applications(serve, tmp_path, options):
    """Neither in `os.environ`, when the module is loaded and later, nor for programs it starts."""
    source = """
    import os
    import subprocess


    def seen():
        return [name for name in os.environ if name.startswith("GREENLOOM")]


    at_load = seen()


    def application(environ, start_response):
        env = subprocess.run(["env"], capture_output=True, text=True, check=True).stdout
        inherited = [line for line in env.splitlines() if line.startswith("GREENLOOM")]
        start_response("200 OK", [])
        return [repr(at_load + seen() + inherited).encode()]
    """
    (tmp_path / "variables.py").write_text(textwrap.dedent(source))
    server = serve(None, "--chdir", str(tmp_path), "-w", "variables", *options)
    assert server.get("/").body == b"[]"
