"""Which script a path means: mounts, indexes, helpers, endings, links."""

from __future__ import annotations

import shutil
import sys

import pytest

from tests.cgi.scripts import write
from tests.harness.http import parse_head
from tests.harness.server import run

WHO = """#!/bin/sh
printf 'Content-Type: text/plain\\n\\n%s|%s|%s|%s' @WHO@ "$SCRIPT_NAME" "$PATH_INFO" "$(pwd -P)"
"""


def who(name):
    return WHO.replace("@WHO@", name)


def asked(server, target):
    """Name, SCRIPT_NAME and PATH_INFO as the script says, or the status of a refusal."""
    answer = server.get(target)
    if answer.status != 200:
        return answer.status
    return tuple(answer.body.decode().split("|")[:3])


@pytest.fixture
def tree(tmp_path):
    """Two directories of scripts, and something beside them."""
    top = tmp_path / "site"
    for path in ("a/run", "a/sub/run", "a/sub/index.cgi", "b/run", "b/only.cgi", "out/run"):
        write(top / path, who(path))
    write(top / "a/plain.sh", who("plain").partition("\n")[2], 0o644)
    (top / "a/empty").mkdir()
    return top


class TestPrefixes:
    def test_the_longest_prefix_counts(self, alone, tree):
        server = alone("--cgi", f"/x={tree}/a", "--cgi", f"/x/y={tree}/b")
        assert asked(server, "/x/run") == ("a/run", "/x/run", "")
        assert asked(server, "/x/y/run") == ("b/run", "/x/y/run", "")

    def test_a_prefix_ends_at_a_slash(self, alone, tree):
        server = alone("--cgi", f"/x={tree}/a", "--cgi", f"/x/y={tree}/b")
        assert asked(server, "/xrun") == 404
        assert asked(server, "/x/yrun") == 404
        assert asked(server, "/x/yy/run") == 404
        # There it is the shorter one's.
        assert asked(server, "/x/sub/run") == ("a/sub/run", "/x/sub/run", "")

    def test_what_no_prefix_covers_is_404(self, alone, tree):
        assert asked(alone("--cgi", f"/x={tree}/a"), "/run") == 404

    def test_without_a_prefix_everything_is_for_scripts(self, alone, tree):
        server = alone("--cgi", f"{tree}/a", "--cgi", f"/b={tree}/b")
        assert asked(server, "/run/more") == ("a/run", "/run", "/more")
        assert asked(server, "/b/run") == ("b/run", "/b/run", "")

    def test_a_relative_directory_counts_from_where_the_server_was_started(self, alone, tree):
        server = alone("--cgi", "/x=a", cwd=tree)
        assert asked(server, "/x/run") == ("a/run", "/x/run", "")

    def test_two_of_one_prefix_are_refused_at_the_start(self, tree):
        found = run("--http-socket", "127.0.0.1:0", "--cgi", f"/x={tree}/a", "--cgi", "/x=/tmp")
        assert found.returncode != 0
        assert "there are scripts below /x already" in found.stderr + found.stdout

    def test_a_directory_that_is_not_there_is_404(self, alone, tree):
        assert asked(alone("--cgi", f"/x={tree}/nothing"), "/x/run") == 404


class TestPath:
    def test_the_rest_of_the_path_is_path_info(self, alone, tree):
        server = alone("--cgi", f"/x={tree}/a")
        assert asked(server, "/x/run/more/and%20more/") == ("a/run", "/x/run", "/more/and more/")
        assert asked(server, "/x/run/") == ("a/run", "/x/run", "/")

    def test_a_script_runs_in_its_own_directory(self, alone, tree):
        server = alone("--cgi", f"/x={tree}/a")
        assert server.get("/x/sub/run").body.decode().split("|")[3] == str(tree / "a/sub")

    def test_escaped_letters_name_the_script(self, alone, tree):
        assert asked(alone("--cgi", f"/x={tree}/a"), "/x/r%75n") == ("a/run", "/x/run", "")

    @pytest.mark.parametrize(
        "path",
        [
            "/x/../out/run",
            "/x/%2e%2e/out/run",
            "/x/sub/../../out/run",
            "/x/..%2fout/run",
            "/x/run%00",
            "/x/missing",
            "/x/sub/missing/run",
            "/x/empty/",
        ],
    )
    def test_paths_that_name_no_script_are_404(self, alone, tree, path):
        server = alone("--cgi", f"/x={tree}/a")
        with server.http() as client:
            client.send(f"GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            assert client.read_response().status in (400, 404)
        (line,) = server.wait_requests(1)
        assert line.app == -1

    @pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "MKCOL"])
    def test_every_method_runs_it(self, alone, tree, method):
        write(tree / "a/method", "#!/bin/sh\nprintf 'X-Was: %s\\n\\n' $REQUEST_METHOD\n")
        answer = alone("--cgi", f"/x={tree}/a").request(method, "/x/method")
        assert (answer.status, answer.header("x-was")) == (200, method)


class TestOneScript:
    def test_it_has_everything_below_its_prefix(self, alone, tree):
        server = alone("--cgi", f"/one={tree}/a/run")
        assert asked(server, "/one") == ("a/run", "/one", "")
        assert asked(server, "/one/more/..well") == ("a/run", "/one", "/more/..well")
        assert asked(server, "/onemore") == 404

    def test_without_a_prefix_it_is_the_site(self, alone, tree):
        server = alone("--cgi", f"{tree}/a/run")
        assert asked(server, "/any/path") == ("a/run", "", "/any/path")
        assert asked(server, "/") == ("a/run", "", "/")

    def test_helpers_and_endings_are_not_for_it(self, alone, tree):
        server = alone(
            *("--cgi", f"/one={tree}/b/only.cgi"),
            *("--cgi-helper", ".cgi=/bin/false", "--cgi-allowed-ext", ".pl"),
        )
        assert asked(server, "/one/x") == ("b/only.cgi", "/one", "/x")


class TestDirectories:
    def test_an_index_answers_for_its_directory(self, alone, tree):
        server = alone(
            "--cgi", f"/x={tree}/a", "--cgi-index", "none.cgi", "--cgi-index", "index.cgi"
        )
        name, script_name, path_info = asked(server, "/x/sub/")
        assert (name, path_info) == ("a/sub/index.cgi", "")
        assert script_name.startswith("/x/sub/")
        assert asked(server, "/x/") == 404

    def test_without_an_index_it_is_404(self, alone, tree):
        assert asked(alone("--cgi", f"/x={tree}/a"), "/x/sub/") == 404

    def test_a_directory_without_its_slash_is_redirected(self, alone, tree):
        server = alone("--cgi", f"/x={tree}/a", "--cgi-index", "index.cgi")
        with server.http() as client:
            answer = client.get("/x/sub?a=b%20c")
            assert (answer.status, answer.header("location")) == (301, "/x/sub/?a=b%20c")
            assert client.get("/x/sub/").status == 200
            head = client.request("HEAD", "/x/sub")
            assert (head.status, head.header("location")) == (301, "/x/sub/")
            assert client.get("/x").header("location") == "/x/"

    def test_a_redirect_of_a_directory_stays_on_this_host(self, alone, tree):
        (tree / "a/example.org").mkdir()
        server = alone("--cgi", f"{tree}/a")
        with server.http() as client:
            client.send(b"GET //example.org HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            answer = parse_head(client.read_until(b"\r\n\r\n")[:-4])
        location = answer.header("location") or ""
        assert answer.status == 404 or (location.startswith("/") and location[1:2] != "/")


class TestHelpers:
    def test_a_helper_runs_what_is_not_executable(self, alone, tree):
        server = alone("--cgi", f"/x={tree}/a", "--cgi-helper", ".sh=/bin/sh")
        assert asked(server, "/x/plain.sh/more") == ("plain", "/x/plain.sh", "/more")

    def test_its_name_is_looked_up_in_path(self, alone, tree, tmp_path):
        write(
            tmp_path / "bin/our-helper",
            '#!/bin/sh\nprintf "X-Helper: yes\\n\\n%s %s" "$#" "$1"\n',
        )
        write(tmp_path / "early/our-helper", "not executable", 0o644)
        path = f"{tmp_path}/early:{tmp_path}/bin:/usr/bin:/bin"
        server = alone(
            "--cgi", f"/x={tree}/a", "--cgi-helper", ".sh=our-helper", env={"PATH": path}
        )
        answer = server.get("/x/plain.sh")
        assert answer.header("x-helper") == "yes"
        assert answer.body.decode() == f"1 {tree}/a/plain.sh"

    @pytest.mark.parametrize("helper", ["no-such-program", "/no/such/program"])
    def test_one_that_is_not_there_is_500_and_named(self, alone, tree, helper):
        options = ("--cgi", f"/x={tree}/a", "--cgi-helper", f".sh={helper}")
        server = alone(*options, allow=["cannot start /no/such/program"])
        assert server.get("/x/plain.sh").status == 500
        server.wait_for_log(helper)

    def test_the_first_that_fits_counts(self, alone, tree):
        server = alone(
            *("--cgi", f"/x={tree}/a"),
            *("--cgi-helper", ".sh=/bin/sh", "--cgi-helper", "plain.sh=/bin/false"),
        )
        assert asked(server, "/x/plain.sh")[0] == "plain"

    def test_an_interpreter_never_gets_words_of_the_query(self, alone, tree, tmp_path):
        write(tmp_path / "helper", '#!/bin/sh\nprintf "X: y\\n\\n"; printf "<%s>" "$@"\n')
        server = alone("--cgi", f"/x={tree}/a", "--cgi-helper", f".sh={tmp_path}/helper")
        answer = server.get("/x/plain.sh?-s+--version")
        assert answer.body.decode() == f"<{tree}/a/plain.sh>"

    def test_uwsgi_calls_it_map_helper(self, alone, tree):
        server = alone("--cgi", f"/x={tree}/a", "--cgi-map-helper", ".sh=sh")
        assert asked(server, "/x/plain.sh")[0] == "plain"

    @pytest.mark.skipif(not shutil.which(sys.executable), reason="no python to run")
    def test_python_as_a_helper(self, alone, tree):
        write(tree / "a/page.py", "import os\nprint('X-Is: python\\n')\n", 0o644)
        server = alone("--cgi", f"/x={tree}/a", "--cgi-helper", f".py={sys.executable}")
        assert server.get("/x/page.py").header("x-is") == "python"


class TestAllowedEndings:
    def test_others_are_403(self, alone, tree):
        write(tree / "a/good.cgi", who("good"))
        server = alone("--cgi", f"/x={tree}/a", "--cgi-allowed-ext", ".cgi")
        assert asked(server, "/x/good.cgi/run") == ("good", "/x/good.cgi", "/run")
        assert asked(server, "/x/run") == 403
        assert asked(server, "/x/run/x.cgi") == 403

    def test_an_index_needs_one_too(self, alone, tree):
        write(tree / "a/sub/index.sh", who("index.sh"))
        server = alone(
            *("--cgi", f"/x={tree}/a", "--cgi-allowed-ext", ".cgi"),
            *("--cgi-index", "index.sh", "--cgi-index", "index.cgi"),
        )
        assert asked(server, "/x/sub/")[0] == "a/sub/index.cgi"


class TestLinks:
    def test_a_link_within_the_directory_is_followed(self, alone, tree):
        (tree / "a/link").symlink_to("sub/run")
        assert asked(alone("--cgi", f"/x={tree}/a"), "/x/link")[0] == "a/sub/run"

    def test_a_link_that_leads_out_is_403_and_logged(self, alone, tree):
        (tree / "a/link").symlink_to("../out/run")
        (tree / "a/way").symlink_to(tree / "out")
        server = alone("--cgi", f"/x={tree}/a", allow=["CGI security error"])
        assert asked(server, "/x/link") == 403
        assert asked(server, "/x/way/run") == 403
        server.wait_for_log(f"CGI security error: {tree}/out/run is not under {tree}/a")

    def test_a_safe_directory_may_be_led_to(self, alone, tree):
        (tree / "a/link").symlink_to("../out/run")
        server = alone("--cgi", f"/x={tree}/a", "--cgi-safe", f"{tree}/out")
        assert asked(server, "/x/link")[0] == "out/run"

    def test_a_safe_directory_ends_at_a_slash(self, alone, tree):
        write(tree / "out-old/run", who("old"))
        write(tree / "a-old/run", who("old"))
        (tree / "a/link").symlink_to("../out-old/run")
        (tree / "a/twin").symlink_to("../a-old/run")
        server = alone(
            *("--cgi", f"/x={tree}/a", "--cgi-safe", f"{tree}/out"), allow=["CGI security error"]
        )
        assert asked(server, "/x/link") == 403
        assert asked(server, "/x/twin") == 403

    def test_an_index_that_leads_into_a_safe_directory(self, alone, tree):
        (tree / "a/sub/there.cgi").symlink_to("../../out/run")
        options = ("--cgi", f"/x={tree}/a", "--cgi-index", "there.cgi")
        assert asked(alone(*options), "/x/sub/") in (403, 404)
        server = alone(*options, "--cgi-safe", f"{tree}/out")
        assert asked(server, "/x/sub/there.cgi")[0] == "out/run"
        assert asked(server, "/x/sub/")[0] == "out/run"

    def test_the_directory_itself_may_be_a_link(self, alone, tree):
        (tree / "current").symlink_to("a")
        assert asked(alone("--cgi", f"/x={tree}/current"), "/x/run") == ("a/run", "/x/run", "")

    def test_a_link_to_nothing_and_in_a_circle(self, alone, tree):
        (tree / "a/nothing").symlink_to("gone")
        (tree / "a/circle").symlink_to("circle")
        server = alone("--cgi", f"/x={tree}/a", allow=["Too many levels of symbolic links"])
        assert asked(server, "/x/nothing") == 404
        assert asked(server, "/x/circle") in (404, 500)


def test_a_script_is_found_anew_each_time(alone, tree):
    server = alone("--cgi", f"/x={tree}/a")
    assert asked(server, "/x/late") == 404
    write(tree / "a/late", who("first"))
    assert asked(server, "/x/late")[0] == "first"
    write(tree / "a/late", who("second"))
    assert asked(server, "/x/late")[0] == "second"
    (tree / "a/late").unlink()
    assert asked(server, "/x/late") == 404
