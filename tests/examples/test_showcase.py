"""The showcase: every example is mounted, linked and answers below its own name."""

from __future__ import annotations

import re
import shutil

import pytest

from .support import ROOT, free_port, readme_command, running

pytest.importorskip("flask")
pytest.importorskip("django")


@pytest.fixture(scope="module")
def showcase(tmp_path_factory):
    # A copy of all examples: %d and the paths next to it mean the same, only the port differs.
    copy = tmp_path_factory.mktemp("showcase") / "examples"
    shutil.copytree(ROOT / "examples", copy, ignore=shutil.ignore_patterns("__pycache__"))
    ini, port = copy / "showcase/showcase.ini", free_port()
    text = ini.read_text()
    assert "\nhttp-socket = 127.0.0.1:9090\n" in text
    ini.write_text(text.replace("127.0.0.1:9090", f"127.0.0.1:{port}"))
    command = readme_command("showcase")
    assert "examples/showcase/showcase.ini" in command
    with running(command.replace("examples/showcase/showcase.ini", str(ini)), port=port) as server:
        yield server


ELSEWHERE = {"showcase", "psycopg2", "asyncio", "asgi", "gevent", "gevent_django"}
"""Not on the page: itself, and what needs a database or a loop of its own."""


def examples():
    folders = {folder.name for folder in (ROOT / "examples").iterdir() if folder.is_dir()}
    return sorted(folders - ELSEWHERE)


def test_the_page_links_every_example(showcase):
    status, headers, body = showcase.request("GET", "/")
    assert status == 200
    assert headers["Content-Type"] == "text/html; charset=utf-8"
    page = body.decode()
    for name in examples():
        assert f'<section id="{name}"' in page
        assert f'href="/{name}/' in page
    # Self-contained: nothing is loaded from elsewhere.
    assert not re.search(r'(src|href)="(https?:)?//', page)


def test_every_link_of_the_page_answers(showcase):
    links = set(re.findall(r'href="(/[^"]*)"', showcase.get("/").decode()))
    assert len(links) > 10
    for link in sorted(links):
        expected = 500 if link.endswith("/broken") else 200
        path = link.replace("&amp;", "&").replace("seconds=0.5", "seconds=0.01")
        path = path.replace("rate=64", "rate=10000")
        assert showcase.request("GET", path)[0] == expected, link


def test_mounted_applications_see_their_own_paths(showcase):
    assert showcase.get("/cpubound/hello") == b"hello\n"
    assert showcase.get("/flask_hello/") == b"Hello from Flask at /flask_hello\n"
    assert showcase.get("/django_hello/") == b"Hello from Django at /django_hello/\n"
    assert showcase.get("/fdevent/upstream/hello") == b"hello\n"
    admin = b"admin: script_name='/mounts/shop/admin' path_info='/users'\n"
    assert showcase.get("/mounts/shop/admin/users") == admin
    assert showcase.request("GET", "/nothing")[0] == 404
    assert showcase.request("GET", "/favicon.ico")[0] == 204


def test_chat_on_the_showcase(showcase):
    with showcase.stream("/comet/listen") as stream:
        assert [stream.readline(), stream.readline()] == [b": you are listening\n", b"\n"]
        assert showcase.request("POST", "/comet/say", b"hello")[0] == 200
        assert stream.readline().startswith(b"id: ")
        assert stream.readline() == b"data: hello\n"
