"""PEP 3333 (WSGI 1.0.1), section by section."""

from __future__ import annotations

import pytest

from tests.harness.http import Truncated

NOISE = [r"apps/errors/app\.py", "Traceback", r"\w*Error\b", r"(?i)\berror\b"]


@pytest.fixture
def errors(serve, modes):
    return serve("errors", *modes, allow=NOISE)


class TestEnvironVariables:
    """Section "environ Variables"."""

    @pytest.fixture
    def found(self, serve, modes):
        return serve("environ", *modes).get("/path?query").json()

    def test_a_builtin_dictionary(self, found):
        assert found["is a plain dict"]

    @pytest.mark.parametrize(
        "key",
        [
            "REQUEST_METHOD",
            "SCRIPT_NAME",
            "PATH_INFO",
            "QUERY_STRING",
            "SERVER_NAME",
            "SERVER_PORT",
            "SERVER_PROTOCOL",
            "wsgi.url_scheme",
        ],
    )
    def test_required_strings(self, found, key):
        assert isinstance(found[key], str)

    @pytest.mark.parametrize("key", ["REQUEST_METHOD", "SERVER_NAME", "SERVER_PORT"])
    def test_never_empty(self, found, key):
        assert found[key]

    @pytest.mark.parametrize("key", ["wsgi.multithread", "wsgi.multiprocess", "wsgi.run_once"])
    def test_flags(self, found, key):
        assert found[key] is False

    def test_version(self, found):
        assert found["wsgi.version"] == [1, 0]

    def test_streams(self, found):
        assert found["wsgi.input"]
        assert found["wsgi.errors"]

    def test_content_length_is_not_a_header_variable(self, serve):
        found = serve("environ").request("POST", "/", body=b"abc").json()
        assert found["CONTENT_LENGTH"] == "3"
        assert "HTTP_CONTENT_LENGTH" not in found


class TestInputAndErrorStreams:
    """Section "Input and Error Streams"."""

    @pytest.mark.parametrize("method", ["read", "readline", "readlines", "iterate"])
    def test_methods_of_input(self, serve, modes, method):
        server = serve("input_methods", *modes)
        answer = server.request("POST", f"/{method}", body=b"one\ntwo").json()
        assert "".join(answer) == "one\ntwo"

    def test_the_end_is_simulated(self, serve, modes):
        """Reading past Content-Length gives the end, not the next request."""
        client = serve("input_methods", *modes).http()
        client.send(
            b"POST /read HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc"
            b"GET /read HTTP/1.1\r\nHost: a\r\n\r\n"
        )
        assert client.read_response().json() == ["abc"]
        assert client.read_response().json() == [""]

    def test_errors_reach_the_log(self, serve):
        server = serve("validated")
        server.request("POST", "/body", [("Content-Type", "text/plain")], b"x")
        server.wait_for_log("^validated body$")


class TestStartResponse:
    """Section "The start_response() Callable"."""

    def test_status_and_headers(self, serve):
        answer = serve("headers").get("/repeated")
        assert (answer.status, answer.reason) == (200, "OK")
        assert answer.get_all("set-cookie") == ["a=1", "b=2"]

    def test_a_second_call_without_exc_info_is_an_error(self, errors):
        assert errors.get("/twice").status == 500

    def test_exc_info_replaces_what_was_not_sent(self, errors):
        assert errors.get("/info-before").status == 503

    def test_exc_info_is_raised_when_headers_were_sent(self, errors):
        client = errors.http()
        client.send_request(target="/info-after")
        client.read_head()
        assert client.read_chunk() == b"part"
        with pytest.raises((Truncated, ConnectionResetError)):
            client.read_chunk()
        errors.wait_for_log("KeyError: 're-raised by start_response'")

    def test_headers_wait_for_the_first_bytes(self, errors):
        """An error after start_response can still change the status."""
        assert errors.get("/after").status == 500

    @pytest.mark.parametrize(
        "path", ["headers-not-list", "header-not-tuple", "header-bytes", "status-not-text"]
    )
    def test_types_are_exact(self, errors, path):
        assert errors.get("/" + path).status == 500

    @pytest.mark.parametrize(
        "path",
        ["value-line-break", "value-line-feed", "value-null", "name-line-break", "name-with-colon"],
    )
    def test_control_characters_are_refused(self, errors, path):
        answer = errors.get("/" + path)
        assert answer.status == 500
        assert not answer.get_all("x-evil")


class TestContentLength:
    """Section "Handling the Content-Length Header"."""

    def test_a_single_item_gets_a_length(self, serve):
        assert serve("hello").get("/").header("content-length") == "6"

    def test_more_than_the_length_is_not_sent(self, errors):
        assert errors.get("/too-long").body == b"1234"

    def test_less_than_the_length_closes(self, errors):
        client = errors.http()
        client.send_request(target="/too-short")
        client.read_head()
        assert client.read_exactly(4) == b"1234"
        assert client.closed_by_peer()


class TestBufferingAndStreaming:
    """Section "Buffering and Streaming"."""

    @pytest.mark.parametrize("options", [[], ["--async", "2"]], ids=["sync", "async"])
    def test_a_block_is_sent_before_the_next_is_asked_for(self, serve, gate, options):
        server = serve("early", *options, env=gate.env)
        client = server.http()
        client.send_request()
        head = client.read_head()
        assert client.read_chunk() == b"first"
        gate.release()
        assert client.read_body(head).body == b" opened"

    def test_close_is_called(self, serve, modes):
        server = serve("close_tracker", *modes)
        server.get("/whole/it")
        server.wait_for_log("closed it$")

    def test_close_is_called_after_an_error(self, serve, modes):
        server = serve("close_tracker", *modes, allow=NOISE)
        client = server.http()
        client.send_request(target="/failing/it")
        server.wait_for_log("closed it$")


class TestWrite:
    """Section "The write() Callable"."""

    def test_before_the_iterable(self, serve, modes):
        assert serve("write_callable", *modes).get("/2?size=4").body == b"ww0\nww1\nend"

    def test_bytes_only(self, errors):
        assert errors.get("/write-text").status == 500


class TestUnicode:
    """Section "Unicode Issues"."""

    def test_latin_1_in(self, serve):
        assert serve("echo").get("/caf%E9").json()["path"] == "/caf\xe9"

    def test_latin_1_out(self, serve):
        assert serve("headers").get("/latin").header("x-name") == "caf\xe9"

    def test_other_text_is_an_error(self, errors):
        assert errors.get("/header-not-latin").status == 500
        assert errors.get("/text").status == 500


class TestErrorHandling:
    """Section "Error Handling"."""

    def test_a_traceback_is_logged_and_a_page_sent(self, errors):
        assert errors.get("/before").status == 500
        errors.wait_for_log("ValueError: boom before")

    def test_nothing_is_appended_to_a_broken_body(self, errors):
        client = errors.http()
        client.send_request(target="/midstream")
        client.read_head()
        assert client.read_chunk() == b"part"
        with pytest.raises((Truncated, ConnectionResetError)):
            client.read_chunk()


class TestHttp11Expect:
    """Section "HTTP 1.1 Expect/Continue"."""

    def test_100_continue(self, serve, modes):
        client = serve("echo", *modes).http()
        client.send(
            b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nExpect: 100-continue\r\n\r\n"
        )
        assert client.read_head().status == 100
        client.send(b"x")
        assert client.read_response().json()["length"] == 1


class TestFileWrapper:
    """Section "Optional Platform-Specific File Handling"."""

    @pytest.mark.parametrize("how", ["whole", "no-size", "offset", "iterated"])
    def test_files(self, serve, modes, tmp_path, how):
        path = tmp_path / "file"
        path.write_bytes(bytes(range(256)) * 1000)
        start = 1000 if how == "offset" else 0
        body = serve("file_wrapper", *modes).get(f"/{how}?{path}").body
        assert body == path.read_bytes()[start:]

    def test_things_without_descriptor_are_closed(self, serve, modes):
        server = serve("file_wrapper", *modes)
        assert len(server.get("/bytes?").body) == 10_000
        server.wait_for_log("bytes closed$")


@pytest.mark.parametrize("path", ["listed", "generated", "written", "nothing"])
def test_wsgiref_validate_finds_nothing(serve, modes, path):
    server = serve("validated", *modes)
    assert server.get(f"/{path}").status in (200, 204)
