"""The nginx example: greenloom with its README's command, nginx with its README's configuration."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from pathlib import Path

import pytest

from .support import DEADLINE_SECONDS, ROOT, Server, free_port, readme_command, running, until

pytestmark = pytest.mark.skipif(not shutil.which("nginx"), reason="nginx is not installed")


@contextlib.contextmanager
def nginx(backend_port):
    """The example's nginx.conf with other ports, its files in a directory of its own."""
    port = free_port()
    text = (ROOT / "examples/nginx/nginx.conf").read_text()
    for old, new in ((":9090", port), (":3031", backend_port)):
        assert f"127.0.0.1{old}" in text
        text = text.replace(f"127.0.0.1{old}", f"127.0.0.1:{new}")
    # Below the system's own temporary directory, which nginx's workers (another user) may enter.
    with tempfile.TemporaryDirectory(prefix="greenloom-nginx-") as directory:
        Path(directory).chmod(0o755)
        configuration = Path(directory, "nginx.conf")
        configuration.write_text(text)
        log = Path(directory, "log")
        with log.open("wb") as output:
            process = subprocess.Popen(
                [shutil.which("nginx"), "-p", f"{directory}/", "-c", configuration],
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        try:
            until(lambda: answers(process, port, log), "nginx listens")
            yield Server("nginx", port, process, log)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(DEADLINE_SECONDS)


def answers(process, port, log):
    assert process.poll() is None, log.read_text()
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except ConnectionRefusedError:
        return False
    return True


@pytest.fixture(scope="module")
def front():
    with (
        running(readme_command("nginx"), listens_on=":3031") as backend,
        nginx(backend.port) as front,
    ):
        yield front


def test_readme_starts_nginx_with_this_configuration():
    assert "examples/nginx/nginx.conf" in readme_command("nginx", "nginx -p")


def test_the_request_as_the_application_sees_it(front):
    *lines, host = front.get("/?a=1&b=%20").decode().splitlines()
    assert lines == [
        "REQUEST_METHOD=GET",
        "SCRIPT_NAME=",
        "PATH_INFO=/",
        "QUERY_STRING=a=1&b=%20",
        "SERVER_PROTOCOL=HTTP/1.1",
    ]
    # Some versions of nginx leave the port out.
    assert host in ("HTTP_HOST=127.0.0.1", f"HTTP_HOST=127.0.0.1:{front.port}")


def test_bodies(front):
    for size in (0, 10, 100_000, 3_000_000):
        status, _, body = front.request("POST", "/upload", os.urandom(size))
        assert (status, body) == (200, b"%d bytes\n" % size)


def test_a_stream_comes_piece_by_piece(front):
    # The stream ends only after /go, and /go is asked for only after its first line has come: with
    # a buffer in between, this would wait in vain.
    with front.stream("/stream/anna") as anna:
        assert anna.readline() == b"waiting\n"
        assert front.get("/go/anna") == b"gone\n"
        assert anna.read() == b"done\n"


def test_a_client_that_leaves_ends_the_stream(front):
    with front.stream("/stream/bert") as bert:
        assert bert.readline() == b"waiting\n"
    # Only when the application's own name is free again may it be used a second time.
    until(lambda: front.request("GET", "/go/bert")[0] == 404, "the stream's close() has run")
