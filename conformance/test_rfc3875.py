"""RFC 3875 (CGI/1.1): what a script is told, what it is given, and what becomes of its answer.

Known deviations, each with its reason:

- 4.1.9: REMOTE_HOST is not set. Looking the name up would delay every request; the clause lets a
  server put the address there, which REMOTE_ADDR says already.
- 4.1.18: Authorization is handed on. Here no server above the script authenticates, so the script
  is the one it is meant for; --cgi-unset HTTP_AUTHORIZATION takes it away.
- 5: there are no NPH scripts. A status line at the start of the output is read as Status.
- 6.2.3 and 6.2.4 differ in whether there is a document: what has no Status is 302 in both.
"""

from __future__ import annotations

import pytest

from tests.cgi.conftest import alone, beside, scripts
from tests.cgi.scripts import FOLDER, HEAD, do, says, write
from tests.harness.http import chunked
from tests.harness.uwsgi import packet, variables

__all__ = ["alone", "beside", "scripts"]

ENVIRONMENT = HEAD + "cat /proc/$$/environ"


@pytest.fixture
def server(scripts):
    return scripts()


def told(server, method="GET", target="/cgi-bin/do", headers=(), body=None):
    """The meta-variables that a script gets."""
    answer = do(server, ENVIRONMENT, method, target, headers, body)
    assert answer.status == 200
    pairs = (part.partition(b"=") for part in answer.body.split(b"\0") if part)
    return {name.decode(): value.decode("latin-1") for name, _, value in pairs}


class TestSection3Invoking:
    def test_3_2_the_script_is_chosen_by_the_longest_path(self, server):
        found = told(server, target="/cgi-bin/do/this%2eb/that")
        assert (found["SCRIPT_NAME"], found["PATH_INFO"]) == ("/cgi-bin/do", "/this.b/that")

    def test_3_3_the_script_uri_is_made_of_the_variables(self, server):
        found = told(server, target="/cgi-bin/do/extra/path?query=1")
        uri = (
            f"http://{found['SERVER_NAME']}:{found['SERVER_PORT']}"
            f"{found['SCRIPT_NAME']}{found['PATH_INFO']}?{found['QUERY_STRING']}"
        )
        port = server.http_address[1]
        assert uri == f"http://example.org:{port}/cgi-bin/do/extra/path?query=1"

    def test_3_4_execution_is_of_the_requests_script_alone(self, server):
        first, second = told(server, headers=[("X-A", "1")]), told(server)
        assert first["HTTP_X_A"] == "1"
        assert "HTTP_X_A" not in second


class TestSection4MetaVariables:
    def test_4_1_names_are_case_sensitive_and_each_is_there_once(self, server):
        answer = do(server, ENVIRONMENT, headers=[("x-a", "1"), ("X-A", "2")])
        names = [part.partition(b"=")[0] for part in answer.body.split(b"\0") if part]
        assert len(names) == len(set(names))
        assert all(name == name.upper() for name in names)

    def test_4_1_1_auth_type_is_not_set_without_authentication(self, server):
        found = told(server, headers=[("Authorization", "Basic YTpi")])
        assert "AUTH_TYPE" not in found

    @pytest.mark.parametrize("length", [1, 1000, 100_000])
    def test_4_1_2_content_length_is_the_size_of_the_body(self, server, length):
        assert told(server, "POST", body=bytes(length))["CONTENT_LENGTH"] == str(length)

    def test_4_1_2_content_length_is_not_set_without_a_body(self, server):
        assert "CONTENT_LENGTH" not in told(server)
        assert told(server, "POST", body=b"").get("CONTENT_LENGTH", "") == ""

    def test_4_1_2_content_length_is_that_after_removing_transfer_codings(self, server):
        client = server.http()
        client.send(
            f"POST /cgi-bin/do HTTP/1.1\r\nHost: a\r\nX-Do: {ENVIRONMENT}\r\n"
            "Transfer-Encoding: chunked\r\n\r\n"
        )
        client.send(chunked(b"abc", b"de"))
        assert b"CONTENT_LENGTH=5" in client.read_response().body.split(b"\0")

    def test_4_1_3_content_type_is_that_of_the_request(self, server):
        kind = "application/x-www-form-urlencoded; charset=utf-8"
        found = told(server, "POST", headers=[("Content-Type", kind)], body=b"a=1")
        assert found["CONTENT_TYPE"] == kind

    def test_4_1_3_content_type_is_not_made_up(self, server):
        assert told(server, "POST", body=b"a=1").get("CONTENT_TYPE", "") == ""

    def test_4_1_4_gateway_interface_is_cgi_1_1(self, server):
        assert told(server)["GATEWAY_INTERFACE"] == "CGI/1.1"

    def test_4_1_5_path_info_is_decoded_and_begins_with_a_slash(self, server):
        found = told(server, target="/cgi-bin/do/a%20b/%c3%a9?x")
        assert found["PATH_INFO"] == "/a b/\xc3\xa9"

    def test_4_1_5_path_info_may_be_absent(self, server):
        assert told(server).get("PATH_INFO", "") == ""

    def test_4_1_6_path_translated_is_path_info_below_the_root(self, server):
        found = told(server, target="/cgi-bin/do/a/b")
        assert found["PATH_TRANSLATED"] == found["DOCUMENT_ROOT"] + "/a/b"

    def test_4_1_6_path_translated_is_not_set_without_path_info(self, server):
        assert "PATH_TRANSLATED" not in told(server)

    @pytest.mark.parametrize(
        ("target", "query"), [("", ""), ("?", ""), ("?a=b&c=%20d+e", "a=b&c=%20d+e"), ("??", "?")]
    )
    def test_4_1_7_query_string_is_as_sent_and_always_there(self, server, target, query):
        assert told(server, target="/cgi-bin/do" + target)["QUERY_STRING"] == query

    def test_4_1_8_remote_addr_is_the_clients_address(self, server):
        assert told(server)["REMOTE_ADDR"] == "127.0.0.1"

    def test_4_1_9_remote_host_is_not_looked_up(self, server):
        assert told(server).get("REMOTE_HOST", "127.0.0.1") == "127.0.0.1"

    def test_4_1_10_remote_ident_is_not_asked_for(self, server):
        assert "REMOTE_IDENT" not in told(server)

    def test_4_1_11_remote_user_is_not_the_clients_to_say(self, server):
        found = told(server, headers=[("Remote-User", "root"), ("Authorization", "Basic cm9vdDp4")])
        assert "REMOTE_USER" not in found

    @pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PURGE", "get"])
    def test_4_1_12_request_method_is_case_sensitive(self, server, method):
        assert told(server, method)["REQUEST_METHOD"] == method

    def test_4_1_13_script_name_is_decoded_and_leads_to_the_script(self, scripts, tmp_path):
        write(tmp_path / "own/a b", "#!/bin/sh\nprintf 'X-A: 1\\n\\n'; cat /proc/$$/environ\n")
        server = scripts("--cgi", f"/own={tmp_path}/own")
        body = server.get("/own/a%20b/rest").body.split(b"\0")
        assert b"SCRIPT_NAME=/own/a b" in body

    def test_4_1_13_script_name_may_be_empty(self, alone):
        server = alone("--cgi", str(FOLDER / "do"))
        found = told(server, target="/")
        assert found["SCRIPT_NAME"] == ""
        assert found["PATH_INFO"] == "/"

    @pytest.mark.parametrize(
        ("host", "name"),
        [("a.example", "a.example"), ("a.example:81", "a.example"), ("[::1]:8", "[::1]")],
    )
    def test_4_1_14_server_name_is_what_the_request_is_for(self, server, host, name):
        client = server.http()
        client.send(f"GET /cgi-bin/do HTTP/1.1\r\nHost: {host}\r\nX-Do: {ENVIRONMENT}\r\n\r\n")
        assert f"SERVER_NAME={name}".encode() in client.read_response().body.split(b"\0")

    def test_4_1_14_server_name_is_never_empty(self, server):
        client = server.http()
        client.send(f"GET /cgi-bin/do HTTP/1.0\r\nX-Do: {ENVIRONMENT}\r\n\r\n")
        found = client.read_response().body.split(b"\0")
        (name,) = [part for part in found if part.startswith(b"SERVER_NAME=")]
        assert name != b"SERVER_NAME="

    def test_4_1_15_server_port_is_the_one_that_was_connected_to(self, server):
        assert told(server)["SERVER_PORT"] == str(server.http_address[1])

    @pytest.mark.parametrize("version", ["HTTP/1.1", "HTTP/1.0"])
    def test_4_1_16_server_protocol_is_the_requests(self, server, version):
        client = server.http()
        client.send_request("GET", "/cgi-bin/do", [("X-Do", ENVIRONMENT)], version=version)
        assert f"SERVER_PROTOCOL={version}".encode() in client.read_response().body.split(b"\0")

    def test_4_1_17_server_software_has_name_and_version(self, server):
        name, slash, version = told(server)["SERVER_SOFTWARE"].partition("/")
        assert (name, slash, bool(version)) == ("greenloom", "/", True)

    def test_4_1_18_headers_are_upper_case_with_underscores(self, server):
        found = told(server, headers=[("User-Agent", "x"), ("X-Some-Thing", "y z")])
        assert (found["HTTP_USER_AGENT"], found["HTTP_X_SOME_THING"]) == ("x", "y z")

    def test_4_1_18_repeated_headers_are_one_of_the_same_meaning(self, server):
        found = told(server, headers=[("Accept", "a"), ("Accept", "b")])
        assert found["HTTP_ACCEPT"].replace(" ", "") == "a,b"

    def test_4_1_18_what_has_a_variable_of_its_own_is_not_there_twice(self, server):
        found = told(server, "POST", headers=[("Content-Type", "text/x")], body=b"x")
        assert {"HTTP_CONTENT_TYPE", "HTTP_CONTENT_LENGTH"}.isdisjoint(found)

    def test_4_1_18_authorization_is_the_scripts_unless_taken_away(self, scripts):
        headers = [("Authorization", "Basic YTpi")]
        assert told(scripts(), headers=headers)["HTTP_AUTHORIZATION"] == "Basic YTpi"
        server = scripts("--cgi-unset", "HTTP_AUTHORIZATION")
        assert "HTTP_AUTHORIZATION" not in told(server, headers=headers)

    def test_4_1_18_a_proxy_is_no_meta_variable(self, server):
        assert "HTTP_PROXY" not in told(server, headers=[("Proxy", "http://evil.example/")])

    def test_4_1_of_a_front_end_are_handed_on(self, scripts):
        server = scripts(uwsgi="127.0.0.1:0")
        extra = [("HTTP_X_DO", ENVIRONMENT), ("AUTH_TYPE", "Basic"), ("REMOTE_USER", "me")]
        client = server.packets()
        client.send(packet(variables("GET", "/cgi-bin/do", extra=extra), 9))
        found = client.read_answer().body.split(b"\0")
        assert {b"AUTH_TYPE=Basic", b"REMOTE_USER=me", b"REMOTE_ADDR=192.0.2.7"} <= set(found)


class TestSection4Body:
    def test_4_2_the_body_is_on_standard_input(self, server):
        body = bytes(range(256)) * 500
        assert do(server, HEAD + "exec cat", method="POST", body=body).body == body

    def test_4_2_exactly_content_length_bytes_can_be_read(self, server):
        code = HEAD + "head -c $CONTENT_LENGTH; printf .; wc -c"
        assert do(server, code, method="POST", body=b"12345").body == b"12345.0\n"

    def test_4_2_a_script_need_not_read_it(self, server):
        assert do(server, HEAD + "echo x", method="POST", body=bytes(1 << 20)).body == b"x\n"

    def test_4_2_without_a_body_there_is_nothing_to_read(self, server):
        assert do(server, HEAD + "wc -c").body.strip() == b"0"

    def test_4_3_1_get_and_4_3_2_post_and_4_3_4_others_are_the_scripts_to_judge(self, server):
        code = r"printf 'Status: 200\nX-Was: %s\n\n' $REQUEST_METHOD"
        for method in ("GET", "POST", "DELETE", "QUERY"):
            assert do(server, code, method=method).header("x-was") == method

    def test_4_3_3_head_has_the_head_of_get_and_no_body(self, server):
        output = r"X-A: 1\nContent-Length: 4\n\nbody"
        with server.http() as client:
            head, get = says(client, output, method="HEAD"), says(client, output)
        assert (head.body, get.body) == (b"", b"body")
        unlike = {"date"}
        assert [h for h in head.headers if h[0].lower() not in unlike] == [
            h for h in get.headers if h[0].lower() not in unlike
        ]


class TestSection4CommandLine:
    WORDS = HEAD + r"""for word; do printf '<%s>' "$word"; done; echo $#"""

    @pytest.mark.parametrize(
        ("query", "words"),
        [
            ("?one+two", b"<one><two>2\n"),
            ("?a%20b+c%2Bd", b"<a b><c+d>2\n"),
            ("?%3d", b"<=>1\n"),
            ("?a=b", b"0\n"),
            ("?", b"0\n"),
            ("", b"0\n"),
        ],
    )
    def test_4_4_an_indexed_query_is_the_command_line(self, server, query, words):
        answer = do(server, self.WORDS, path=f"/cgi-bin/do{query}")
        assert answer.body == words

    @pytest.mark.parametrize("method", ["HEAD", "POST", "PUT"])
    def test_4_4_only_get_and_head_have_one(self, scripts, tmp_path, method):
        # An indexed query is a GET or HEAD whose query has no "=".
        noted = tmp_path / "words"
        server = scripts("--cgi-env", f"WORDS={noted}")
        do(server, HEAD + "echo $# >$WORDS", path="/cgi-bin/do?one+two", method=method)
        assert noted.read_text() == ("2\n" if method == "HEAD" else "0\n")

    def test_4_4_what_cannot_be_decoded_gives_no_command_line(self, server):
        assert do(server, self.WORDS, path="/cgi-bin/do?a+%zz").body == b"0\n"

    def test_4_4_shell_characters_mean_nothing(self, server):
        answer = do(server, self.WORDS, path="/cgi-bin/do?$(id)+`id`+;id")
        assert answer.body == b"<$(id)><`id`><;id>3\n"


class TestSection6Response:
    def test_6_1_the_response_ends_where_the_output_ends(self, server):
        assert do(server, HEAD + "echo one; sleep 0.1; echo two").body == b"one\ntwo\n"

    def test_6_2_at_least_one_header_field(self, server):
        assert says(server, r"\nbody").status == 502

    def test_6_2_1_a_document_has_a_content_type_and_a_body(self, server):
        answer = says(server, r"Content-Type: text/html\n\n<p>")
        assert (answer.status, answer.header("content-type"), answer.body) == (
            200,
            "text/html",
            b"<p>",
        )

    def test_6_2_2_a_local_redirect_is_answered_by_the_server(self, scripts, tmp_path):
        write(tmp_path / "files/page.txt", "a page\n", 0o644)
        server = scripts("--static-map", f"/files={tmp_path}/files")
        answer = says(server, r"Location: /files/page.txt\n\n")
        assert (answer.status, answer.body, answer.header("location")) == (200, b"a page\n", None)

    def test_6_2_2_it_may_have_a_query(self, scripts, tmp_path):
        write(tmp_path / "own/q", '#!/bin/sh\nprintf "X-A: 1\\n\\n$QUERY_STRING"\n')
        server = scripts("--cgi", f"/own={tmp_path}/own")
        assert says(server, r"Location: /own/q?a=1&b\n\n").body == b"a=1&b"

    def test_6_2_3_a_client_redirect_is_302(self, server):
        answer = says(server, r"Location: http://other.example/x\n\n")
        assert (answer.status, answer.header("location")) == (302, "http://other.example/x")

    def test_6_2_3_a_fragment_is_for_the_client(self, server):
        answer = says(server, r"Location: /here#there\n\n")
        assert (answer.status, answer.header("location")) == (302, "/here#there")

    def test_6_2_4_a_client_redirect_with_a_document(self, server):
        answer = says(
            server,
            r"Status: 302 Moved\nLocation: http://o.example/\nContent-Type: text/plain\n\nthere",
        )
        assert (answer.status, answer.reason, answer.body) == (302, "Moved", b"there")
        assert answer.header("content-type") == "text/plain"


class TestSection6Fields:
    def test_6_3_names_are_not_case_sensitive(self, server):
        answer = says(server, r"STATUS: 201 Made\ncontent-TYPE: text/x\n\n")
        assert (answer.status, answer.header("content-type")) == (201, "text/x")

    def test_6_3_blanks_around_a_value_do_not_count(self, server):
        assert says(server, r"X-A: \t  1 \t\n\n").header("x-a") == "1"

    def test_6_3_no_blank_before_the_colon(self, server):
        assert says(server, r"Content-Type : text/x\n\n").status == 502

    def test_6_3_lines_are_not_continued(self, server):
        assert says(server, r"X-A: 1\n 2\n\n").status == 502

    def test_6_3_cgi_fields_are_given_once(self, server):
        assert says(server, r"Status: 200\nStatus: 500\n\n").status == 502

    def test_6_3_1_content_type_is_handed_on_as_it_is(self, server):
        kind = 'text/plain; charset="x y"'
        assert says(server, rf"Content-Type: {kind}\n\n").header("content-type") == kind

    def test_6_3_2_location_is_absolute_or_a_local_path(self, server):
        assert says(server, r"Location: https://o.example/a?b\n\n").status == 302
        assert says(server, r"Location: //o.example/a\n\n").status == 302

    @pytest.mark.parametrize("status", ["200 OK", "404 Not Found", "599 Odd", "418"])
    def test_6_3_3_status_is_the_responses(self, server, status):
        answer = says(server, rf"Status: {status}\nX-A: 1\n\n")
        assert answer.status == int(status[:3])
        assert answer.reason == status[4:] or status == "418"
        assert answer.header("status") is None

    def test_6_3_3_without_one_it_is_200(self, server):
        assert says(server, r"X-A: 1\n\n").status == 200

    @pytest.mark.parametrize("status", ["20", "2000", "abc", "101 Switching", "0200 OK"])
    def test_6_3_3_what_is_no_final_status_is_502(self, server, status):
        assert says(server, rf"Status: {status}\n\n").status == 502

    def test_6_3_4_protocol_fields_are_handed_on(self, server):
        answer = says(server, r"Cache-Control: no-store\nETag: \"x\"\nSet-Cookie: a=1\n\n")
        assert answer.header("cache-control") == "no-store"
        assert answer.header("set-cookie") == "a=1"

    def test_6_3_4_fields_about_the_connection_are_the_servers(self, server):
        with server.http() as client:
            answer = says(client, r"Transfer-Encoding: gzip\nX-A: 1\n\nbody")
            assert (answer.framing, answer.body) == ("chunked", b"body")
            assert says(client, r"X-A: 1\n\nnext").body == b"next"

    def test_6_3_5_extension_fields_are_handed_on(self, server):
        assert says(server, r"X-CGI-Note: for the server\n\n").header("x-cgi-note")

    def test_6_4_the_body_is_sent_unchanged_to_its_end(self, server):
        answer = do(server, HEAD + r"printf 'a\r\n\r\nb\0\377\n\n'")
        assert answer.body == b"a\r\n\r\nb\0\xff\n\n"


class TestSection7System:
    def test_7_2_the_working_directory_is_the_scripts(self, server):
        assert do(server, HEAD + "pwd -P").body.decode().strip() == str(FOLDER)

    def test_7_2_meta_variables_are_the_environment(self, server):
        assert do(server, HEAD + 'echo "$GATEWAY_INTERFACE"').body == b"CGI/1.1\n"

    def test_7_2_the_command_line_begins_with_the_scripts_name(self, server):
        answer = do(server, HEAD + r"tr '\0' ' ' </proc/$$/cmdline")
        assert f"{FOLDER}/do" in answer.body.decode()

    @pytest.mark.parametrize("newline", [r"\n", r"\r\n"])
    def test_7_2_lines_end_with_lf_or_crlf(self, server, newline):
        answer = says(server, f"X-A: 1{newline}Status: 201{newline}{newline}body")
        assert (answer.status, answer.header("x-a"), answer.body) == (201, "1", b"body")

    def test_9_6_input_of_the_client_is_data_in_the_environment(self, server):
        found = told(server, headers=[("X-A", "() { :;}; echo pwned")])
        assert found["HTTP_X_A"] == "() { :;}; echo pwned"
