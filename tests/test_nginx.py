"""nginx with uwsgi_pass: somebody else's client of the protocol."""

from __future__ import annotations

import hashlib

import pytest


@pytest.fixture(params=["tcp", "unix"])
def behind(request, serve, nginx, modes, tmp_path):
    """Starts a server and an nginx in front of it."""

    def start(app, *options, directives=(), **how):
        where = "127.0.0.1:0" if request.param == "tcp" else str(tmp_path / "uwsgi.sock")
        server = serve(app, *modes, *options, uwsgi=where, **how)
        return server, nginx(server, *directives)

    return start


def test_hello(behind):
    _, front = behind("hello")
    for _ in range(5):
        assert front.request().body == b"hello\n"
    assert front.request("HEAD").status == 200


def test_environ(behind):
    _, front = behind("environ")
    found = front.request(target="/a%20b?c=d").json()
    assert found["SCRIPT_NAME"] == ""
    assert found["PATH_INFO"] == "/a b"
    assert found["QUERY_STRING"] == "c=d"
    assert found["REQUEST_URI"] == "/a%20b?c=d"
    assert found["REMOTE_ADDR"] == "127.0.0.1"
    assert "CONTENT_LENGTH" not in found
    assert "CONTENT_TYPE" not in found


@pytest.mark.parametrize("size", [1, 20_000, 3_000_000])
@pytest.mark.parametrize("buffering", ["on", "off"])
def test_bodies(behind, size, buffering):
    _, front = behind("echo", directives=[f"uwsgi_request_buffering {buffering};"])
    body = bytes(n % 251 for n in range(size))
    answer = front.request("POST", "/", body=body).json()
    assert answer["sha256"] == hashlib.sha256(body).hexdigest()


def test_no_body_statuses(behind):
    _, front = behind("bodyless")
    with front.client() as client:
        for target in ("/204/list", "/304/generator", "/204/write"):
            client.send_request(target=target)
            client.read_response()
        assert client.get("/200/list").body == b"somebody"


def test_large_answers(behind):
    _, front = behind("stream")
    assert len(front.request(target="/500?size=10000").body) == 5_000_000


def test_streaming_without_buffering(serve, nginx, gate):
    """The first chunk passes nginx before the application goes on."""
    server = serve("hold", "--async", "4", uwsgi="127.0.0.1:0", env=gate.env)
    front = nginx(server, "uwsgi_buffering off;")
    clients = [front.client() for _ in range(3)]
    for client in clients:
        client.send_request(target="/hold")
        client.head = client.read_head()
        assert client.read_chunk() == b"held\n"
    assert front.request().body == b"hello\n"
    gate.release(3)
    for client in clients:
        assert client.read_body(client.head).body == b"released\n"
        client.close()


def test_an_error_before_the_head_is_no_bad_gateway(serve, nginx, modes):
    traceback = [r"^Traceback", r'^  File ".*/apps/errors/app\.py"', r"^ValueError: boom before$"]
    server = serve("errors", *modes, uwsgi="127.0.0.1:0", allow=traceback)
    assert nginx(server).request(target="/before").status == 500
    server.wait_for_log(traceback[-1])


def test_a_client_that_leaves_nginx(serve, nginx):
    server = serve("close_tracker", "--async", "2", uwsgi="127.0.0.1:0", allow=["(?i)gone|write"])
    front = nginx(server, "uwsgi_buffering off;")
    client = front.client()
    client.send_request(target="/endless/left")
    client.read_exactly(100_000)
    client.reset()
    server.wait_for_log("closed left$")
