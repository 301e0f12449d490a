"""The commands of the documentation that greenloom was made for, as written there.

Each row holds the wording of the documentation. `./uwsgi` and `uwsgi` are read as `greenloom`, and
the port becomes a free one on the loopback; nothing else is changed.
"""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from textwrap import dedent, indent

import pytest

from .support import ROOT, ends, running, until, uwsgi_request

NUMBERS = b"".join(b"<h1>%d</h1>" % i for i in range(1, 10000))
AWAKE = b"".join(b"awake %d\n" % i for i in range(1, 11))

# (the command as documented, its port, protocol, the body that `/` must answer)
RUNS = [
    ("./uwsgi --socket :3031 -w tests.cpubound_async --async 10", ":3031", "uwsgi", NUMBERS),
    ("./uwsgi --http-socket :9090 -w tests.cpubound_async --async 10", ":9090", "http", NUMBERS),
    (
        "uwsgi --http-socket :9090 --async 10 --wsgi-file tests/sleeping_async.py",
        ":9090",
        "http",
        AWAKE,
    ),
    ("uwsgi --async 10 --socket :3031 --module tests.sleeping_async", ":3031", "uwsgi", AWAKE),
    (
        "uwsgi --plugins python --async 10 --http-socket :9090 -w tests.sleeping_async",
        ":9090",
        "http",
        AWAKE,
    ),
    (
        "uwsgi --async 100 --ugreen --socket :3031 -w tests.cpubound_async",
        ":3031",
        "uwsgi",
        NUMBERS,
    ),
    (
        "./uwsgi --plugin greenlet --async 10 --greenlet --socket :3031 -w tests.cpubound_async",
        ":3031",
        "uwsgi",
        NUMBERS,
    ),
    (
        "./uwsgi --async 10 --ugreen --http-socket :9090 --wsgi-file tests/sleeping_async.py",
        ":9090",
        "http",
        AWAKE,
    ),
    (
        "uwsgi --async 10 --ugreen --ugreen-stacksize 4096 --socket :3031 -w tests.sleeping_async",
        ":3031",
        "uwsgi",
        AWAKE,
    ),
    (
        "uwsgi --plugins python,greenlet --greenlet --async 10 --http-socket :9090"
        " -w tests.sleeping_async",
        ":9090",
        "http",
        AWAKE,
    ),
    ("uwsgi --gevent 100 --socket :3031 --module tests.cpubound_async", ":3031", "uwsgi", NUMBERS),
    (
        "uwsgi --plugins python,gevent --gevent 100 --socket :3031 --module tests.cpubound_async",
        ":3031",
        "uwsgi",
        NUMBERS,
    ),
    (
        "uwsgi --asyncio 10 --http-socket :9090 --greenlet --wsgi-file tests/cpubound_async.py",
        ":9090",
        "http",
        NUMBERS,
    ),
    (
        "./uwsgi --socket :3031 -w tests.cpubound_async --async 10 --ugreen --processes 2",
        ":3031",
        "uwsgi",
        NUMBERS,
    ),
]

# "See tests/fileserve_async.py for an example": of files beside other requests. The documentation
# starts its examples with these commands. (the command, its port, protocol)
FILES = [
    ("./uwsgi --socket :3031 -w tests.fileserve_async --async 10", ":3031", "uwsgi"),
    ("./uwsgi --http-socket :9090 -w tests.fileserve_async --async 10", ":9090", "http"),
    (
        "uwsgi --http-socket :9090 --async 10 --wsgi-file tests/fileserve_async.py",
        ":9090",
        "http",
    ),
    ("uwsgi --async 100 --ugreen --socket :3031 -w tests.fileserve_async", ":3031", "uwsgi"),
    ("uwsgi --async 10 --ugreen --http-socket :9090 -w tests.fileserve_async", ":9090", "http"),
    (
        "./uwsgi --plugin greenlet --async 10 --greenlet --http-socket :9090"
        " -w tests.fileserve_async",
        ":9090",
        "http",
    ),
    ("uwsgi --gevent 100 --http-socket :9090 --module tests.fileserve_async", ":9090", "http"),
    (
        "uwsgi --asyncio 10 --http-socket :9090 --greenlet --wsgi-file tests/fileserve_async.py",
        ":9090",
        "http",
    ),
]

# Python of the documentation, its print a function; before and after it only what makes the lines a
# whole application. (the lines, options that they need beside --async)
WAITS = [
    (
        """
            uwsgi.wait_fd_read(fd0)
            uwsgi.wait_fd_read(fd1)
            uwsgi.wait_fd_read(fd2)
            yield "" # Yield the app, let uWSGI do its magic
            print("fd %d is ready" % env['uwsgi.ready_fd'])
        """,
        ["", "--ugreen", "--greenlet"],
    ),
    (
        """
            uwsgi.wait_fd_read(fd0)
            uwsgi.suspend()
            print("fd %d is ready" % env['uwsgi.ready_fd'])
        """,
        ["--ugreen", "--greenlet"],
    ),
    (
        """
            uwsgi.async_sleep(0.05)
            uwsgi.suspend()
            print("fd %d is ready" % fd0)
        """,
        ["--ugreen", "--greenlet"],
    ),
]
AROUND = r"""
import os
import uwsgi

(fd0, poke), (fd1, _), (fd2, _) = os.pipe(), os.pipe(), os.pipe()

def application(env, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    if env["PATH_INFO"] == "/poke":
        os.write(poke, b".")
        yield b"poked"
    else:
        yield b"waits\n"
{lines}
        yield b"goes on"
"""

# Commands for engines that this version does not have: refused at the start, by name. Never taken
# for a plain `--async N`, in which the same application would behave differently.
REFUSED = [
    (
        "./uwsgi --plugin stackless --async 10 --stackless --socket :3031 -w tests.cpubound_async",
        ":3031",
        "stackless",
    ),
]


def as_greenloom(seed):
    return re.sub(r"^(\./)?uwsgi ", "greenloom ", seed)


def ask(server, protocol, path="/"):
    if protocol == "http":
        return server.get(path)
    head, _, body = uwsgi_request(server.port, path).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n"), head
    return body


@pytest.mark.parametrize(("seed", "listens_on", "protocol", "body"), RUNS, ids=[r[0] for r in RUNS])
def test_runs_as_written(seed, listens_on, protocol, body):
    with running(as_greenloom(seed), listens_on) as server:
        assert ask(server, protocol) == body
        # Ten cores: ten requests at once, each complete.
        with ThreadPoolExecutor(10) as clients:
            answers = list(clients.map(lambda _: ask(server, protocol), range(10)))
        assert answers == [body] * 10


@pytest.mark.parametrize(("seed", "listens_on", "protocol"), FILES, ids=[f[0] for f in FILES])
def test_files_as_written(seed, listens_on, protocol):
    with running(as_greenloom(seed), listens_on) as server:
        names = ["fileserve_async.py", "__init__.py", "harness/http.py", "contract/test_waits.py"]
        expected = [(ROOT / "tests" / name).read_bytes() for name in names * 5]
        with ThreadPoolExecutor(10) as clients:
            found = list(clients.map(lambda name: ask(server, protocol, f"/{name}"), names * 5))
        assert found == expected
        if protocol == "http":
            for path in ("/missing", "/../README.md", "/contract", "/", "/%00"):
                assert server.request("GET", path)[0] in (400, 404), path
            status, headers, body = server.request("HEAD", "/fileserve_async.py")
            assert (status, body) == (200, b"")
            assert headers["Content-Length"] == str(len(expected[0]))
        lines = r"GET /harness/http\.py => .* via sendfile\(\) "
        until(lambda: len(re.findall(lines, server.log())) == 5, "the request lines")


@pytest.mark.parametrize(
    ("lines", "engine"), [(lines, engine) for lines, engines in WAITS for engine in engines]
)
def test_python_runs_as_written(lines, engine, tmp_path):
    app = tmp_path / "app.py"
    app.write_text(AROUND.format(lines=indent(dedent(lines), " " * 8)))
    command = f"greenloom --http-socket :9090 --async 10 {engine} --wsgi-file {app}"
    with running(command, ":9090") as server:
        with server.stream("/") as waiter:
            assert waiter.readline() == b"waits\n"
            assert server.get("/poke") == b"poked"
            assert waiter.read() == b"goes on"
        until(lambda: re.search(r"^fd \d+ is ready$", server.log(), re.MULTILINE), "what it prints")


def test_signals_under_gevent():
    """tests/ugevent.py, which the documentation cites: handlers sleep, beside each other."""
    command = "uwsgi --gevent 10 --gevent-monkey-patch --http-socket :9090 -w tests.ugevent"
    with running(as_greenloom(command), ":9090") as server:

        def events():
            return server.get("/").decode().splitlines()

        until(lambda: len(events()) == 6, "three ticks and their ends")
        tocks = [f"tock {n}, in a greenlet of its own: True" for n in (1, 2, 3)]
        found = events()
        assert sorted(found) == ["tick 1", "tick 2", "tick 3", *tocks]
        # Each waits for its successor.
        assert found.index("tick 2") < found.index(tocks[0])
        server.get("/raise")
        until(lambda: events()[6:] == ["share begins"], "the handler has begun")
        assert events()[6:] == ["share begins"], "it waits; requests do not"
        server.get("/go")
        until(lambda: events()[7:] == ["share ends: left right thread"], "the handler goes on")


def test_command_without_an_application_says_what_to_add():
    """As documented it names none, and uWSGI serves errors."""
    status, output = ends(as_greenloom("uwsgi --async 100 --ugreen --socket :3031"), ":3031")
    assert status != 0
    assert "--module" in output


@pytest.mark.parametrize(("seed", "listens_on", "engine"), REFUSED, ids=[r[0] for r in REFUSED])
def test_absent_engine_is_refused_by_name(seed, listens_on, engine):
    status, output = ends(as_greenloom(seed), listens_on)
    assert status != 0, output
    assert engine in output
