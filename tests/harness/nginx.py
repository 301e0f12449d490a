"""nginx in front of a server, by `uwsgi_pass` or `proxy_pass`, in a folder of its own."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.harness.http import Client, Response
from tests.harness.waiting import until

# The parameters of the stock `uwsgi_params` file.
PARAMETERS = """
uwsgi_param QUERY_STRING $query_string;
uwsgi_param REQUEST_METHOD $request_method;
uwsgi_param CONTENT_TYPE $content_type;
uwsgi_param CONTENT_LENGTH $content_length;
uwsgi_param REQUEST_URI $request_uri;
uwsgi_param PATH_INFO $document_uri;
uwsgi_param DOCUMENT_ROOT $document_root;
uwsgi_param SERVER_PROTOCOL $server_protocol;
uwsgi_param REQUEST_SCHEME $scheme;
uwsgi_param HTTPS $https if_not_empty;
uwsgi_param REMOTE_ADDR $remote_addr;
uwsgi_param REMOTE_PORT $remote_port;
uwsgi_param SERVER_PORT $server_port;
uwsgi_param SERVER_NAME $server_name;
"""

# What a websocket needs on its way through `proxy_pass`; `uwsgi_pass` needs nothing.
UPGRADE = """
proxy_http_version 1.1;
proxy_set_header Host $http_host;
proxy_set_header Upgrade $http_upgrade;
proxy_set_header Connection $connection_upgrade;
"""

TRIES = 3

CONFIGURATION = """
{user}
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/error.log notice;
events {{ worker_connections 256; }}
http {{
    access_log off;
    map $http_upgrade $connection_upgrade {{
        default upgrade;
        "" "";
    }}
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    client_max_body_size 64m;
    server {{
        listen 127.0.0.1:{port};
        location / {{
            {passes}
            {directives}
        }}
    }}
}}
"""


def free_port() -> int:
    """Free a moment ago: whoever binds it must be ready to try again."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Nginx:
    """One nginx."""

    def __init__(
        self,
        folder: Path,
        backend: tuple[str, int] | str,
        directives: Sequence[str] = (),
        *,
        proxy: bool = False,
    ) -> None:
        """`proxy` speaks HTTP with the backend, by `proxy_pass`, instead of the uwsgi protocol."""
        path = shutil.which("nginx", path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")
        if path is None:
            pytest.skip("nginx is not installed (Debian: apt-get install nginx-light)")
        self.path = path
        self.folder = folder
        address = f"unix:{backend}" if isinstance(backend, str) else f"{backend[0]}:{backend[1]}"
        self.passes = (
            f"{UPGRADE}proxy_pass http://{address};"
            if proxy
            else f"{PARAMETERS}uwsgi_pass {address};"
        )
        self.directives = directives
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """A port may be taken by others between choosing and binding."""
        self.folder.mkdir()
        for _ in range(TRIES):
            self.port = free_port()
            configuration = self.folder / "nginx.conf"
            configuration.write_text(
                CONFIGURATION.format(
                    user="user root;" if os.geteuid() == 0 else "",
                    folder=self.folder,
                    port=self.port,
                    passes=self.passes,
                    directives="\n".join(self.directives),
                )
            )
            with (self.folder / "output.log").open("wb") as out:
                self.process = subprocess.Popen(
                    [self.path, "-p", str(self.folder), "-c", str(configuration)],
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=subprocess.STDOUT,
                )
            if until(self._answers_or_ended, "nginx answers") == "answers":
                return
        output = (self.folder / "output.log").read_text()
        raise AssertionError(f"nginx does not start ({TRIES} tries): {output}")

    def _answers_or_ended(self) -> str | None:
        assert self.process is not None
        if self.process.poll() is not None:
            return "ended"
        with socket.socket() as probe:
            return "answers" if probe.connect_ex(("127.0.0.1", self.port)) == 0 else None

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGQUIT)
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def client(self) -> Client:
        return Client(("127.0.0.1", self.port))

    def request(self, method: str = "GET", target: str = "/", headers=(), body=None) -> Response:
        with self.client() as client:
            return client.request(method, target, [("Connection", "close"), *headers], body)

    def errors(self) -> str:
        """What nginx complained about."""
        return (self.folder / "error.log").read_text()
