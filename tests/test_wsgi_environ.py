"""environ: every key, over HTTP and over the uwsgi protocol."""

from __future__ import annotations

import pytest


def test_plain_request(serve, modes):
    server = serve("environ", *modes)
    port = server.http_address[1]
    found = server.get("/a%20b/caf%C3%A9?x=1&y=%20").json()
    assert found["is a plain dict"] is True
    assert found["REQUEST_METHOD"] == "GET"
    assert found["SCRIPT_NAME"] == ""
    assert found["PATH_INFO"] == "/a b/caf\xc3\xa9"
    assert found["QUERY_STRING"] == "x=1&y=%20"
    assert found["REQUEST_URI"] == "/a%20b/caf%C3%A9?x=1&y=%20"
    assert found["SERVER_PROTOCOL"] == "HTTP/1.1"
    assert found["SERVER_NAME"]
    assert found["SERVER_PORT"] == str(port)
    assert found["REMOTE_ADDR"] == "127.0.0.1"
    assert found["HTTP_HOST"] == "example.org"
    assert found["wsgi.version"] == [1, 0]
    assert found["wsgi.url_scheme"] == "http"
    assert found["wsgi.multithread"] is False
    assert found["wsgi.multiprocess"] is False
    assert found["wsgi.run_once"] is False
    assert found["wsgi.file_wrapper"]["callable"] is True
    assert "wsgi.input" in found
    assert "wsgi.errors" in found
    assert "CONTENT_TYPE" not in found
    assert "CONTENT_LENGTH" not in found


def test_server_keys(serve):
    found = serve("environ", "--async", "2").get("/").json()
    assert found["uwsgi.version"]["bytes"]
    assert found["uwsgi.node"]["bytes"]
    assert found["uwsgi.core"] in (0, 1)
    assert found["x-wsgiorg.fdevent.readable"]["callable"] is True
    assert found["x-wsgiorg.fdevent.writable"]["callable"] is True
    assert found["x-wsgiorg.fdevent.timeout"] is None
    assert "uwsgi.ready_fd" not in found


def test_no_async_keys_without_async(serve):
    found = serve("environ").get("/").json()
    assert "x-wsgiorg.fdevent.readable" not in found
    assert "uwsgi.core" not in found


def test_multiprocess(serve):
    assert serve("environ", "--processes", "2").get("/").json()["wsgi.multiprocess"] is True


def test_no_query_is_an_empty_string(serve):
    assert serve("environ").get("/").json()["QUERY_STRING"] == ""


def test_only_the_first_question_mark_splits(serve):
    assert serve("environ").get("/?a?b").json()["QUERY_STRING"] == "a?b"


@pytest.mark.parametrize(
    ("target", "path"),
    [
        ("/", "/"),
        ("/%2F", "//"),
        ("/a+b", "/a+b"),
        ("//double", "//double"),
        ("/a/../b", "/a/../b"),
    ],
)
def test_paths(serve, target, path):
    server = serve("environ")
    answer = server.get(target)
    assert answer.json()["PATH_INFO"] == path
    assert answer.json()["REQUEST_URI"] == target


@pytest.mark.parametrize(("target", "path"), [("/%41%zz", "/A%zz"), ("/%", "/%"), ("/%4", "/%4")])
def test_broken_escapes_are_refused_or_left_as_they_are(serve, target, path):
    answer = serve("environ").get(target)
    assert answer.status == 400 or answer.json()["PATH_INFO"] == path


def test_absolute_form(serve):
    client = serve("environ").http()
    client.send(b"GET http://other.example/a/b?c=d HTTP/1.1\r\nHost: a\r\n\r\n")
    found = client.read_response().json()
    assert found["PATH_INFO"] == "/a/b"
    assert found["QUERY_STRING"] == "c=d"


def test_content_keys(serve, modes):
    server = serve("environ", *modes)
    answer = server.request("POST", "/", [("Content-Type", "text/x")], b"12345").json()
    assert answer["CONTENT_TYPE"] == "text/x"
    assert answer["CONTENT_LENGTH"] == "5"
    assert "HTTP_CONTENT_TYPE" not in answer
    assert "HTTP_CONTENT_LENGTH" not in answer


def test_header_values_are_latin_1(serve):
    assert serve("environ").get("/", X_Name="caf\xe9").json()["HTTP_X_NAME"] == "caf\xe9"


def test_forwarded_headers_are_not_believed(serve):
    found = serve("environ").get("/", X_Forwarded_Proto="https", X_Forwarded_For="9.9.9.9").json()
    assert found["wsgi.url_scheme"] == "http"
    assert found["REMOTE_ADDR"] == "127.0.0.1"


def test_nothing_of_a_request_reaches_the_next(serve, modes):
    client = serve("environ", *modes).http()
    first = client.request("POST", "/1?a=b", [("X-First", "1"), ("Content-Type", "x/y")], b"body")
    assert first.json()["HTTP_X_FIRST"] == "1"
    second = client.get("/2").json()
    for key in ("HTTP_X_FIRST", "CONTENT_TYPE", "CONTENT_LENGTH"):
        assert key not in second
    assert second["QUERY_STRING"] == ""
    assert second["REMOTE_ADDR"] == "127.0.0.1"


def test_same_application_keys_over_both_protocols(serve):
    server = serve("environ", uwsgi="127.0.0.1:0")
    http = server.get("/x").json()
    packets = server.packets().ask(path="/x").json()
    own = {key for key in http if "." in key}
    assert own == {key for key in packets if "." in key}


def test_unix_peer(serve, tmp_path):
    server = serve("environ", http=str(tmp_path / "http.sock"))
    found = server.get("/").json()
    assert found["SERVER_NAME"]
    assert found["SERVER_PORT"] is not None
    assert isinstance(found["REMOTE_ADDR"], str)
