"""RFC 9112 (HTTP/1.1) and what RFC 9110 adds to a server's duties, clause by clause."""

from __future__ import annotations

import pytest

from tests.harness.http import chunked

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


@pytest.fixture
def echo(serve):
    return serve("echo").http()


@pytest.fixture
def environ(serve):
    return serve("environ").http()


def refused(client, data, statuses=(400,)):
    client.send(data)
    assert client.read_response().status in statuses
    assert client.closed_by_peer()


def head(*lines: bytes) -> bytes:
    return b"\r\n".join([b"POST / HTTP/1.1", b"Host: a", *lines]) + b"\r\n\r\n"


class TestSection2Message:
    def test_2_2_a_crlf_before_the_request_line_is_ignored(self, echo):
        echo.send(b"\r\n" + GET)
        assert echo.read_response().status == 200

    def test_2_2_white_space_before_the_first_header_is_refused(self, echo):
        refused(echo, b"GET / HTTP/1.1\r\n Host: a\r\n\r\n")

    def test_2_2_a_bare_cr_is_refused(self, echo):
        refused(echo, b"GET / HTTP/1.1\r\nHost: a\r\nX-A: b\rc\r\n\r\n")

    def test_2_2_bytes_that_are_no_request_are_400_and_close(self, echo):
        refused(echo, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n")

    def test_2_3_the_version_is_case_sensitive(self, echo):
        refused(echo, b"GET / http/1.1\r\nHost: a\r\n\r\n", (400, 505))

    def test_2_3_a_higher_minor_version_is_answered_as_1_1(self, echo):
        echo.send(b"GET / HTTP/1.9\r\nHost: a\r\n\r\n")
        answer = echo.read_response()
        assert answer.version == "HTTP/1.1"
        assert answer.status in (200, 505)


class TestSection3RequestLine:
    @pytest.mark.parametrize(
        "line",
        [
            b"GET",
            b"GET /",
            b" GET / HTTP/1.1",
            b"GET  / HTTP/1.1",
            b"GET / HTTP/1.1 x",
            b"GET /a b HTTP/1.1",
            b"(GET) / HTTP/1.1",
        ],
    )
    def test_3_invalid_lines_are_400(self, echo, line):
        refused(echo, line + b"\r\nHost: a\r\n\r\n")

    def test_3_a_target_longer_than_any_is_414_or_431(self, echo):
        refused(echo, b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", (414, 431))

    def test_3_1_methods_are_case_sensitive(self, echo):
        assert echo.request("get").json()["method"] == "get"

    def test_3_2_a_missing_host_is_400(self, echo):
        refused(echo, b"GET / HTTP/1.1\r\n\r\n")

    def test_3_2_two_hosts_are_400(self, echo):
        refused(echo, b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n")

    @pytest.mark.parametrize("value", [b"a b", b"a/b", b"a@b", b"a:b:c", b"a b:80"])
    def test_3_2_an_invalid_host_is_400(self, echo, value):
        refused(echo, b"GET / HTTP/1.1\r\nHost: " + value + b"\r\n\r\n")

    @pytest.mark.parametrize("value", [b"", b"a.b:80", b"[::1]:8080", b"127.0.0.1", b"a-b_c"])
    def test_3_2_valid_hosts(self, echo, value):
        echo.send(b"GET / HTTP/1.1\r\nHost: " + value + b"\r\n\r\n")
        assert echo.read_response().status == 200

    def test_3_2_1_origin_form(self, environ):
        found = environ.get("/where?q=now").json()
        assert (found["PATH_INFO"], found["QUERY_STRING"]) == ("/where", "q=now")

    def test_3_2_2_absolute_form(self, environ):
        environ.send(b"GET http://example.net/pub/WWW/?a HTTP/1.1\r\nHost: a\r\n\r\n")
        found = environ.read_response().json()
        assert (found["PATH_INFO"], found["QUERY_STRING"]) == ("/pub/WWW/", "a")

    def test_3_2_2_the_host_of_an_absolute_target_wins(self, environ):
        environ.send(b"GET http://example.net/ HTTP/1.1\r\nHost: other\r\n\r\n")
        assert environ.read_response().json()["HTTP_HOST"] == "example.net"

    def test_3_2_3_authority_form_is_no_tunnel_here(self, echo):
        echo.send(b"CONNECT example.net:80 HTTP/1.1\r\nHost: example.net\r\n\r\n")
        assert echo.read_response().status in (400, 405, 501)

    def test_3_2_4_asterisk_form_is_for_options_only(self, echo):
        refused(echo, b"GET * HTTP/1.1\r\nHost: a\r\n\r\n")

    def test_3_2_4_options(self, echo):
        echo.send(b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n")
        assert echo.read_response().status in (200, 204)


class TestSection4StatusLine:
    def test_4_the_server_answers_with_its_own_version(self, echo):
        assert echo.request(version="HTTP/1.0").version == "HTTP/1.1"


class TestSection5FieldSyntax:
    def test_5_1_white_space_before_the_colon_is_400(self, echo):
        refused(echo, head(b"X-A : 1"))

    def test_5_1_white_space_around_values_is_not_part_of_them(self, echo):
        echo.send(head(b"X-A: \t b c\t "))
        assert echo.read_response().json()["headers"]["HTTP_X_A"] == "b c"

    def test_5_1_empty_values_are_legal(self, echo):
        echo.send(head(b"X-A:"))
        assert echo.read_response().json()["headers"]["HTTP_X_A"] == ""

    @pytest.mark.parametrize("fold", [b"\r\n b", b"\r\n\tb"])
    def test_5_2_obsolete_folding_is_400(self, echo, fold):
        refused(echo, head(b"X-A: a" + fold))

    @pytest.mark.parametrize("name", [b"", b"a b", b"a(b", b"a\x80", b'"a"', b"a/b", b"a\x01"])
    def test_rfc9110_5_1_names_are_tokens(self, echo, name):
        refused(echo, head(name + b": 1"))

    @pytest.mark.parametrize("byte", [b"\x00", b"\r", b"\n"])
    def test_rfc9110_5_5_nul_cr_lf_in_values_are_refused(self, echo, byte):
        refused(echo, head(b"X-A: a" + byte + b"b"))

    def test_rfc9110_5_5_obs_text_is_opaque(self, echo):
        echo.send(head(b"X-A: \xff\xfe"))
        assert echo.read_response().json()["headers"]["HTTP_X_A"] == "\xff\xfe"


class TestSection6Body:
    def test_6_1_transfer_encoding_with_content_length_is_refused(self, echo):
        refused(echo, head(b"Transfer-Encoding: chunked", b"Content-Length: 3"))

    def test_6_1_transfer_encoding_in_1_0_is_refused(self, echo):
        refused(echo, b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", (400, 501))

    def test_6_1_chunked_not_last_is_400(self, echo):
        refused(echo, head(b"Transfer-Encoding: chunked, gzip"), (400, 501))

    def test_6_1_unknown_codings_are_501(self, echo):
        refused(echo, head(b"Transfer-Encoding: gzip, chunked"), (501, 400))

    @pytest.mark.parametrize("status", [204, 304])
    def test_6_1_no_transfer_encoding_without_body(self, serve, status):
        client = serve("bodyless").http()
        client.send_request(target=f"/{status}/generator")
        assert client.read_response().header("transfer-encoding") is None

    def test_6_1_no_transfer_encoding_to_1_0(self, serve):
        client = serve("stream").http()
        answer = client.request(target="/3", version="HTTP/1.0")
        assert answer.header("transfer-encoding") is None

    def test_6_2_no_content_length_with_204(self, serve):
        client = serve("bodyless").http()
        client.send_request(target="/204/list")
        assert client.read_response().header("content-length") is None

    @pytest.mark.parametrize("value", [b"", b"a", b"-1", b"+1", b"1 1", b"1,2", b"0x1", b"1.0"])
    def test_6_3_invalid_lengths_are_400(self, echo, value):
        refused(echo, head(b"Content-Length: " + value))

    def test_6_3_differing_lengths_are_400(self, echo):
        refused(echo, head(b"Content-Length: 1", b"Content-Length: 2"))

    def test_6_3_no_framing_is_no_body(self, echo):
        echo.send(head() + GET)
        assert echo.read_response().json()["length"] == 0
        assert echo.read_response().json()["method"] == "GET"

    def test_6_3_get_may_have_a_body(self, echo):
        assert echo.request("GET", body=b"abc").json()["length"] == 3


class TestSection7Chunked:
    CODING = b"Transfer-Encoding: chunked"

    def length(self, client, body):
        client.send(head(self.CODING) + body)
        return client.read_response().json()["length"]

    def test_7_1_sizes_are_hexadecimal(self, echo):
        assert self.length(echo, b"a\r\n0123456789\r\nA\r\n0123456789\r\n0\r\n\r\n") == 20

    def test_7_1_codings_are_case_insensitive(self, echo):
        echo.send(head(b"Transfer-Encoding: ChUnKeD") + chunked(b"abc"))
        assert echo.read_response().json()["length"] == 3

    def test_7_1_size_overflow_is_refused(self, echo):
        refused(echo, head(self.CODING) + b"f" * 17 + b"\r\n", (400, 413))

    def test_7_1_1_unknown_extensions_are_ignored(self, echo):
        assert self.length(echo, b'3;a;b=c;d="e;f"\r\nabc\r\n0;g\r\n\r\n') == 3

    def test_7_1_1_extensions_are_bounded(self, echo):
        refused(echo, head(self.CODING) + b"3;" + b"a" * 200_000 + b"\r\nabc\r\n", (400, 413, 431))

    def test_7_1_2_trailers_are_read_and_dropped(self, echo):
        assert self.length(echo, b"3\r\nabc\r\n0\r\nX-A: b\r\nContent-Length: 9\r\n\r\n") == 3
        assert echo.get("/").status == 200

    def test_7_1_3_every_byte_may_come_alone(self, echo):
        echo.send_pieces(head(self.CODING) + chunked(b"abc", b"d" * 20))
        assert echo.read_response().json()["length"] == 23

    def test_7_1_responses_of_unknown_length_are_chunked(self, serve):
        client = serve("stream").http()
        answer = client.get("/3")
        assert answer.framing == "chunked"
        assert all(answer.chunks)


class TestSection9Connections:
    def test_9_3_persistence_is_the_default(self, echo):
        for _ in range(3):
            assert echo.get("/").status == 200

    def test_9_3_1_0_does_not_persist(self, echo):
        echo.request(version="HTTP/1.0")
        assert echo.closed_by_peer()

    def test_9_3_2_pipelined_answers_come_in_order(self, echo):
        echo.send(b"".join(b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % n for n in range(10)))
        assert [echo.read_response().json()["path"] for _ in range(10)] == [
            f"/{n}" for n in range(10)
        ]

    def test_9_6_nothing_is_processed_after_close(self, serve):
        server = serve("echo")
        client = server.http()
        client.send(b"GET /1 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n" + GET)
        assert client.read_response().header("connection").lower() == "close"
        assert client.closed_by_peer()
        server.get("/after")
        assert [r.uri for r in server.wait_requests(2)] == ["/1", "/after"]

    def test_9_6_the_last_answer_is_not_lost_to_a_reset(self, serve):
        """A lingering close: unread request bytes must not destroy the answer."""
        server = serve("echo", "--limit-post", "100")
        for _ in range(10):
            with server.http() as client:
                client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 500000\r\n\r\n")
                client.send(b"x" * 500_000)
                assert client.read_response().status == 413


class TestRfc9110:
    def test_6_6_1_date(self, echo):
        assert echo.get("/").header("date")

    def test_9_3_2_head_is_get_without_body(self, echo):
        first = echo.get("/same")
        second = echo.request("HEAD", "/same")
        assert second.status == first.status
        assert second.body == b""

    def test_10_1_1_100_continue(self, echo):
        echo.send(head(b"Content-Length: 3", b"Expect: 100-continue"))
        assert echo.read_head().status == 100
        echo.send(b"abc")
        assert echo.read_response().json()["length"] == 3

    def test_10_1_1_never_100_to_1_0(self, echo):
        echo.send(b"POST / HTTP/1.0\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\nabc")
        assert echo.read_head().status == 200

    def test_7_8_upgrades_are_ignored(self, echo):
        answer = echo.get("/", Connection="Upgrade, HTTP2-Settings", Upgrade="h2c")
        assert answer.status == 200
