"""Starts servers with the commands of the READMEs, and talks to them over plain sockets.

Owns: taking a command from a README, giving it free ports, starting and stopping the process, the
raw clients for HTTP and the uwsgi protocol. What is asked and expected stands in the tests.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import shlex
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DEADLINE_SECONDS = 20


def until(condition, what):
    """Asks again and again until the answer is true; fails when the deadline has passed."""
    end = time.monotonic() + DEADLINE_SECONDS
    while True:
        answer = condition()
        if answer:
            return answer
        if time.monotonic() > end:
            raise AssertionError(f"waited {DEADLINE_SECONDS} s in vain: {what}")
        time.sleep(0.01)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def readme_command(example, containing="greenloom "):
    """The one line in the `sh` blocks of an example's README that contains this."""
    text = (ROOT / "examples" / example / "README.md").read_text()
    blocks = re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines() if containing in line]
    assert len(lines) == 1, f"{example}/README.md has {len(lines)} commands with {containing!r}"
    return lines[0]


def greenloom():
    """What `greenloom` stands for: $GREENLOOM, or the command beside this Python or on the PATH."""
    beside = Path(sys.executable).with_name("greenloom")
    named = os.environ.get("GREENLOOM") or (str(beside) if beside.exists() else None)
    found = named or shutil.which("greenloom")
    assert found, "the command greenloom is not installed: run `make test`"
    return found


class Server:
    """A running server; `port` is the free port that took the place of the command's own."""

    def __init__(self, command, port, process, log):
        self.command, self.port, self.process, self._log = command, port, process, log

    def log(self):
        return Path(self._log).read_text(errors="replace")

    def switches(self, uri):
        """The switch counts of the logged requests for this URI, oldest first."""
        pattern = rf" {re.escape(uri)} => .*\((\d+) switches on core \d+\)"
        return [int(count) for count in re.findall(pattern, self.log())]

    def request(self, method, path, body=None, headers=None, **options):
        """One request on a connection of its own: `(status, headers, body)`."""
        with contextlib.closing(self.connect()) as connection:
            connection.request(method, path, body, headers or {}, **options)
            answer = connection.getresponse()
            return answer.status, dict(answer.getheaders()), answer.read()

    def get(self, path):
        status, _, body = self.request("GET", path)
        assert status == 200, (path, status, body)
        return body

    def connect(self):
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=DEADLINE_SECONDS)

    @contextlib.contextmanager
    def stream(self, path):
        """An answer that is still being sent; read it with `readline`."""
        with contextlib.closing(self.connect()) as connection:
            connection.request("GET", path)
            answer = connection.getresponse()
            assert answer.status == 200, (path, answer.status)
            yield answer


@contextlib.contextmanager
def running(command, listens_on=":9090", port=None):
    """Runs a command line from the root of the checkout, with a free port for `listens_on`.

    `port` is given when the command's own file names it. The server must stop cleanly in the end:
    exit status 0 after SIGINT, no process left behind.
    """
    port = port or free_port()
    arguments = [replace_port(word, listens_on, port) for word in shlex.split(command)]
    if arguments[0] == "greenloom":
        arguments[0] = greenloom()
    with tempfile.NamedTemporaryFile(prefix="greenloom-example-", suffix=".log") as log:
        process = subprocess.Popen(
            arguments,
            cwd=ROOT,
            env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        server = Server(command, port, process, log.name)
        try:
            until(lambda: listening(server), f"{command} listens")
            yield server
            process.send_signal(signal.SIGINT)
            status = process.wait(DEADLINE_SECONDS)
            assert status == 0, f"{command} ended with {status}:\n{server.log()}"
            until(lambda: not group_exists(process.pid), f"{command} left a process behind")
        except BaseException:
            sys.stderr.write(server.log())
            raise
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def ends(command, listens_on):
    """Runs a command line that is expected to end by itself: `(exit status, all it printed)`."""
    arguments = [replace_port(word, listens_on, 0) for word in shlex.split(command)]
    process = subprocess.Popen(
        [greenloom(), *arguments[1:]],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=DEADLINE_SECONDS)
        return process.returncode, output
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()


def replace_port(word, listens_on, port):
    """`:9090` and `127.0.0.1:9090` become `127.0.0.1:PORT`: tests listen on the loopback only."""
    return f"127.0.0.1:{port}" if word in (listens_on, f"127.0.0.1{listens_on}") else word


def listening(server):
    status = server.process.poll()
    assert status is None, f"{server.command} ended with {status}:\n{server.log()}"
    try:
        socket.create_connection(("127.0.0.1", server.port), timeout=1).close()
    except ConnectionRefusedError:
        return False
    return True


def group_exists(process_group):
    try:
        os.killpg(process_group, 0)
    except ProcessLookupError:
        return False
    return True


def uwsgi_request(port, path):
    """One GET over the uwsgi protocol; the raw answer, status line first."""
    path, _, query = path.partition("?")
    variables = {
        "REQUEST_METHOD": "GET",
        "REQUEST_URI": path,
        "PATH_INFO": path,
        "QUERY_STRING": query,
        "SERVER_PROTOCOL": "HTTP/1.1",
        "SERVER_NAME": "localhost",
        "SERVER_PORT": "80",
        "HTTP_HOST": "localhost",
        "REMOTE_ADDR": "127.0.0.1",
    }
    packet = b"".join(
        struct.pack("<H", len(text)) + text
        for pair in variables.items()
        for text in map(str.encode, pair)
    )
    with socket.create_connection(("127.0.0.1", port), timeout=DEADLINE_SECONDS) as connection:
        connection.sendall(struct.pack("<BHB", 0, len(packet), 0) + packet)
        return b"".join(iter(lambda: connection.recv(65536), b""))
