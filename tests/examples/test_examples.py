"""Every example, started with the command of its README."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import socket
import struct
from concurrent.futures import ThreadPoolExecutor

import pytest

from .support import ROOT, readme_command, running, until

NUMBERS = b"".join(b"<h1>%d</h1>" % i for i in range(1, 10000))


@contextlib.contextmanager
def example(name):
    with running(readme_command(name)) as server:
        yield server


def test_every_example_has_app_readme_and_test():
    tested = {"showcase", "nginx", "asgi"} | {
        name.removeprefix("test_") for name in globals() if name.startswith("test_")
    }
    for folder in sorted((ROOT / "examples").iterdir()):
        if folder.is_dir():
            assert (folder / "app.py").is_file(), folder
            assert readme_command(folder.name)
            assert folder.name in tested, f"no test for {folder}"


def test_cpubound():
    with example("cpubound") as server:
        assert server.get("/hello") == b"hello\n"
        # While one of them is unfinished, hello is answered: it does not wait for the list's end.
        with server.stream("/") as numbers:
            assert server.get("/hello") == b"hello\n"
            assert numbers.read() == NUMBERS
        with ThreadPoolExecutor(10) as clients:
            answers = list(clients.map(server.get, ["/"] * 10))
        assert answers == [NUMBERS] * 10
        counts = until(
            lambda: len(found := server.switches("/")) == 11 and found, "eleven logged requests"
        )
        assert all(9999 <= count <= 10003 for count in counts), counts


def test_sleeping():
    with example("sleeping") as server:
        expected = b"".join(b"awake %d of 5\n" % i for i in range(1, 6))
        assert server.get("/?times=5&seconds=0.02") == expected
        with ThreadPoolExecutor(50) as clients:
            answers = list(clients.map(server.get, ["/?times=5&seconds=0.05"] * 50))
        assert answers == [expected] * 50
        assert server.get("/download?kib=33&rate=1000") == b"." * 33 * 1024
        assert server.request("GET", "/?seconds=soon")[0] == 400


def test_a_long_sleep_lets_others_pass():
    # By order, not by time: somebody sleeps for an hour when later requests are asked and answered,
    # and when the sleeper's client breaks its connection, the server's stop does not wait for it.
    # (One that only ends its sending side may still want the answer.)
    with example("sleeping") as server, contextlib.closing(server.connect()) as sleeper:
        sleeper.request("GET", "/?times=1&seconds=3600")
        reset_at_close(sleeper.sock)
        for _ in range(3):
            assert server.get("/?times=2&seconds=0.01") == b"awake 1 of 2\nawake 2 of 2\n"


def reset_at_close(sock):
    """Makes the close a reset: SO_LINGER, on, for no time."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def test_fd_waits():
    with example("fd_waits") as server:
        with server.stream("/wait/anna?pipes=3") as anna, server.stream("/wait/bert") as bert:
            assert anna.readline() == b"waiting for 3 pipes\n"
            assert bert.readline() == b"waiting for 3 pipes\n"
            assert server.get("/poke/bert/2") == b"poked\n"
            assert bert.read() == b"pipe 2 is ready: hello through pipe 2\n"
            assert server.get("/poke/anna/0") == b"poked\n"
            assert anna.read() == b"pipe 0 is ready: hello through pipe 0\n"
        # The names are free again, and nothing of the first wait is left.
        with server.stream("/wait/anna?pipes=2") as anna:
            assert anna.readline() == b"waiting for 2 pipes\n"
            assert server.get("/poke/anna/1") == b"poked\n"
            assert anna.read() == b"pipe 1 is ready: hello through pipe 1\n"
        assert server.get("/timeout?seconds=0.05") == b"timed out: True, ready fd: -1\n"
        with server.stream("/wait/carl?pipes=1&timeout=0.05") as carl:
            assert carl.read() == b"waiting for 1 pipes\nnothing came\n"
        # In the order in which the programs are done, which is the machine's affair.
        assert sorted(server.get("/commands").split()) == [b"first", b"second", b"third"]
        assert server.request("GET", "/poke/nobody/0")[0] == 404


def test_fd_waits_cleans_up_when_the_client_leaves():
    with example("fd_waits") as server:
        with server.stream("/wait/anna") as anna:
            assert anna.readline() == b"waiting for 3 pipes\n"
        until(
            lambda: server.request("GET", "/poke/anna/0")[0] == 404,
            "the pipes of a client that left are closed",
        )


def test_comet():
    listeners, messages = 50, [b"good morning", "grüß Gott".encode(), b"two\nlines"]
    with example("comet") as server, contextlib.ExitStack() as stack:
        streams = [stack.enter_context(server.stream("/listen")) for _ in range(listeners)]
        for stream in streams:
            assert stream.readline() == b": you are listening\n"
            assert stream.readline() == b"\n"
        assert server.get("/who") == b"%d\n" % listeners
        for message in messages:
            status, _, body = server.request("POST", "/say", message)
            assert (status, body) == (200, b"%d listen\n" % listeners)
        for stream in streams:
            for number, message in enumerate(messages, 1):
                assert stream.readline() == b"id: %d\n" % number
                for line in message.split(b"\n"):
                    assert stream.readline() == b"data: %s\n" % line
                assert stream.readline() == b"\n"
        # Whoever comes back gets what was said in the meantime.
        status, _, _ = server.request("HEAD", "/listen")
        assert status == 405
        with contextlib.closing(server.connect()) as late:
            late.request("GET", "/listen", headers={"Last-Event-ID": "2"})
            answer = late.getresponse()
            assert answer.getheader("Content-Type") == "text/event-stream"
            lines = [answer.readline() for _ in range(6)]
            assert lines[2:] == [b"id: 3\n", b"data: two\n", b"data: lines\n", b"\n"]
        assert server.request("POST", "/say", b"  ")[0] == 400
        assert b"EventSource" in server.get("/")
        stack.close()
        until(lambda: server.get("/who") == b"0\n", "everybody has left")


def test_fdevent():
    with example("fdevent") as server:
        assert server.get("/steps").splitlines() == [
            b"1 writable, timed out: 0",
            b"2 readable, timed out: 0",
            b"3 received ping",
            b"4 nothing to read, timed out: 1",
        ]
        assert server.get("/upstream/hello") == b"hello\n"
        with ThreadPoolExecutor(4) as clients:
            assert list(clients.map(server.get, ["/upstream/hello"] * 20)) == [b"hello\n"] * 20
        assert server.request("GET", "/upstream/missing")[0] == 404


def test_uploads():
    with example("uploads") as server:
        for size in (0, 1, 65_537, 1_048_576, 1_048_577, 8_000_000):
            body = os.urandom(size)
            assert upload(server, body) == (size, hashlib.sha256(body).hexdigest(), str(size))
        # Without a length, in chunks.
        body = os.urandom(3_000_001)
        pieces = [body[i : i + 70_001] for i in range(0, len(body), 70_001)]
        size, digest, length = upload(server, iter(pieces))
        assert (size, digest) == (len(body), hashlib.sha256(body).hexdigest())
        # The body is complete when the application starts, so a server may say how long it is.
        assert length in (None, str(size))
        assert b"<form" in server.get("/")


def upload(server, body):
    headers = {"Content-Type": "application/octet-stream"}
    chunked = not isinstance(body, bytes)
    if chunked:
        headers["Transfer-Encoding"] = "chunked"
    status, _, answer = server.request("POST", "/", body, headers, encode_chunked=chunked)
    assert status == 200, answer
    report = json.loads(answer)
    assert report["content_type"] == "application/octet-stream"
    return report["size"], report["sha256"], report["content_length"]


def test_flask_hello():
    pytest.importorskip("flask")
    with example("flask_hello") as server:
        assert server.get("/") == b"Hello from Flask at /\n"
        assert json.loads(server.get("/greet/anna")) == {"greeting": "Hello, anna!"}
        assert json.loads(post_form(server, "/form")) == {"fields": {"a": "1", "b": "zwei"}}
        assert server.get("/stream") == b"".join(b"line %d\n" % i for i in range(1, 6))
        assert server.request("GET", "/broken")[0] == 500
        assert server.request("GET", "/nothing")[0] == 404
        assert "this view always fails" in server.log()


def test_django_hello():
    pytest.importorskip("django")
    with example("django_hello") as server:
        assert server.get("/") == b"Hello from Django at /\n"
        answer = json.loads(post_form(server, "/form"))
        assert answer == {"method": "POST", "fields": {"a": "1", "b": "zwei"}}
        body = os.urandom(1_500_000)
        status, _, answer = server.request("POST", "/raw", body)
        assert status == 200
        assert json.loads(answer) == {"size": len(body), "sha256": hashlib.sha256(body).hexdigest()}
        assert server.get("/stream") == b"".join(b"line %d\n" % i for i in range(1, 6))
        assert server.request("GET", "/nothing")[0] == 404


def post_form(server, path):
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    status, _, body = server.request("POST", path, b"a=1&b=zwei", headers)
    assert status == 200, body
    return body


def test_mounts():
    with example("mounts") as server:
        for path, answer in {
            "/": b"root: script_name='' path_info='/'\n",
            "/shop": b"shop: script_name='/shop' path_info=''\n",
            "/shop/": b"shop: script_name='/shop' path_info='/'\n",
            "/shop/cart": b"shop: script_name='/shop' path_info='/cart'\n",
            "/shop/admin/users": b"admin: script_name='/shop/admin' path_info='/users'\n",
            "/shop/administration": b"shop: script_name='/shop' path_info='/administration'\n",
            "/shopping": b"root: script_name='' path_info='/shopping'\n",
        }.items():
            assert server.get(path) == answer


def test_psycopg2(postgres, monkeypatch):
    for name, value in postgres.env.items():
        monkeypatch.setenv(name, value)
    with example("psycopg2") as server, ThreadPoolExecutor(10) as clients:
        answers = [clients.submit(server.get, "/sleep?seconds=3") for _ in range(10)]
        until(lambda: server.get("/activity") == b"10 under way\n", "ten queries at once")
        assert [answer.result() for answer in answers] == [b"slept 3.0 s\n"] * 10
        until(lambda: server.get("/activity") == b"0 under way\n", "none is left")
        assert server.request("GET", "/sleep?seconds=soon")[0] == 400


@pytest.mark.parametrize(
    "loop", ["--asyncio 10", "--asyncio 10 --asyncio-loop uvloop", "--tornado 10"]
)
def test_asyncio(loop):
    command = readme_command("asyncio")
    assert " --asyncio 10 " in command
    command = command.replace("--asyncio 10", loop)
    with running(command) as server, ThreadPoolExecutor(10) as clients:
        hello = b"Hello World"
        expected = {"/": hello, "/callback": hello, "/generator": b"OneTwo", "/task": hello}
        expected |= {"/future": hello, "/client": hello + hello, "/wait": hello}
        answers = {path: clients.submit(server.get, path) for path in expected}
        assert {path: answer.result() for path, answer in answers.items()} == expected
        with server.stream("/generator") as stream:
            assert [stream.read(3), stream.read(3)] == [b"One", b"Two"]
        # The callback of the first of them.
        until(lambda: "Hello, the pause has elapsed" in server.log(), "the callback runs")


def test_gevent():
    pytest.importorskip("gevent")
    with example("gevent") as server:
        with server.stream("/") as anna, server.stream("/") as bert:
            sleeps = b"sleeping for 3 seconds...<br/>\n"
            assert [anna.readline(), bert.readline()] == [sleeps, sleeps]
            assert server.get("/background") == b"", "others are served while they sleep"
            for stream in (anna, bert):
                assert [stream.readline() for _ in "12"] == [
                    b"done<br>\n",
                    b"getting some ips...<br/>\n",
                ]
                # Where names do not resolve, joinall() returns after its two seconds all the same.
                found = re.findall(rb"ip = (None|[\d.]+)<br/>\n", stream.read())
                assert len(found) == 5
                assert found[-1].startswith(b"127."), "localhost resolves anywhere"
        both = sorted([*range(1, 10)] * 2)
        until(
            lambda: sorted(map(int, server.get("/background").split())) == both,
            "what was left behind goes on to its end",
        )
        log = server.log()
        assert log.index("GET / => ") < log.index("background task 9"), "longer than its request"


@pytest.mark.parametrize("patch", ["patch_thread", "patch_all", "--gevent-monkey-patch"])
def test_gevent_django(postgres, monkeypatch, tmp_path, patch):
    pytest.importorskip("gevent")
    pytest.importorskip("django")
    for name, value in postgres.env.items():
        monkeypatch.setenv(name, value)
    command = readme_command("gevent_django")
    if patch == "patch_all":
        # The other way that uWSGI's documentation shows.
        text = (ROOT / "examples/gevent_django/app.py").read_text()
        (tmp_path / "all.py").write_text(text.replace("patch_thread()", "patch_all()"))
        command = command.replace("-w app", f"--pythonpath {tmp_path} -w all")
    elif patch.startswith("--"):
        command += f" {patch}"
    with running(command) as server, ThreadPoolExecutor(20) as clients:
        for path, expected in {
            "/sleep?seconds=3": rb"slept 3.0 s\n",
            "/transaction?seconds=3": rb"backend \d+, still its own: True\n",
        }.items():
            answers = [clients.submit(server.get, path) for _ in range(20)]
            until(lambda: server.get("/activity") == b"20 under way\n", "20 queries at once")
            found = [answer.result() for answer in answers]
            assert all(re.fullmatch(expected, answer) for answer in found), found
        assert len(set(found)) == 20, "a connection for each"
        until(lambda: server.get("/activity") == b"0 under way\n", "none is left")
