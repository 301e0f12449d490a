"""What a script writes, and what becomes of it: heads, bodies, and output that is no response."""

from __future__ import annotations

import pytest

from tests.cgi.scripts import HEAD, do, says, send
from tests.harness.http import Truncated

INVALID = "invalid CGI response !!!"


def pieces(*parts, pause="0.02"):
    """Shell code that writes each part by itself."""
    return "".join(f"printf '%b' '{part}'; sleep {pause}; " for part in parts)


class TestHead:
    @pytest.mark.parametrize("end", [r"\n", r"\r\n"], ids=["LF", "CRLF"])
    def test_lines_end_with_lf_or_crlf(self, server, end):
        answer = says(server, f"Content-Type: text/x{end}X-A: 1{end}{end}body")
        assert (answer.status, answer.body) == (200, b"body")
        assert (answer.header("content-type"), answer.header("x-a")) == ("text/x", "1")

    def test_both_mixed(self, server):
        assert says(server, r"X-A: 1\nX-B: 2\r\n\nbody").body == b"body"

    @pytest.mark.parametrize(
        "output",
        [
            r"Status: 201 Made\nX-A: 1\n\nbody",
            r"X-A: 1\nStatus: 201 Made\n\nbody",
            r"X-A: 1\nsTaTuS:201 Made\n\nbody",
            r"STATUS:   201 Made  \nX-A: 1\n\nbody",
            r"Status: 201 Made\nX-A: 1\nStatus: 201 Other\n\nbody",
        ],
    )
    def test_status_anywhere_and_in_any_case(self, server, output):
        answer = says(server, output)
        assert (answer.status, answer.reason, answer.body) == (201, "Made", b"body")
        assert answer.header("status") is None
        assert answer.header("x-a") == "1"

    def test_status_without_a_reason(self, server):
        assert says(server, r"Status: 404\n\nnothing").status == 404
        assert says(server, r"Status: 299\n\nodd").status == 299

    def test_no_status_is_200(self, server):
        assert says(server, r"X-A: 1\n\n").status == 200

    @pytest.mark.parametrize("version", ["1.1", "1.0", "2"])
    def test_a_status_line_as_if_it_spoke_http(self, server, version):
        answer = says(server, rf"HTTP/{version} 203 Maybe\r\nX-A: 1\r\n\r\nbody")
        assert (answer.version, answer.status, answer.reason) == ("HTTP/1.1", 203, "Maybe")
        assert answer.body == b"body"

    @pytest.mark.parametrize("newline", [r"\n", r"\r\n"])
    def test_byte_by_byte(self, server, newline):
        text = f"Status: 202 Slowly{newline}X-A: one{newline}{newline}body"
        letters = text.replace(r"\r", "\r").replace(r"\n", "\n")
        escaped = [{"\r": r"\r", "\n": r"\n"}.get(letter, letter) for letter in letters]
        answer = do(server, pieces(*escaped, pause="0.001"))
        assert (answer.status, answer.reason, answer.body) == (202, "Slowly", b"body")
        assert len(answer.headers) == len({name for name, _ in answer.headers})

    @pytest.mark.parametrize("at", range(1, 40, 3))
    def test_fields_are_never_sent_twice(self, server, at):
        text = r"Content-Type: text/plain|Location: /a/b|Status: 303 Go||body"
        parts = [part.replace("|", r"\n") for part in (text[:at], text[at:])]
        answer = do(server, pieces(*parts))
        assert (answer.status, answer.body) == (303, b"body")
        assert answer.get_all("content-type") == ["text/plain"]
        assert answer.get_all("location") == ["/a/b"]

    def test_several_cookies_stay_several(self, server):
        answer = says(server, r"Set-Cookie: a=1\nSet-Cookie: b=2\n\n")
        assert answer.get_all("set-cookie") == ["a=1", "b=2"]

    def test_a_date_and_a_server_of_its_own(self, server):
        answer = says(server, r"Date: Thu, 01 Jan 1970 00:00:00 GMT\nServer: mine\n\n")
        assert answer.header("date") == "Thu, 01 Jan 1970 00:00:00 GMT"
        assert answer.header("server") == "mine"

    def test_framing_is_the_servers(self, server):
        with server.http() as client:
            answer = says(client, r"Transfer-Encoding: chunked\nTrailer: X\n\n5\r\nabc")
            assert answer.body == b"5\r\nabc"
            assert says(client, r"X-A: 1\nKeep-Alive: no\n\nnext").body == b"next"

    def test_it_may_ask_for_the_end_of_the_connection(self, server):
        with server.http() as client:
            assert says(client, r"Connection: close\n\nbody").body == b"body"
            assert client.closed_by_peer()

    def test_a_head_up_to_the_limit(self, scripts):
        server = scripts("--cgi-buffer-size", "4k")
        fits = "printf 'X-A: %04000d\\n\\nbody' 1"
        assert do(server, fits).body == b"body"
        assert do(server, "printf 'X-A: %04200d\\n\\nbody' 1").status == 502
        server.wait_for_log("headers are longer than allowed")

    def test_a_large_head_by_default(self, server):
        answer = do(server, "printf 'X-A: %060000d\\n\\nbody' 1")
        assert answer.body == b"body"
        assert len(answer.header("x-a")) == 60000


class TestNoResponse:
    @pytest.mark.parametrize(
        ("output", "said"),
        [
            ("", "it ended without any output"),
            (r"X-A: 1\n", "its head has no end"),
            ("no head at all", "its head has no end"),
            (r"no head at all\nand more\n\n", "without a colon"),
            (r"\nbody", "begins with an empty line"),
            (r"\r\nbody", "begins with an empty line"),
            (r"X-A: 1\n folded\n\n", "begins with a blank"),
            (r"X-A : 1\n\n", "blank before its colon"),
            (r": 1\n\n", "a header whose name"),
            (r"X(A): 1\n\n", "a header whose name"),
            (r"X-A: a\rSet-Cookie: evil=1\n\n", "control byte"),
            (r"X-A: a\0000b\n\n", "control byte"),
            (r"Status: 99\n\n", "Status is not three digits"),
            (r"Status: 100 Continue\n\n", "Status is not three digits"),
            (r"Status: twohundred\n\n", "Status is not three digits"),
            (r"Status: 200 a\rb\n\n", ""),
            (r"HTTP/1.1 abc\n\n", "Status"),
            (r"Status: 200\nStatus: 404\n\n", "two Status"),
            (r"Content-Length: 1\nContent-Length: 2\n\na", "two Content-Length"),
            (r"Content-Length: -1\n\na", "Content-Length is not"),
            (r"Content-Length: 1x\n\na", "Content-Length is not"),
            (r"Location: /a\nLocation: /b\n\n", "two Status|two|differ"),
        ],
    )
    def test_is_502_and_says_why(self, server, output, said):
        with server.http() as client:
            answer = says(client, output)
            assert answer.status == 502
            assert "evil" not in answer.raw_head.decode("latin-1")
            # Keeps the connection: the next answer is the next request's.
            assert says(client, r"X-A: 1\n\nnext").body == b"next"
        server.wait_for_log(f"{INVALID} .*({said}).*answered 502")

    def test_too_many_headers(self, server):
        assert do(server, r"seq 300 | sed 's/.*/X-&: 1/'; echo; echo body").status == 502
        server.wait_for_log("more headers than allowed")

    def test_one_that_never_ends_its_head_is_ended(self, scripts, notes):
        server = scripts(*notes.options)
        assert do(server, "echo pid $$ >>$NOTES; yes 'X-A: 1'").status == 502
        notes.wait_gone()

    def test_it_is_killed(self, scripts, notes):
        server = scripts(*notes.options)
        code = "echo pid $$ >>$NOTES; echo no colon; exec sleep 1000"
        assert do(server, code).status == 502
        notes.wait_gone()

    def test_it_is_left_alone_if_that_is_wanted(self, scripts, notes):
        server = scripts("--cgi-do-not-kill-on-error", *notes.options)
        code = "echo no colon; exec >&-; sleep 0.3; echo survived >>$NOTES"
        assert do(server, code).status == 502
        notes.wait_for("survived")


class TestBody:
    def test_in_many_writes(self, server):
        answer = do(server, HEAD + "for i in $(seq 500); do echo line $i; done")
        assert answer.body == b"".join(b"line %d\n" % i for i in range(1, 501))

    def test_comes_as_it_is_written(self, scripts, gate):
        server = scripts("--cgi-env", f"GATE={gate.path}")
        client = server.http()
        wait = "dd bs=1 count=1 <$GATE >/dev/null 2>&1; "
        send(client, HEAD + "printf one; " + wait + "printf two; " + wait + "printf three")
        head = client.read_head()
        assert client.read_chunk() == b"one"
        gate.release()
        assert client.read_chunk() == b"two"
        gate.release()
        assert client.read_body(head).body == b"three"

    def test_every_byte_arrives_unchanged(self, server):
        octal = "".join(rf"\0{byte:03o}" for byte in range(256))
        assert says(server, r"X-A: 1\n\n" + octal).body == bytes(range(256))

    def test_head_and_body_in_one_write_and_apart(self, server):
        assert says(server, r"X-A: 1\n\nbody").body == b"body"
        assert do(server, pieces(r"X-A: 1\n\n", "bo", "dy")).body == b"body"
        assert do(server, pieces(r"X-A: 1\n", r"\nbo", "dy")).body == b"body"

    def test_http_1_0_gets_no_chunks(self, server):
        with server.http() as client:
            client.send_request("GET", "/cgi-bin/do", [("X-Do", HEAD + "echo x")], None, "HTTP/1.0")
            answer = client.read_response()
        assert answer.framing == "close"
        assert answer.body == b"x\n"

    @pytest.mark.parametrize("status", ["204 No Content", "304 Not Modified"])
    def test_statuses_without_a_body(self, server, status):
        with server.http() as client:
            answer = says(client, rf"Status: {status}\nX-A: 1\n\nthis is not sent")
            assert (answer.status, answer.body) == (int(status[:3]), b"")
            assert says(client, r"X-A: 1\n\nnext").body == b"next"

    @pytest.mark.parametrize("length", ["", r"Content-Length: 4\n"])
    def test_head_has_no_body(self, server, length):
        with server.http() as client:
            answer = says(client, rf"{length}X-A: 1\n\nbody", method="HEAD")
            assert (answer.status, answer.header("x-a"), answer.body) == (200, "1", b"")
            if length:
                assert answer.header("content-length") == "4"
            assert says(client, r"X-A: 1\n\nnext").body == b"next"

    def test_head_of_one_that_writes_for_ever(self, scripts, notes):
        server = scripts(*notes.options)
        code = "echo pid $$ >>$NOTES; " + HEAD + "exec yes"
        assert do(server, code, method="HEAD").status == 200
        # It learns of it as it would from a pipe: SIGPIPE.
        notes.wait_gone()


class TestContentLength:
    def test_it_is_honoured(self, server):
        with server.http() as client:
            answer = says(client, r"Content-Length: 4\n\nbody")
            assert (answer.framing, answer.body) == ("length", b"body")
            assert says(client, r"Content-Length: 4\nContent-Length: 4\n\nnext").body == b"next"

    def test_a_body_that_is_too_short_breaks_off(self, server):
        client = server.http()
        send(client, r"printf 'Content-Length: 10\n\nshort'")
        with pytest.raises(Truncated):
            client.read_response()
        server.wait_for_log("it ended 5 bytes before its Content-Length")

    def test_a_body_that_is_too_long_is_cut(self, server):
        with server.http() as client:
            answer = says(client, r"Content-Length: 4\n\nbody and more, HTTP/1.1 200 OK\r\n\r\n")
            assert answer.body == b"body"
            assert says(client, r"X-A: 1\n\nnext").body == b"next"

    def test_zero(self, server):
        with server.http() as client:
            assert says(client, r"Content-Length: 0\n\n").body == b""
            assert says(client, r"Content-Length: 0\n\nnot sent").body == b""
            assert says(client, r"X-A: 1\n\nnext").body == b"next"

    def test_the_response_is_there_when_all_of_it_is(self, scripts, gate):
        server = scripts("--cgi-env", f"GATE={gate.path}")
        client = server.http()
        wait = "dd bs=1 count=1 <$GATE >/dev/null 2>&1; "
        send(client, r"printf 'Content-Length: 4\n\nbody'; " + wait)
        assert client.read_response().body == b"body"
        gate.release()
        assert says(client, r"X-A: 1\n\nnext").body == b"next"
