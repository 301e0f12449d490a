"""Which requests are for scripts: modifier 9 of packets and of listeners, DOCUMENT_ROOT."""

from __future__ import annotations

import pytest

from tests.cgi.scripts import FOLDER, HEAD, MOUNT, do, says, write
from tests.harness.http import Truncated
from tests.harness.uwsgi import packet, variables

CGI = 9
UWSGI = {"uwsgi": "127.0.0.1:0"}
WHO = '#!/bin/sh\nprintf \'X-A: 1\\n\\nscript %s|%s\' "$SCRIPT_NAME" "$PATH_INFO"\n'


def ask(server, path, code="", method="GET", body=None, modifier=CGI, extra=(), root=None):
    """One packet with a modifier of its own."""
    length = None if body is None else len(body)
    found = variables(method, path, "", length, [("HTTP_X_DO", code), *extra])
    if root is not None:
        found = [pair for pair in found if pair[0] != "DOCUMENT_ROOT"] + [("DOCUMENT_ROOT", root)]
    client = server.packets()
    client.send(packet(found, modifier) + (body or b""))
    return client.read_answer()


class TestModifier:
    def test_nine_is_for_scripts(self, scripts):
        server = scripts(**UWSGI)
        answer = ask(server, "/cgi-bin/do", HEAD + "echo by packet")
        assert (answer.status, answer.body) == (200, b"by packet\n")
        assert answer.header("transfer-encoding") is None

    def test_nine_without_a_script_is_404_beside_an_application(self, beside):
        server = beside("hello", *MOUNT, **UWSGI)
        assert ask(server, "/elsewhere").status == 404
        assert ask(server, "/elsewhere", modifier=0).body == b"hello\n"

    def test_a_prefix_has_its_paths_whatever_the_modifier(self, beside):
        server = beside("hello", *MOUNT, **UWSGI)
        for modifier in (0, CGI):
            assert ask(server, "/cgi-bin/do", HEAD + "echo x", modifier=modifier).body == b"x\n"

    def test_without_a_prefix_scripts_are_asked_for_by_nine_alone(self, beside, tmp_path):
        write(tmp_path / "own/who", WHO)
        server = beside("hello", "--cgi", f"{tmp_path}/own", **UWSGI)
        assert ask(server, "/who/x").body == b"script /who|/x"
        assert ask(server, "/who/x", modifier=0).body == b"hello\n"
        # HTTP's modifier is 0.
        assert server.get("/who/x").body == b"hello\n"

    def test_http_may_have_nine(self, beside, tmp_path):
        write(tmp_path / "own/who", WHO)
        server = beside(
            *("hello", "--cgi", f"{tmp_path}/own", "--http-socket-modifier1", "9"), probe=False
        )
        assert server.get("/who/x").body == b"script /who|/x"
        assert server.get("/other").status == 404

    def test_nginx_asks_for_scripts(self, beside, nginx):
        server = beside("hello", *MOUNT, **UWSGI)
        front = nginx(server, "uwsgi_modifier1 9;")
        with front.client() as client:
            answer = do(client, HEAD + "cat", method="POST", body=b"through nginx" * 9000)
            assert answer.body == b"through nginx" * 9000


class TestPackets:
    def test_bodies(self, scripts):
        server = scripts(**UWSGI)
        body = bytes(range(256)) * 12_000
        answer = ask(server, "/cgi-bin/do", HEAD + "exec cat", "POST", body)
        assert answer.body == body

    def test_variables_are_those_of_the_packet(self, scripts):
        server = scripts(**UWSGI)
        extra = [("HTTP_PROXY", "evil"), ("UWSGI_X", "hidden"), ("REMOTE_USER", "me")]
        answer = ask(server, "/cgi-bin/do/x", HEAD + r"tr '\0' '\n' </proc/$$/environ", extra=extra)
        found = dict(line.split("=", 1) for line in answer.body.decode().splitlines())
        assert found["REMOTE_ADDR"] == "192.0.2.7"
        assert found["SERVER_NAME"] == "example.org"
        assert found["REMOTE_USER"] == "me"
        assert found["PATH_INFO"] == "/x"
        assert found["SCRIPT_NAME"] == "/cgi-bin/do"
        assert found["DOCUMENT_ROOT"] == str(FOLDER)
        assert {"HTTP_PROXY", "UWSGI_X", "CONTENT_TYPE", "CONTENT_LENGTH"}.isdisjoint(found)

    def test_errors_are_pages(self, scripts):
        server = scripts(**UWSGI)
        assert ask(server, "/cgi-bin/do", "echo no head").status == 502
        assert ask(server, "/cgi-bin/missing").status == 404

    def test_a_local_redirect(self, beside):
        server = beside("echo", *MOUNT, **UWSGI)
        code = r"printf 'Location: /there?x=1\n\n'"
        found = ask(server, "/cgi-bin/do", code, "POST", b"body", modifier=0).json()
        assert (found["method"], found["path"], found["query"]) == ("GET", "/there", "x=1")
        assert found["length"] == 0

    def test_a_local_redirect_keeps_the_modifier(self, beside, tmp_path):
        write(tmp_path / "own/who", WHO)
        write(tmp_path / "own/moves", "#!/bin/sh\nprintf 'Location: /who/x\\n\\n'\n")
        server = beside("hello", "--cgi", f"{tmp_path}/own", **UWSGI)
        assert ask(server, "/moves").body == b"script /who|/x"

    def test_head(self, scripts):
        server = scripts(**UWSGI)
        answer = ask(server, "/cgi-bin/do", HEAD + "echo body", "HEAD")
        assert (answer.status, answer.body) == (200, b"")

    def test_a_client_that_leaves(self, scripts, notes):
        server = scripts(*notes.options, **UWSGI)
        client = server.packets()
        found = variables(
            "GET", "/cgi-bin/do", extra=[("HTTP_X_DO", "echo pid $$ >>$NOTES; sleep 1000")]
        )
        client.send(packet(found, CGI))
        notes.wait(1)
        client.close()
        notes.wait_gone()


class TestDocumentRoot:
    OPTIONS = ("--cgi-from-docroot",)

    @pytest.fixture
    def root(self, tmp_path):
        write(tmp_path / "root/who", WHO)
        return tmp_path / "root"

    def test_scripts_lie_there(self, beside, root):
        server = beside("hello", *self.OPTIONS, **UWSGI)
        assert ask(server, "/who/x", root=str(root)).body == b"script /who|/x"
        assert ask(server, "/missing", root=str(root)).status == 404
        # Without the modifier it is the application's.
        assert ask(server, "/who/x", root=str(root), modifier=0).body == b"hello\n"

    def test_alone_every_packet_is_for_them(self, alone, root):
        server = alone(*self.OPTIONS, **UWSGI)
        assert ask(server, "/who", root=str(root), modifier=0).body == b"script /who|"

    @pytest.mark.parametrize("value", ["relative", "", "/no/such/directory"])
    def test_one_that_is_no_directory_is_404(self, alone, value):
        server = alone(*self.OPTIONS, **UWSGI)
        assert ask(server, "/who", root=value).status == 404

    def test_a_client_of_http_cannot_name_one(self, alone, root):
        server = alone(*self.OPTIONS)
        assert server.get("/who", Document_Root=str(root)).status == 404

    def test_without_the_option_it_means_nothing(self, scripts, root):
        assert ask(scripts(**UWSGI), "/who", root=str(root)).status == 404


class TestUnixSockets:
    def test_http_by_a_unix_socket(self, alone, tmp_path):
        server = alone(*MOUNT, http=str(tmp_path / "sock"))
        answer = do(server, HEAD + 'echo "$SERVER_NAME $SERVER_PORT $REMOTE_ADDR"')
        name, port = answer.body.split()[:2]
        assert (name, port) == (b"example.org", b"80")


def test_a_body_that_is_too_short_ends_the_packet_connection(scripts):
    server = scripts(**UWSGI)
    answer = ask(server, "/cgi-bin/do", r"printf 'Content-Length: 10\n\nshort'")
    # There the end of the connection is the end of the response: its length tells.
    assert (answer.header("content-length"), answer.body) == ("10", b"short")
    client = server.http()
    client.send_request(
        target="/cgi-bin/do", headers=[("X-Do", r"printf 'Content-Length: 10\n\nshort'")]
    )
    with pytest.raises(Truncated):
        client.read_response()
    assert says(server, r"X-A: 1\n\nnext").body == b"next"
