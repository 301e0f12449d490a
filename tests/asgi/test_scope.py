"""What an application is told about its request, key by key."""

from __future__ import annotations

import pytest

from tests.harness.http import Client
from tests.harness.uwsgi import packet, variables


@pytest.fixture
def server(serve_asgi):
    return serve_asgi("asgi_scope")


def scope_of(answer):
    assert answer.status == 200, answer
    said = answer.json()
    assert all(said["kinds"].values()), said["kinds"]
    return said["scope"]


def raw(text):
    return {"bytes": text}


def ask(server, text):
    """The scope of a request written down as it is."""
    client = server.http()
    client.send(text)
    return scope_of(client.read_response())


def get(server, target):
    return ask(server, b"GET " + target + b" HTTP/1.1\r\nHost: a\r\n\r\n")


def headers_of(scope):
    return [(name["bytes"], value["bytes"]) for name, value in scope["headers"]]


KEYS = {
    "type", "asgi", "http_version", "method", "scheme", "path", "raw_path", "query_string",
    "root_path", "headers", "client", "server", "state", "extensions",
}  # fmt: skip


class TestKeys:
    def test_all_of_them(self, server):
        client = server.http()
        host, port = client.socket.getsockname()
        client.send(b"GET /a/b?c=d HTTP/1.1\r\nHost: example.org\r\n\r\n")
        scope = scope_of(client.read_response())
        assert set(scope) == KEYS
        assert scope == {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": "1.1",
            "method": "GET",
            "scheme": "http",
            "path": "/a/b",
            "raw_path": raw("/a/b"),
            "query_string": raw("c=d"),
            "root_path": "",
            "headers": [[raw("host"), raw("example.org")]],
            "client": [host, port],
            "server": ["127.0.0.1", server.http_address[1]],
            "state": {},
            "extensions": {"http.response.pathsend": {}},
        }

    def test_http_1_0(self, server):
        scope = ask(server, b"GET / HTTP/1.0\r\n\r\n")
        assert scope["http_version"] == "1.0"
        assert scope["headers"] == []

    @pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "M-SEARCH"])
    def test_methods(self, server, method):
        answer = server.request(method, "/", body=b"")
        assert scope_of(answer)["method"] == method

    def test_nothing_of_an_earlier_request(self, server):
        """Applications write into their scope; the next one begins anew."""
        client = server.http()
        first, second = (scope_of(client.get("/")) for _ in range(2))
        assert first == second


class TestPaths:
    @pytest.mark.parametrize(
        ("target", "path"),
        [
            (b"/", "/"),
            (b"/a%2Fb/c", "/a/b/c"),
            (b"/%E2%82%AC/%c3%a9", "/€/é"),
            ("/€".encode(), "/€"),
            (b"/%FF/x", "/\ufffd/x"),
            (b"/a%20b+c", "/a b+c"),
            (b"/a%25b", "/a%b"),
            (b"//a//b/", "//a//b/"),
            (b"/a;b=c", "/a;b=c"),
            (b"/x%F0%9F%A6%A5", "/x🦥"),
        ],
    )
    def test_decoded_and_as_it_came(self, server, target, path):
        scope = get(server, target)
        assert scope["path"] == path
        assert scope["raw_path"] == raw(target.decode("latin-1"))

    def test_raw_path_has_no_query(self, server):
        scope = get(server, b"/a%2Fb?c=%2F&d")
        assert scope["raw_path"] == raw("/a%2Fb")
        assert scope["query_string"] == raw("c=%2F&d")

    def test_absolute_target(self, server):
        scope = ask(server, b"GET http://example.org/a?b HTTP/1.1\r\nHost: example.org\r\n\r\n")
        assert (scope["path"], scope["query_string"]) == ("/a", raw("b"))

    def test_asterisk(self, server):
        scope = ask(server, b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n")
        assert scope["path"] in ("*", "")


class TestQueries:
    @pytest.mark.parametrize("query", [b"a=b", b"", b"a=1&a=2&b", b"%E2%82%AC=%00", b"a?b=/?"])
    def test_as_it_came(self, server, query):
        assert get(server, b"/?" + query)["query_string"] == raw(query.decode())

    def test_none(self, server):
        assert get(server, b"/")["query_string"] == raw("")


class TestHeaders:
    def test_order_case_and_repetition(self, server):
        scope = ask(
            server,
            b"GET / HTTP/1.1\r\nHost: a\r\nX-B: 1\r\nx-a: 2\r\nX-B: 3\r\nCookie: a=b\r\n"
            b"Cookie: c=d\r\nAccept: \r\n\r\n",
        )
        assert headers_of(scope) == [
            ("host", "a"),
            ("x-b", "1"),
            ("x-a", "2"),
            ("x-b", "3"),
            ("cookie", "a=b"),
            ("cookie", "c=d"),
            ("accept", ""),
        ]

    def test_bytes_of_values_stay(self, server):
        scope = ask(server, b"GET / HTTP/1.1\r\nHost: a\r\nX-A:  \xc3\xa9\xff  b \r\n\r\n")
        assert headers_of(scope)[1] == ("x-a", "\xc3\xa9\xff  b")

    def test_of_the_body(self, server):
        answer = server.request("POST", "/", [("Content-Type", "a/b")], body=b"xyz")
        found = headers_of(scope_of(answer))
        assert ("content-type", "a/b") in found
        assert ("content-length", "3") in found

    def test_as_many_as_come(self, server):
        fields = [(f"X-{n}", str(n)) for n in range(50)]
        found = headers_of(scope_of(server.request("GET", "/", fields)))
        assert [pair for pair in found if pair[0].startswith("x-")] == [
            (name.lower(), value) for name, value in fields
        ]


def test_a_unix_socket(fresh_asgi, tmp_path):
    path = str(tmp_path / "http.sock")
    server = fresh_asgi("asgi_scope", http=path)
    with Client(path) as client:
        scope = scope_of(client.get("/a"))
    assert scope["client"] is None
    assert scope["server"] == [path, None]
    assert server.wait_requests(1)[0].status == 200


class TestPackets:
    """The same from the variables of the uwsgi protocol."""

    @pytest.fixture
    def server(self, serve_asgi):
        return serve_asgi("asgi_scope", uwsgi="127.0.0.1:0")

    def send(self, server, found, body=b""):
        client = server.packets()
        client.send(packet(found) + body)
        return scope_of(client.read_answer())

    def test_all_keys(self, server):
        found = variables(
            "POST", "/a b", "c=d", 3,
            extra=[("HTTP_X_SOME_THING", "yes"), ("HTTP_COOKIE", "a=b")],
        )  # fmt: skip
        found = [
            (k, {"REQUEST_URI": "/a%20b?c=d", "CONTENT_TYPE": "a/b"}.get(k, v)) for k, v in found
        ]
        scope = self.send(server, found, b"xyz")
        assert set(scope) == KEYS
        fields = dict(headers_of(scope))
        assert fields == {
            "content-type": "a/b",
            "content-length": "3",
            "host": "example.org",
            "x-some-thing": "yes",
            "cookie": "a=b",
        }
        del scope["headers"]
        assert scope == {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": "1.1",
            "method": "POST",
            "scheme": "http",
            "path": "/a b",
            "raw_path": raw("/a%20b"),
            "query_string": raw("c=d"),
            "root_path": "",
            "client": ["192.0.2.7", 40000],
            "server": ["example.org", 80],
            "state": {},
            "extensions": {"http.response.pathsend": {}},
        }

    @pytest.mark.parametrize(
        ("scheme", "extra"),
        [
            ("https", [("HTTPS", "on")]),
            ("https", [("UWSGI_SCHEME", "https")]),
            ("http", [("UWSGI_SCHEME", "http"), ("HTTPS", "on")]),
            ("http", [("UWSGI_SCHEME", "evil")]),
        ],
    )
    def test_scheme(self, server, scheme, extra):
        assert self.send(server, variables(extra=extra))["scheme"] == scheme

    def test_http_1_0(self, server):
        found = [(k, "HTTP/1.0" if k == "SERVER_PROTOCOL" else v) for k, v in variables()]
        assert self.send(server, found)["http_version"] == "1.0"

    def test_empty_ones_are_no_headers(self, server):
        assert headers_of(self.send(server, variables())) == [("host", "example.org")]

    def test_a_path_in_utf_8(self, server):
        path = "/€".encode().decode("latin-1")
        assert self.send(server, variables(path=path))["path"] == "/€"

    def test_a_prefix_that_the_front_end_has_cut(self, server):
        """SCRIPT_NAME is the root path, and the path includes it."""
        scope = self.send(server, variables(path="/a", extra=[("SCRIPT_NAME", "/front")]))
        assert (scope["root_path"], scope["path"]) == ("/front", "/front/a")
