"""Location: redirects to the client, and local ones that the server follows itself."""

from __future__ import annotations

import pytest

from tests.cgi.scripts import HEAD, MOUNT, do, says, write

SAYS = """#!/bin/sh
printf 'Content-Type: text/plain\\n\\n%s %s?%s %s %s [%s]' \\
    "$REQUEST_METHOD" "$SCRIPT_NAME$PATH_INFO" "$QUERY_STRING" \\
    "${CONTENT_LENGTH-none}" "${CONTENT_TYPE-none}" "$(cat)"
"""


def moves(server, target, **how):
    return says(server, rf"Location: {target}\n\n", **how)


@pytest.fixture
def site(scripts, tmp_path):
    """Scripts below /cgi-bin and /own, files below /static."""
    write(tmp_path / "own/says", SAYS)
    write(tmp_path / "static/page.txt", "a page\n", 0o644)
    return scripts("--cgi", f"/own={tmp_path}/own", "--static-map", f"/static={tmp_path}/static")


class TestClient:
    @pytest.mark.parametrize(
        "target",
        [
            "http://example.org/x",
            "https://example.org/",
            "//example.org/x",
            "relative/x",
            "?only=query",
            "/with#fragment",
            "mailto:somebody@example.org",
        ],
    )
    def test_what_is_no_path_of_this_server_is_302(self, server, target):
        answer = moves(server, target)
        assert (answer.status, answer.reason, answer.header("location")) == (302, "Found", target)

    @pytest.mark.parametrize(
        ("output", "status"),
        [
            (r"Status: 301 Moved\nLocation: /cgi-bin/do\n\n", 301),
            (r"Location: /cgi-bin/do\nStatus: 303 See Other\n\n", 303),
            (r"Location: /cgi-bin/do\nContent-Type: text/plain\n\nsee there", 302),
            (r"Location: /cgi-bin/do\nX-A: 1\n\n", 302),
            (r"Location: /cgi-bin/do\nContent-Length: 0\n\n", 302),
            (r"Status: 201 Created\nLocation: /cgi-bin/new\n\n", 201),
        ],
    )
    def test_a_path_with_anything_else_is_for_the_client(self, server, output, status):
        answer = says(server, output)
        assert answer.status == status
        assert answer.header("location").startswith("/cgi-bin/")

    def test_an_empty_location_is_none(self, server):
        assert says(server, r"Location:\n\nbody").status == 200


class TestLocal:
    def test_to_another_script(self, site):
        answer = moves(site, "/own/says/more?b=2")
        assert (answer.status, answer.header("location")) == (200, None)
        assert answer.body == b"GET /own/says/more?b=2 none none []"
        (line,) = site.wait_requests(1)
        assert line.status == 200

    def test_the_query_is_the_new_one(self, site):
        answer = moves(site, "/own/says", path="/cgi-bin/do?a=1")
        assert answer.body == b"GET /own/says? none none []"

    def test_after_a_post_it_is_a_get_without_a_body(self, site):
        with site.http() as client:
            headers = [("Content-Type", "text/x")]
            answer = moves(
                client, "/own/says", method="POST", headers=headers, body=b"the body " * 9000
            )
            assert answer.body == b"GET /own/says? none none []"
            assert says(client, r"X-A: 1\n\nnext").body == b"next"

    def test_a_head_stays_one(self, site):
        with site.http() as client:
            answer = moves(client, "/static/page.txt", method="HEAD")
            assert (answer.status, answer.header("content-length")) == (200, "7")
            assert says(client, r"X-A: 1\n\nnext").body == b"next"

    def test_to_a_file(self, site):
        with site.http() as client:
            answer = moves(client, "/static/page.txt")
            assert (answer.status, answer.body) == (200, b"a page\n")
            assert answer.header("etag")
            assert moves(client, "/static/page.txt", method="POST", body=b"x").body == b"a page\n"

    def test_to_nothing_is_404(self, site):
        with site.http() as client:
            assert moves(client, "/nothing/there").status == 404
            assert moves(client, "/static/nothing").status == 404
            assert moves(client, "/own/says").status == 200

    def test_escapes_are_decoded_once(self, site):
        assert moves(site, "/own/says/a%2520b").body.startswith(b"GET /own/says/a%20b?")

    def test_dots_lead_nowhere_else(self, site):
        answer = moves(site, "/static/../../../../etc/passwd")
        assert answer.status in (400, 403, 404)
        assert b"root:" not in answer.body

    def test_what_follows_the_head_is_not_sent(self, site):
        code = r"printf 'Location: /own/says\n\n'; echo never seen"
        assert do(site, code).body == b"GET /own/says? none none []"

    def test_in_a_circle_is_500(self, site):
        with site.http() as client:
            assert moves(client, "/cgi-bin/do").status == 500
            assert says(client, r"X-A: 1\n\nnext").body == b"next"
        site.wait_for_log("CGI scripts redirect in a circle")

    def test_up_to_ten_are_followed(self, site, tmp_path):
        write(
            tmp_path / "own/count",
            '#!/bin/sh\nn=$((QUERY_STRING - 1)); [ $n -gt 0 ] || n="0&end"\n'
            'case $n in 0*) printf "X-A: 1\\n\\nthere";; '
            '*) printf "Location: /own/count?$n\\n\\n";; esac\n',
        )
        assert site.get("/own/count?11").body == b"there"
        assert site.get("/own/count?12").status == 500

    def test_the_one_left_behind_may_run_on(self, scripts, notes, tmp_path):
        write(tmp_path / "own/says", SAYS)
        server = scripts("--cgi", f"/own={tmp_path}/own", *notes.options)
        code = r"printf 'Location: /own/says\n\n'; exec >&-; sleep 0.2; echo end >>$NOTES"
        assert do(server, code).status == 200
        notes.wait_for("end")


class TestToAnApplication:
    def test_a_local_redirect_reaches_it(self, beside):
        server = beside("echo", *MOUNT)
        with server.http() as client:
            found = moves(client, "/hello%20you?x=1").json()
            assert (found["method"], found["path"], found["query"]) == ("GET", "/hello you", "x=1")
            found = moves(client, "/after", method="POST", body=b"gone").json()
            assert (found["method"], found["length"]) == ("GET", 0)
            assert found["content_length"] in (None, "", "0")
            assert says(client, r"X-A: 1\n\nnext").body == b"next"
        lines = server.wait_requests(3)
        assert [line.app for line in lines] == [0, 0, -1]

    def test_and_many_at_once(self, beside):
        server = beside("echo", "--async", "4", *MOUNT)
        clients = [server.http() for _ in range(8)]
        for number, client in enumerate(clients):
            client.send_request(headers=[("X-Do", HEAD)], target="/cgi-bin/do")
            client.send_request(
                headers=[("X-Do", rf"printf 'Location: /{number}\n\n'")], target="/cgi-bin/do"
            )
        for number, client in enumerate(clients):
            assert client.read_response().body == b""
            assert client.read_response().json()["path"] == f"/{number}"
