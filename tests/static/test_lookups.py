"""Which file a path means, option by option; the rest is not there, or the application's."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.harness import procs
from tests.harness.uwsgi import packet, variables
from tests.harness.waiting import until
from tests.static.trees import plant, put

SECURITY = r"\[fileserve\] security error: \S+ is not under \S+ or a safe path \(--static-safe\)"


@pytest.fixture
def folder(tmp_path) -> Path:
    return plant(
        tmp_path / "root",
        "empty",
        **{
            "a.txt": "alpha",
            "media/a.txt": "media",
            "sub/b.txt": "below",
            "sub/index.html": "index of sub",
            "index.html": "front",
        },
    )


def found(server, *targets):
    """What each target means: the file's content, or the status."""
    with server.http() as client:
        answers = [client.get(target) for target in targets]
    return [a.body.decode() if a.status == 200 else a.status for a in answers]


class TestMaps:
    def test_a_directory(self, fresh_native, folder):
        server = fresh_native("--static-map", f"/s={folder}")
        assert found(server, "/s/a.txt", "/s/sub/b.txt", "/s/none", "/a.txt") == [
            "alpha",
            "below",
            404,
            404,
        ]

    def test_a_prefix_ends_at_a_slash(self, fresh_native, folder):
        server = fresh_native("--static-map", f"/media={folder}", "--static-map2", f"/sub={folder}")
        assert found(server, "/media/a.txt", "/sub/b.txt") == ["alpha", "below"]
        for target in ("/mediaX/a.txt", "/media.txt", "/medi/a.txt", "/subX/b.txt", "/su"):
            assert found(server, target) == [404], target

    def test_a_slash_behind_a_prefix_says_nothing(self, fresh_native, folder):
        server = fresh_native("--static-map", f"/s/={folder}/")
        assert found(server, "/s/a.txt", "/sa.txt") == ["alpha", 404]

    def test_the_empty_prefix(self, fresh_native, folder):
        server = fresh_native("--static-map", f"/={folder}")
        assert found(server, "/a.txt", "/sub/b.txt", "/none") == ["alpha", "below", 404]

    def test_one_file(self, fresh_native, folder):
        server = fresh_native("--static-map", f"/favicon.ico={folder}/a.txt")
        assert found(
            server, "/favicon.ico", "/favicon.ico/", "/favicon.ico/a", "/favicon.icon"
        ) == [
            "alpha",
            404,
            404,
            404,
        ]

    def test_one_file_that_is_a_link(self, fresh_native, folder):
        """Whoever names it means what it leads to, as with a directory that is a link."""
        (folder / "current.txt").symlink_to("sub/b.txt")
        (folder / "elsewhere.txt").symlink_to("../elsewhere.txt")
        put(folder.parent / "elsewhere.txt", "elsewhere")
        server = fresh_native(
            "--static-map", f"/1={folder}/current.txt", "--static-map", f"/2={folder}/elsewhere.txt"
        )
        assert found(server, "/1", "/2") == ["below", "elsewhere"]

    def test_map2_keeps_the_prefix(self, fresh_native, folder):
        server = fresh_native("--static-map2", f"/media={folder}")
        assert found(server, "/media/a.txt", "/media/media/a.txt", "/a.txt") == ["media", 404, 404]

    def test_maps_of_one_prefix_in_their_order(self, fresh_native, tmp_path):
        first = plant(tmp_path / "first", **{"a": "first a", "b": "first b"})
        second = plant(tmp_path / "second", **{"a": "second a", "c": "second c"})
        third = plant(tmp_path / "third", **{"c": "third c", "d": "third d"})
        maps = [f"--static-map=/s={path}" for path in (first, second, third)]
        server = fresh_native(*maps)
        assert found(server, "/s/a", "/s/b", "/s/c", "/s/d", "/s/e") == [
            "first a",
            "first b",
            "second c",
            "third d",
            404,
        ]

    def test_a_longer_prefix_counts_no_more_than_an_earlier_one(self, fresh_native, tmp_path):
        outer = plant(tmp_path / "outer", **{"in/a": "outer", "in/b": "outer b"})
        inner = plant(tmp_path / "inner", **{"a": "inner", "c": "inner c"})
        server = fresh_native("--static-map", f"/s={outer}", "--static-map", f"/s/in={inner}")
        assert found(server, "/s/in/a", "/s/in/b", "/s/in/c") == ["outer", "outer b", "inner c"]

    def test_a_target_that_comes_later(self, fresh_native, tmp_path):
        late = tmp_path / "late"
        server = fresh_native("--static-map", f"/s={late}")
        server.wait_for_log(r'"static-map": there is no \S+/late yet; until there is')
        assert found(server, "/s/a") == [404]
        put(late / "a", "now")
        assert found(server, "/s/a") == ["now"]

    def test_double_slashes_count_as_one(self, fresh_native, folder):
        server = fresh_native("--static-map", f"/s={folder}")
        assert found(server, "/s//a.txt", "/s/sub///b.txt") == ["alpha", "below"]

    def test_names_are_decoded_once(self, fresh_native, folder):
        put(folder / "a b+ä%41.txt", "special")
        server = fresh_native("--static-map", f"/s={folder}")
        assert found(server, "/s/a%20b+%C3%A4%2541.txt", "/%73/a%2etxt", "/s/a%2520b") == [
            "special",
            "alpha",
            404,
        ]

    def test_queries_are_no_part_of_a_name(self, fresh_native, folder):
        put(folder / "q?x=1", "question mark")
        server = fresh_native("--static-map", f"/s={folder}")
        assert found(server, "/s/a.txt?x=1", "/s/q?x=1", "/s/q%3Fx=1") == [
            "alpha",
            404,
            "question mark",
        ]


class TestOrder:
    def test_check_static_then_maps_then_map2(self, fresh_native, tmp_path):
        checked = plant(tmp_path / "checked", **{"s/1": "check"})
        mapped = plant(tmp_path / "mapped", **{"1": "map", "2": "map"})
        map2 = plant(tmp_path / "map2", **{"s/1": "map2", "s/2": "map2", "s/3": "map2"})
        server = fresh_native(
            "--static-map2",
            f"/s={map2}",
            "--static-map",
            f"/s={mapped}",
            "--check-static",
            str(checked),
        )  # fmt: skip  (the other way round: the order of kinds is fixed)
        assert found(server, "/s/1", "/s/2", "/s/3", "/s/4") == ["check", "map", "map2", 404]

    def test_check_static_several(self, fresh_native, tmp_path):
        one = plant(tmp_path / "one", **{"a": "one a"})
        two = plant(tmp_path / "two", **{"a": "two a", "b": "two b"})
        server = fresh_native("--check-static", str(one), "--static-check", str(two))
        assert found(server, "/a", "/b", "/c") == ["one a", "two b", 404]

    def test_a_directory_without_index_is_no_end_of_the_search(self, fresh_native, tmp_path):
        one = plant(tmp_path / "one", "x")
        two = plant(tmp_path / "two", **{"x": "a file", "y/index.html": "y"})
        server = fresh_native(
            "--check-static", str(one), "--check-static", str(two), "--static-index", "index.html"
        )
        assert found(server, "/x", "/y") == ["a file", "y"]


class TestDocroot:
    def ask(self, server, path, root, method="GET"):
        with server.packets() as client:
            given = [(k, v) for k, v in variables(method, path) if k != "DOCUMENT_ROOT"]
            client.send(packet([*given, ("DOCUMENT_ROOT", str(root))]))
            return client.read_answer()

    def test_of_the_packet(self, fresh_native, folder, tmp_path):
        other = plant(tmp_path / "other", **{"a.txt": "other", "c.txt": "gamma"})
        checked = plant(tmp_path / "checked", **{"c.txt": "checked"})
        server = fresh_native(
            "--check-static-docroot", "--check-static", str(checked), uwsgi="127.0.0.1:0"
        )
        server.more_directories = 2
        assert self.ask(server, "/a.txt", folder).body == b"alpha"
        assert self.ask(server, "/a.txt", other).body == b"other"
        assert self.ask(server, "/c.txt", other).body == b"checked"
        assert self.ask(server, "/none", folder).status == 404
        assert self.ask(server, "/none", tmp_path / "nowhere").status == 404
        # HTTP says nothing of a document root.
        assert server.get("/a.txt").status == 404

    @pytest.mark.parametrize("root", ["", "root", "../root", "."])
    def test_that_is_not_absolute(self, fresh_native, folder, root):
        server = fresh_native("--check-static-docroot", uwsgi="127.0.0.1:0", cwd=folder.parent)
        assert self.ask(server, "/a.txt", root).status == 404

    def test_what_clients_name_does_not_stay_open(self, fresh_native, tmp_path):
        """A host of many sites would have a descriptor for each of them, for ever."""
        server = fresh_native("--check-static-docroot", uwsgi="127.0.0.1:0")
        roots = [plant(tmp_path / f"site{n}", **{"a": f"of {n}"}) for n in range(60)]
        for number, root in enumerate(roots):
            assert self.ask(server, "/a", root).body == f"of {number}".encode()

        def few_are_open():
            assert self.ask(server, "/a", roots[0]).body == b"of 0"
            open_files = procs.open_files(server.worker()).values()
            return sum(str(tmp_path) in path for path in open_files) <= 10

        server.more_directories = 10
        until(few_are_open, "what was looked at once is closed")


class TestIndex:
    INDEX = ("--static-index", "index.html", "--static-index", "index.htm")

    def test_with_and_without_a_slash(self, fresh_native, folder):
        server = fresh_native("--static-map", f"/s={folder}", *self.INDEX)
        assert (
            found(server, "/s/sub", "/s/sub/", "/s", "/s/") == ["index of sub"] * 2 + ["front"] * 2
        )

    def test_the_first_that_is_there(self, fresh_native, tmp_path):
        root = plant(
            tmp_path / "root",
            "3/index.html",
            **{
                "1/index.html": "html",
                "1/index.htm": "htm",
                "2/index.htm": "htm",
                "3/index.htm": "htm",
            },
        )
        server = fresh_native("--check-static", str(root), *self.INDEX)
        assert found(server, "/1", "/2", "/3", "/") == ["html", "htm", "htm", 404]

    @pytest.mark.parametrize("target", ["../index.html", "b.txt", "absolute", "../sub/index.txt"])
    def test_one_that_is_a_link(self, fresh_native, folder, target):
        """It may lead wherever a file may: anywhere below the directory of the rule."""
        (folder / "sub/index.html").rename(folder / "sub/index.txt")
        where = folder / "sub/index.txt" if target == "absolute" else target
        (folder / "sub/index.html").symlink_to(where)
        server = fresh_native("--static-map", f"/s={folder}", *self.INDEX)
        expected = {"../index.html": "front", "b.txt": "below"}.get(target, "index of sub")
        assert found(server, "/s/sub/index.html", "/s/sub/", "/s/sub") == [expected] * 3

    def test_one_that_leads_out(self, fresh_native, folder):
        put(folder.parent / "secret.html", "secret")
        (folder / "empty/index.html").symlink_to("../../secret.html")
        server = fresh_native("--static-map", f"/s={folder}", *self.INDEX, allow=[SECURITY])
        assert found(server, "/s/empty/index.html", "/s/empty/") == [404] * 2

    def test_one_that_leads_into_a_safe_directory(self, fresh_native, folder):
        safe = plant(folder.parent / "safe", **{"i.html": "safe"})
        (folder / "empty/index.html").symlink_to(safe / "i.html")
        server = fresh_native(
            "--static-map", f"/s={folder}", *self.INDEX, "--static-safe", str(safe)
        )
        assert found(server, "/s/empty/index.html", "/s/empty/") == ["safe"] * 2

    def test_a_directory_that_is_a_link(self, fresh_native, folder):
        (folder / "linked").symlink_to("sub")
        server = fresh_native("--static-map", f"/s={folder}", *self.INDEX)
        assert found(server, "/s/linked", "/s/linked/") == ["index of sub"] * 2

    def test_none_without_the_option(self, fresh_native, folder):
        server = fresh_native("--static-map", f"/s={folder}")
        assert found(server, "/s/sub", "/s/sub/", "/s/empty/", "/s/") == [404] * 4

    def test_its_type_is_that_of_the_index(self, fresh_native, folder):
        server = fresh_native("--static-map", f"/s={folder}", *self.INDEX)
        assert server.get("/s/sub/").header("Content-Type") == "text/html"

    def test_a_slash_behind_a_file(self, fresh_native, folder):
        server = fresh_native("--static-map", f"/s={folder}", *self.INDEX)
        assert found(server, "/s/a.txt/", "/s/a.txt//", "/s/a.txt/index.html") == [404] * 3


class TestSkip:
    def test_endings(self, fresh_native, tmp_path):
        root = plant(tmp_path / "root", **{"a.php": "source", "a.txt": "text", "b.PHP": "upper"})
        server = fresh_native(
            "--check-static", str(root), "--static-skip-ext", ".php", "--static-skip-ext", ".inc"
        )
        assert found(server, "/a.php", "/a.txt", "/b.PHP") == [404, "text", "upper"]
        assert found(server, "/a%2ephp", "/a.php?x") == [404, 404]


class TestSafe:
    @pytest.fixture
    def outside(self, tmp_path, folder) -> Path:
        outside = plant(tmp_path / "outside", **{"o.txt": "outside"})
        (folder / "link.txt").symlink_to(outside / "o.txt")
        (folder / "linked").symlink_to(outside)
        (folder / "up").symlink_to("../outside/o.txt")
        return outside

    def test_links_that_lead_out(self, fresh_native, folder, outside):
        server = fresh_native("--static-map", f"/s={folder}", allow=[SECURITY])
        assert found(server, "/s/link.txt", "/s/linked/o.txt", "/s/up") == [404] * 3
        until(lambda: server.count_log(SECURITY) == 3, "three lines")

    def test_into_a_safe_directory(self, fresh_native, folder, outside):
        server = fresh_native("--static-map", f"/s={folder}", "--static-safe", str(outside))
        assert found(server, "/s/link.txt", "/s/linked/o.txt", "/s/up") == ["outside"] * 3

    def test_a_safe_directory_ends_at_a_slash(self, fresh_native, folder, outside):
        server = fresh_native(
            "--static-map", f"/s={folder}", "--static-safe", f"{outside}"[:-1], allow=[SECURITY]
        )
        assert found(server, "/s/link.txt") == [404]

    def test_a_line_of_the_log_cannot_be_forged(self, fresh_native, folder):
        evil = "x\n[pid: 1|app: 0|req: 1] forged"
        put(folder.parent / evil, "evil")
        (folder / evil).symlink_to(folder.parent / evil)
        server = fresh_native("--static-map", f"/s={folder}", allow=[SECURITY, "security error"])
        assert found(server, "/s/" + quote(evil)) == [404]
        server.wait_for_log("security error")
        server.wait_requests(1)
        assert not any(line.startswith("[pid: 1|") for line in server.log_lines())

    def test_links_within(self, fresh_native, folder):
        (folder / "relative").symlink_to("sub/b.txt")
        (folder / "absolute").symlink_to(folder / "sub/b.txt")
        (folder / "round").symlink_to("../root/sub/b.txt")
        server = fresh_native("--static-map", f"/s={folder}")
        assert found(server, "/s/relative", "/s/absolute", "/s/round") == ["below"] * 3

    def test_the_next_rule_is_tried(self, fresh_native, folder, outside):
        other = plant(folder.parent / "other", **{"link.txt": "of the other"})
        server = fresh_native(
            "--check-static", str(folder), "--check-static", str(other), allow=[SECURITY]
        )
        assert found(server, "/link.txt") == ["of the other"]

    def test_the_root_may_be_a_link(self, fresh_native, folder):
        link = folder.parent / "current"
        link.symlink_to("root")
        (folder / "by-link").symlink_to(link / "sub/b.txt")
        (folder / "by-name").symlink_to(folder / "sub/b.txt")
        server = fresh_native("--static-map", f"/s={link}")
        assert found(server, "/s/a.txt", "/s/by-link", "/s/by-name") == ["alpha", "below", "below"]


class TestDotfiles:
    @pytest.fixture
    def hidden(self, folder) -> Path:
        return plant(
            folder,
            **{
                ".env": "secret",
                ".git/config": "git",
                "sub/.hidden": "hidden",
                ".well-known/security.txt": "contact",
                ".well-known/.x": "dot below",
                ".well-knownX": "no",
                "x.": "dot behind",
                "...": "three",
            },
        )

    def test_are_not_there(self, fresh_native, hidden):
        server = fresh_native("--check-static", str(hidden))
        for target in (
            "/.env", "/%2eenv", "/%2Eenv", "/.git/config", "/sub/.hidden", "/.well-known/.x",
            "/.well-knownX", "/...", "/.git/", "/.git",
        ):  # fmt: skip
            assert found(server, target) == [404], target
        assert found(server, "/.well-known/security.txt", "/x.") == ["contact", "dot behind"]

    def test_with_the_option(self, fresh_native, hidden):
        server = fresh_native("--check-static", str(hidden), "--static-dotfiles")
        assert found(server, "/.env", "/%2eenv", "/.git/config", "/.well-known/.x", "/...") == [
            "secret",
            "secret",
            "git",
            "dot below",
            "three",
        ]
        assert found(server, "/..", "/.", "/sub/../a.txt", "/sub/./b.txt")[0] == 404


class TestBesideAnApplication:
    """Files first; everything else is the application's, whatever it is."""

    @pytest.fixture(params=["sync", "async", "ugreen"])
    def server(self, request, fresh, folder):
        (folder / "out").symlink_to("/etc/passwd")
        modes = {"sync": [], "async": ["--async", "4"], "ugreen": ["--async", "4", "--ugreen"]}
        return fresh(
            "echo", "--check-static", str(folder), "--static-map", f"/s={folder}",
            "--static-skip-ext", ".skip", *modes[request.param], allow=[SECURITY],
        )  # fmt: skip

    def test_files_first_then_the_application(self, server, folder):
        put(folder / "a.skip", "skipped")
        with server.http() as client:
            assert client.get("/a.txt").body == b"alpha"
            assert client.get("/s/a.txt").body == b"alpha"
            for target in (
                "/none", "/", "/sub", "/a.skip", "/.env", "/s", "/s/none", "/sub/../a.txt", "/out",
                "/a.txt/", "/a.txt/more", "/sub%2fb.txt",
            ):  # fmt: skip
                assert client.get(target).json()["method"] == "GET", target
            assert client.get("/a.txt").body == b"alpha"
            answer = client.request("POST", "/a.txt", body=b"body").json()
            assert (answer["path"], answer["length"]) == ("/a.txt", 4)
            for method in ("OPTIONS", "DELETE", "PUT", "TRACE", "get"):
                assert client.request(method, "/a.txt").json()["method"] == method
            assert client.request("HEAD", "/a.txt").header("Content-Length") == "5"

    def test_a_file_that_appears(self, server, folder):
        assert server.get("/later.txt").json()["path"] == "/later.txt"
        put(folder / "later.txt", "there")
        assert server.get("/later.txt").body == b"there"
        os.unlink(folder / "later.txt")
        assert server.get("/later.txt").json()["path"] == "/later.txt"


class TestNames:
    def test_a_root_that_is_no_utf_8(self, fresh_native, tmp_path):
        root = tmp_path / os.fsdecode(b"r\xe4\xff")
        plant(root, **{"a": "alpha"})
        link = tmp_path / "link"
        link.symlink_to(root.name)
        assert found(fresh_native("--static-map", f"/s={link}"), "/s/a") == ["alpha"]

    def test_blanks_and_equals_signs(self, fresh_native, tmp_path):
        root = plant(tmp_path / "a b=c", **{"x y=z": "found"})
        server = fresh_native("--static-map", f"/s={root}")
        assert found(server, "/s/x%20y=z") == ["found"]


class TestRelativePaths:
    def test_count_from_the_start(self, fresh_native, folder):
        server = fresh_native(
            "--static-map", "/s=root", "--check-static", "./root/sub", cwd=folder.parent
        )
        assert found(server, "/s/a.txt", "/b.txt") == ["alpha", "below"]

    def test_count_from_chdir(self, fresh_native, folder):
        server = fresh_native("--chdir", str(folder), "--static-map", "/s=sub")
        assert found(server, "/s/b.txt") == ["below"]
