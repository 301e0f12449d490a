"""Files that an application hands over in a field: `X-Sendfile` and `X-Accel-Redirect`."""

from __future__ import annotations

from email.utils import formatdate
from urllib.parse import quote

import pytest

from tests.contract.files.support import (
    FAR,
    LARGE_SIZE,
    LEADS_OUT,
    NOT_THERE,
    SMALL,
    Files,
    target,
    warmed,
)


# The worker's own: one engine that suspends stands for all, beside the one that does not.
@pytest.mark.engines("none", "ugreen")
class TestHandedOver:
    @pytest.mark.parametrize("how", ["handed", "accel"])
    @pytest.mark.parametrize("body", ["list", "none", "write", "sendfile", "endless"])
    def test_in_place_of_the_body(self, server, files, how, body):
        """And the field goes no further; nobody asks for more of an iterable that nobody gets."""
        client = server.http()
        answer = client.get(target(how, files.small, body=body, length=3))
        assert (answer.status, answer.body) == (200, SMALL)
        assert answer.header("content-length") == str(len(SMALL))
        assert answer.header("x-sendfile") is None
        assert answer.header("x-accel-redirect") is None
        assert client.get("/hello").body == b"hello\n"
        line, _ = server.wait_requests(2)
        assert (line.via, line.body_bytes, line.app) == ("sendfile", len(SMALL), 0)
        server.expect_log("^it body closed$")

    def test_beside_a_wrapper(self, server, files):
        answer = server.get(target("handed", files.text_txt.with_name("text.txt"), body="wrapper"))
        assert answer.body == SMALL
        server.expect_log("^it file closed$")

    def test_fields(self, server, files):
        """Of the application: kept, but for those of its body. Ours: what is missing."""
        given = [
            "Content-Type: text/x-own; charset=utf-8",
            "Set-Cookie: a=1",
            "Set-Cookie: b=2; Path=/",
            'Content-Disposition: attachment; filename="a b.txt"',
            "Cache-Control: private, max-age=5",
            "X-Own: kept",
            "Transfer-Encoding: chunked",
        ]
        answer = server.get(target("handed", files.small, fields=given, length=17))
        assert answer.body == SMALL
        assert answer.header("content-type") == "text/x-own; charset=utf-8"
        assert answer.get_all("set-cookie") == ["a=1", "b=2; Path=/"]
        assert answer.header("content-disposition") == 'attachment; filename="a b.txt"'
        assert answer.header("cache-control") == "private, max-age=5"
        assert answer.header("x-own") == "kept"
        assert answer.header("last-modified") == formatdate(1_700_000_000, usegmt=True)
        assert answer.header("etag").startswith('"')
        assert answer.header("accept-ranges") == "bytes"
        assert answer.header("date") is not None
        assert answer.header("transfer-encoding") is None

    def test_fields_that_the_application_says_itself(self, server, files):
        given = [
            'ETag: "own"',
            "Last-Modified: Mon, 01 Jan 2024 00:00:00 GMT",
            "Accept-Ranges: bytes",
            "Date: Tue, 02 Jan 2024 00:00:00 GMT",
        ]
        answer = server.get(target("handed", files.small, fields=given))
        # `header` fails for a field that is there twice.
        assert answer.header("etag") == '"own"'
        assert answer.header("last-modified") == "Mon, 01 Jan 2024 00:00:00 GMT"
        assert answer.header("accept-ranges") == "bytes"
        assert answer.header("date") == "Tue, 02 Jan 2024 00:00:00 GMT"

    @pytest.mark.parametrize("name", ["small", ".hidden", "name with é", "within", "folder/small"])
    def test_names(self, server, files, name):
        assert server.get(target("handed", files.root / name)).body == SMALL
        at = target("handed", f"/internal/{name}", field="X-Accel-Redirect")
        assert server.get(at).body == SMALL

    def test_a_name_with_escapes(self, server, files):
        """X-Accel-Redirect is a URI, as in nginx; X-Sendfile is a path."""
        name = quote("/internal/name with é")
        answer = server.get(target("handed", name, field="X-Accel-Redirect"))
        assert (answer.status, answer.body) == (200, SMALL)
        assert server.get(target("handed", f"{files.root}/100%25")).body == b"a percent sign"

    def test_the_name_of_the_field_in_any_case(self, server, files):
        for field in ("x-sendfile", "X-SENDFILE", "X-SendFile"):
            assert server.get(target("handed", files.small, field=field)).body == SMALL

    def test_an_empty_file(self, server, files):
        client = server.http()
        answer = client.get(target("handed", files.empty))
        assert (answer.status, answer.body, answer.header("content-length")) == (200, b"", "0")
        assert client.get("/hello").body == b"hello\n"

    def test_head(self, server, files):
        client = server.http()
        answer = client.request("HEAD", target("handed", files.large))
        assert answer.header("content-length") == str(LARGE_SIZE)
        assert answer.header("accept-ranges") == "bytes"
        answer = client.request("HEAD", target("handed", files.sparse))
        assert answer.header("content-length") == str(5 << 30)

    def test_a_post(self, server, files):
        client = server.http()
        assert client.request("POST", target("handed", files.small), body=b"x" * 1000).body == SMALL
        assert client.get("/hello").body == b"hello\n"

    @pytest.mark.parametrize(
        ("wanted", "expected"),
        [
            ("bytes=0-0", SMALL[:1]),
            ("bytes=100-199", SMALL[100:200]),
            ("bytes=4990-", SMALL[4990:]),
            ("bytes=-10", SMALL[-10:]),
            ("bytes=4000-999999", SMALL[4000:]),
        ],
    )
    def test_a_range(self, server, files, wanted, expected):
        client = server.http()
        answer = client.get(target("handed", files.small), Range=wanted)
        assert (answer.status, answer.body) == (206, expected)
        begins = SMALL.index(expected) if len(expected) > 8 else 0
        field = f"bytes {begins}-{begins + len(expected) - 1}/{len(SMALL)}"
        assert answer.header("content-range") == field
        assert client.get("/hello").body == b"hello\n"
        line, _ = server.wait_requests(2)
        assert (line.status, line.body_bytes, line.via) == (206, len(expected), "sendfile")

    def test_a_range_beyond_four_gibibytes(self, server, files):
        answer = server.get(target("handed", files.sparse), Range=f"bytes={FAR}-{FAR + 7}")
        assert (answer.status, answer.body) == (206, b"far away")

    def test_no_such_range(self, server, files):
        client = server.http()
        answer = client.get(target("handed", files.small), Range="bytes=5000-")
        assert (answer.status, answer.body) == (416, b"")
        assert answer.header("content-range") == "bytes */5000"
        assert client.get("/hello").body == b"hello\n"

    @pytest.mark.parametrize("own_type", ["", "text/x-own"])
    def test_several_ranges(self, server, files, own_type):
        given = [f"Content-Type: {own_type}"] if own_type else []
        at = target("handed", files.root / "text.txt", fields=given)
        answer = server.get(at, Range="bytes=0-9,4990-")
        assert answer.status == 206
        kind = answer.header("content-type")
        assert kind.startswith("multipart/byteranges; boundary=")
        parts = answer.body.split(b"--" + kind.partition("=")[2].encode())
        assert parts[1].endswith(b"\r\n\r\n" + SMALL[:10] + b"\r\n")
        assert parts[2].endswith(b"\r\n\r\n" + SMALL[4990:] + b"\r\n")
        if own_type:
            assert b"content-type: text/x-own\r\n" in parts[1].lower()

    @pytest.mark.parametrize("tag", ["ours", "own"])
    def test_conditions(self, server, files, tag):
        """They are about what the response says of itself, whoever has said it."""
        given = ['ETag: "own"'] if tag == "own" else []
        at = target("handed", files.small, fields=given)
        client = server.http()
        found = client.get(at).header("etag")
        answer = client.get(at, If_None_Match=found)
        assert (answer.status, answer.body, answer.header("etag")) == (304, b"", found)
        assert client.get(at, If_None_Match='"other"').body == SMALL
        assert client.get(at, If_Match=found).status == 200
        assert client.get(at, If_Match='"other"').status == 412
        answer = client.get(at, Range="bytes=0-9", If_Range=found)
        assert (answer.status, answer.body) == (206, SMALL[:10])
        answer = client.get(at, Range="bytes=0-9", If_Range='"other"')
        assert (answer.status, answer.body) == (200, SMALL)
        assert client.get("/hello").body == b"hello\n"

    @pytest.mark.parametrize("date", ["ours", "own"])
    def test_conditions_of_time(self, server, files, date):
        given = ["Last-Modified: Mon, 01 Jan 2024 00:00:00 GMT"] if date == "own" else []
        at = target("handed", files.small, fields=given)
        client = server.http()
        found = client.get(at).header("last-modified")
        assert client.get(at, If_Modified_Since=found).status == 304
        assert client.get(at, If_Unmodified_Since=found).status == 200
        assert client.get(at, Range="bytes=0-9", If_Range=found).status == 206
        assert client.get(at, If_Modified_Since="Wed, 01 Nov 2023 00:00:00 GMT").status == 200

    @pytest.mark.parametrize("status", ["404 Not Found", "403 No", "500 Broken", "201 Made"])
    def test_another_status(self, server, files, status):
        """The file is the page of an error: whole, whatever the client has of it."""
        client = server.http()
        pairs = [("Range", "bytes=0-9"), ("If-None-Match", "*")]
        answer = client.request("GET", target("handed", files.small, status=status), pairs)
        assert (f"{answer.status} {answer.reason}", answer.body) == (status, SMALL)
        assert answer.header("content-range") is None
        assert client.get("/hello").body == b"hello\n"
        assert server.wait_requests(2)[0].status == int(status[:3])

    def test_a_range_that_the_application_has_answered(self, server, files):
        """As Werkzeug does: 206, Content-Range, Content-Length, and the file is left to us."""
        fields = ["Content-Range: bytes 100-199/5000", "Accept-Ranges: bytes"]
        at = target("handed", files.small, fields=fields, length=100, status="206 Partial Content")
        client = server.http()
        answer = client.get(at, Range="bytes=100-199")
        assert (answer.status, answer.body) == (206, SMALL[100:200])
        assert answer.header("content-range") == "bytes 100-199/5000"
        assert answer.header("content-length") == "100"

    def test_the_reason_of_the_application(self, server, files):
        answer = server.get(target("handed", files.small, status="200 As You Like"))
        assert (answer.reason, answer.body) == ("As You Like", SMALL)

    def test_the_connection_ends_if_the_application_says_so(self, server, files):
        client = server.http()
        answer = client.get(target("handed", files.small, fields=["Connection: close"]))
        assert (answer.body, answer.header("connection")) == (SMALL, "close")
        assert client.closed_by_peer()

    @pytest.mark.parametrize(
        ("field", "path"),
        [
            ("X-Sendfile", "{outside}/secret"),
            ("X-Sendfile", "{root}/../root-of-others/secret"),
            ("X-Sendfile", "{root}-of-others/secret"),
            ("X-Sendfile", "{root}/folder/../small"),
            ("X-Sendfile", "{root}/./small"),
            ("X-Sendfile", "{root}/out"),
            ("X-Sendfile", "{root}/out-folder/secret"),
            ("X-Sendfile", "{root}/round"),
            ("X-Sendfile", "{root}/missing"),
            ("X-Sendfile", "{root}/small/"),
            ("X-Sendfile", "{root}/small/below"),
            ("X-Sendfile", "{root}/folder"),
            ("X-Sendfile", "{root}/fifo"),
            ("X-Sendfile", "{root}"),
            ("X-Sendfile", "{root}/"),
            ("X-Sendfile", "small"),
            ("X-Sendfile", "/etc/passwd"),
            ("X-Sendfile", "/internal/small"),
            ("X-Sendfile", ""),
            ("X-Accel-Redirect", "{root}/small"),
            ("X-Accel-Redirect", "/internal/../root-of-others/secret"),
            ("X-Accel-Redirect", "/internal/out"),
            ("X-Accel-Redirect", "/internal/fifo"),
            ("X-Accel-Redirect", "/internal/missing"),
            ("X-Accel-Redirect", "/internalsmall"),
            ("X-Accel-Redirect", "/internal"),
            ("X-Accel-Redirect", "internal/small"),
            ("X-Accel-Redirect", ""),
        ],
    )
    def test_what_may_not_be_handed_over(self, start, files, field, path):
        """404, a line that says so, and nothing of the application."""
        server = start(2, allow=[LEADS_OUT])
        at = target(
            "handed",
            path.format(root=files.root, outside=files.outside),
            field=field,
            fields=["Set-Cookie: session=1", "Cache-Control: max-age=1000"],
        )
        client = server.http()
        answer = client.get(at)
        assert answer.status == 404
        assert b"secret" not in answer.body
        assert answer.header("set-cookie") is None
        assert answer.header("cache-control") is None
        assert client.get("/hello").body == b"hello\n"
        server.expect_log(NOT_THERE)
        line, _ = server.wait_requests(2)
        assert (line.status, line.via, line.cancelled) == (404, None, None)

    def test_a_link_that_leads_out_is_named(self, start, files):
        server = start(2, allow=[LEADS_OUT])
        server.get(target("handed", files.out))
        server.wait_for_log(LEADS_OUT)

    @pytest.mark.parametrize(
        ("options", "field"),
        [
            ((), "X-Sendfile"),
            ((), "X-Accel-Redirect"),
            (("--x-accel-redirect", "/internal={root}"), "X-Sendfile"),
            (("--x-sendfile", "{root}"), "X-Accel-Redirect"),
            (("--static-map", "/static={root}"), "X-Sendfile"),
        ],
    )
    def test_without_the_option_it_is_a_field_like_others(
        self, serve_engine, files, options, field
    ):
        """For the server in front, perhaps."""
        given = [option.format(root=files.root) for option in options]
        server = serve_engine("contract_files", *given, cores=2)
        for path in (files.small, "/internal/small", files.outside / "secret"):
            answer = server.get(target("handed", path, field=field))
            assert answer.header(field) == str(path)
            assert answer.body == b"a body that nobody gets"
        assert [line.via for line in server.wait_requests(3)] == [None] * 3

    def test_several_roots(self, serve_engine, files):
        server = serve_engine(
            "contract_files",
            *("--x-sendfile", f"{files.root}/folder/", "--x-sendfile", f"{files.outside}"),
            *("--x-accel-redirect", f"/one={files.root}/folder"),
            *("--x-accel-redirect", f"/one/two/={files.outside}/"),
            cores=2,
        )
        warmed(server, Files(files.root / "folder", files.outside, "", ""), "small")
        assert server.get(target("handed", files.root / "folder/small")).body == SMALL
        assert server.get(target("handed", files.outside / "secret")).body == b"secret\n"
        assert server.get(target("handed", files.small)).status == 404
        for path, body in (("/one/small", SMALL), ("/one/two/secret", b"secret\n")):
            answer = server.get(target("handed", path, field="X-Accel-Redirect"))
            assert answer.body == body

    def test_clients_cannot_ask_for_what_is_internal(self, server, failing, files):
        answer = failing.get("/internal/handed")
        assert SMALL not in answer.body

    @pytest.mark.parametrize("body", ["raise-before", "late"])
    def test_an_exception_before_it_is_sent(self, failing, files, body):
        """Nothing has left yet: an error like every other, without the fields of the file."""
        client = failing.http()
        given = ["Set-Cookie: session=1"]
        answer = client.get(target("handed", files.small, body=body, fields=given))
        assert (answer.status, answer.header("set-cookie")) == (500, None)
        assert client.get("/hello").body == b"hello\n"
        failing.expect_log("^RuntimeError: ")
        assert failing.wait_requests(2)[0].via is None

    def test_replaced_by_an_error(self, server, files):
        answer = server.get(target("replaced", files.small))
        assert (answer.status, answer.body) == (503, b"later\n")

    @pytest.mark.parametrize("how", ["handed", "accel"])
    def test_a_client_that_leaves_while_the_application_runs(self, server, files, how):
        for _ in range(10):
            client = server.http()
            client.send_request(target=target(how, files.large))
            client.reset()
        assert server.get(target(how, files.small)).body == SMALL
