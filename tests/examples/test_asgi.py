"""The ASGI examples: each ini file of the README, on the loops that the README names."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
from concurrent.futures import ThreadPoolExecutor

import pytest

from .support import ROOT, free_port, readme_command, running, until

FOLDER = ROOT / "examples/asgi"
ON = {
    "asyncio": "",
    "uvloop": "asyncio-loop = uvloop\n",
    "tornado": "tornado = 100\n",
}
"""What stands in an ini file for a loop."""


@pytest.fixture(params=ON)
def serve(request, tmp_path):
    """`serve(name)` runs the README's command with `name.ini`, on each loop."""
    pytest.importorskip(request.param)

    @contextlib.contextmanager
    def started(name):
        copy, port = tmp_path / "asgi", free_port()
        shutil.copytree(FOLDER, copy, ignore=shutil.ignore_patterns("__pycache__"))
        ini = copy / f"{name}.ini"
        text = ini.read_text()
        assert "\nhttp-socket = 127.0.0.1:9090\n" in text
        text = text.replace("127.0.0.1:9090", f"127.0.0.1:{port}")
        if request.param == "tornado":
            text, count = re.subn(r"^asyncio = \d+\n", "", text, flags=re.MULTILINE)
            assert count == 1
        ini.write_text(f"{text}{ON[request.param]}")
        command = readme_command("asgi")
        assert command.endswith(" examples/asgi/app.ini")
        command = command.replace("examples/asgi/app.ini", str(ini))
        with running(command, port=port) as server:
            until(lambda: "greenloom is ready" in server.log(), "it is ready")
            assert f"running {request.param} loop engine" in server.log()
            yield server

    return started


def test_the_readme_names_every_file():
    named = re.findall(r"\]\(([a-z_]+\.(?:ini|py))\)", (FOLDER / "README.md").read_text())
    assert set(named) == {path.name for path in FOLDER.iterdir() if path.suffix in (".ini", ".py")}


def test_app(serve):
    with serve("app") as server:
        assert server.get("/") == b"Hello from ASGI\n"
        scope = json.loads(server.get("/scope"))
        assert (scope["path"], scope["root_path"], scope["scheme"]) == ("/scope", "", "http")
        assert scope["server"] == ["127.0.0.1", server.port]
        assert scope["begun"] > 0, "the lifespan has begun"
        with server.stream("/ticks") as ticks:
            assert [ticks.readline() for _ in "12"] == [b"1\n", b"2\n"]
        until(lambda: "the client has left after" in server.log(), "the stream ends")
        body = os.urandom(3_000_000)
        expected = f"{len(body)} bytes, sha256 {hashlib.sha256(body).hexdigest()}\n".encode()
        assert server.request("POST", "/digest", body)[2] == expected
        pieces = iter([body[:1_000_000], body[1_000_000:]])
        _, _, answer = server.request("POST", "/digest", pieces, encode_chunked=True)
        assert answer == expected
        assert server.get("/source") == (FOLDER / "app.py").read_bytes()
        assert server.request("GET", "/nothing")[0] == 404
        assert "nobody is left" not in server.log(), "the lifespan goes on"


def test_starlette(serve):
    pytest.importorskip("starlette")
    with serve("starlette") as server:
        assert server.get("/") == b"Hello from Starlette\n"
        with server.stream("/count") as lines:
            assert lines.readline() == b"line 1\n"
            assert server.get("/") == b"Hello from Starlette\n", "others run between the lines"
            assert lines.read() == b"".join(b"line %d\n" % i for i in range(2, 6))
        with contextlib.ExitStack() as stack:
            listeners = [stack.enter_context(server.stream("/events")) for _ in range(20)]
            for listener in listeners:
                assert listener.readline() == b": you are listening\n"
                assert listener.readline() == b"\n"
            assert server.request("POST", "/say", "grüß Gott\n2".encode())[2] == b"20 listen\n"
            for listener in listeners:
                found = [listener.readline() for _ in range(3)]
                assert found == ["data: grüß Gott\n".encode(), b"data: 2\n", b"\n"]
        until(lambda: server.request("POST", "/say", b"?")[2] == b"0 listen\n", "all have left")
        status, _, body = server.request("POST", "/order")
        assert (status, body) == (202, b"ordered\n")
        until(lambda: json.loads(server.get("/mails")) == ["mail 1"], "the mail is written")


def test_fastapi(serve):
    pytest.importorskip("fastapi")
    with serve("fastapi") as server, ThreadPoolExecutor(20) as clients:
        assert json.loads(server.get("/")) == {"message": "Hello from FastAPI"}
        assert json.loads(server.get("/items/1")) == {"name": "teapot", "session": True}
        assert server.request("GET", "/items/99")[0] == 404
        assert server.request("GET", "/items/text")[0] == 422
        json_body = {"Content-Type": "application/json"}
        item = json.dumps({"name": "cup", "price": 3.5})
        status, _, body = server.request("POST", "/items", item, json_body)
        assert (status, json.loads(body)) == (201, {"number": 2, "price": 3.5})
        assert server.request("POST", "/items", '{"name": "cup"}', json_body)[0] == 422
        assert json.loads(server.get("/items/2"))["name"] == "cup"
        answers = list(clients.map(server.get, ["/sleep", "/blocks"] * 10))
        assert [json.loads(body) for body in answers] == [{"slept": 0.2}, {"blocked": 0.2}] * 10
        _, _, body = server.request("POST", "/upload", os.urandom(2_000_000))
        assert json.loads(body) == {"length": 2_000_000}
        assert b"swagger" in server.get("/docs")


def test_django(serve):
    pytest.importorskip("django")
    with serve("django") as server:
        assert server.get("/") == b"Hello from Django at /\n"
        assert server.get("/plain") == b"from a thread\n"
        form = {"Content-Type": "application/x-www-form-urlencoded"}
        _, _, body = server.request("POST", "/form", b"a=1&b=zwei", form)
        assert json.loads(body) == {"method": "POST", "fields": {"a": "1", "b": "zwei"}}
        with server.stream("/stream") as lines:
            assert lines.readline() == b"line 1\n"
            assert server.get("/") == b"Hello from Django at /\n", "others run between the lines"
            assert lines.read() == b"".join(b"line %d\n" % i for i in range(2, 6))
        assert server.request("GET", "/nothing")[0] == 404


def test_beside(serve):
    pytest.importorskip("flask")
    with serve("beside") as server, ThreadPoolExecutor(10) as clients:
        assert server.get("/old/") == b"Hello from Flask\n"
        assert server.get("/") == b"Hello from ASGI\n"
        assert server.request("GET", "/older")[0] == 404
        with server.stream("/ticks") as ticks:
            assert ticks.readline() == b"1\n"
            assert list(clients.map(server.get, ["/old/wait"] * 10)) == [b"waited\n"] * 10
            assert ticks.readline() == b"2\n"
        pids = set(re.findall(r"^\[pid: (\d+)\|app: \d", server.log(), re.MULTILINE))
        assert len(pids) == 1, "one worker serves both"
