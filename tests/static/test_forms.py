"""What a file is sent as: its type, its compressed forms, and how long it stays fresh."""

from __future__ import annotations

from email.utils import parsedate_to_datetime

import pytest

from tests.static.trees import LAST_MODIFIED, MODIFIED_S, etag, http_date, pattern, plant, put

FORMS = {
    "a.css": "plain css",
    "a.css.br": "brotli css",
    "a.css.zst": "zstandard css",
    "a.css.gz": "gzip css",
    "b.css": "plain b",
    "b.css.gz": "gzip b",
    "c.js": "plain js",
    "c.js.gz": "gzip js",
    "d/index.html": "plain index",
    "d/index.html.br": "brotli index",
}
BODIES = {"br": "brotli css", "zstd": "zstandard css", "gzip": "gzip css", None: "plain css"}


class TestTypes:
    def test_common_ones(self, fresh_native, tmp_path):
        types = {
            "a.html": "text/html",
            "a.css": "text/css",
            "a.png": "image/png",
            "a.PNG": "image/png",
            "a.svg": "image/svg+xml",
            "a.pdf": "application/pdf",
            "a.tar.gz": "application/gzip",
            "noending": None,
            "a.unheardof": None,
            "dir.css/noending": None,
        }
        root = plant(tmp_path / "root", **dict.fromkeys(types, "x"))
        server = fresh_native("--check-static", str(root))
        with server.http() as client:
            assert {n: client.get(f"/{n}").header("Content-Type") for n in types} == types

    def test_mime_files(self, fresh_native, tmp_path):
        root = plant(tmp_path / "root", **{"a.foo": "x", "a.bar": "x", "a.html": "x"})
        one = put(
            tmp_path / "one.types", "# comment\ntext/x-foo foo bar\n\ntext/x-html html # own\n"
        )
        two = put(tmp_path / "two.types", "text/x-bar bar")
        server = fresh_native(
            "--check-static", str(root), "--mimefile", str(one), "--mime-file", str(two)
        )
        types = [server.get(f"/a.{end}").header("Content-Type") for end in ("foo", "bar", "html")]
        assert types == ["text/x-foo", "text/x-bar", "text/x-html"]

    def test_a_mime_file_that_is_not_there(self, fresh_native, tmp_path):
        root = plant(tmp_path / "root", **{"a.html": "x"})
        server = fresh_native("--check-static", str(root), "--mimefile", str(tmp_path / "none"))
        assert server.get("/a.html").header("Content-Type") == "text/html"


class TestCompressed:
    @pytest.fixture
    def root(self, tmp_path):
        return plant(tmp_path / "root", **FORMS)

    @pytest.mark.parametrize(
        ("accepted", "coding"),
        [
            ("gzip", "gzip"),
            ("br", "br"),
            ("zstd", "zstd"),
            ("gzip, deflate, br, zstd", "br"),
            ("gzip, zstd", "zstd"),
            ("*", "br"),
            ("gzip;q=1, br;q=0.5", "gzip"),
            ("br;q=0, zstd;q=0.000, gzip", "gzip"),
            ("gzip;q=0", None),
            ("gzip;q=0, *", "br"),
            ("identity, gzip;q=0.9", None),
            ("identity;q=0.5, gzip;q=0.5", "gzip"),
            ("GZIP", "gzip"),
            ("x-gzip", "gzip"),
            ("brotli, compress, deflate", None),
            ("gzip;q=2", None),
            ("", None),
        ],
    )
    def test_what_the_client_likes_best(self, fresh_native, root, accepted, coding):
        server = fresh_native("--check-static", str(root), "--static-gzip-all")
        answer = server.get("/a.css", Accept_Encoding=accepted)
        assert answer.header("Content-Encoding") == coding
        assert answer.body.decode() == BODIES[coding]
        assert answer.header("Content-Type") == "text/css"
        assert answer.header("Vary") == "Accept-Encoding"

    def test_each_form_has_a_tag_of_its_own(self, fresh_native, tmp_path):
        """RFC 9110 8.8.3.3; also when times and lengths are the same, as archives leave them."""
        names = ("a.css", "a.css.br", "a.css.zst", "a.css.gz")
        root = plant(tmp_path / "root", **{name: f"{n}" * 10 for n, name in enumerate(names)})
        server = fresh_native("--check-static", str(root), "--static-gzip-all")
        answers = [server.get("/a.css", Accept_Encoding=c) for c in ("", "br", "zstd", "gzip")]
        assert len({answer.body for answer in answers}) == 4
        assert len({answer.header("ETag") for answer in answers}) == 4

    def test_a_link_to_a_form(self, fresh_native, root):
        (root / "c.js.br").symlink_to("a.css.br")
        server = fresh_native("--check-static", str(root), "--static-gzip-all")
        assert server.get("/c.js", Accept_Encoding="br").body == b"brotli css"

    def test_a_client_that_says_nothing(self, fresh_native, root):
        server = fresh_native("--check-static", str(root), "--static-gzip-all")
        answer = server.get("/a.css")
        assert (answer.body, answer.header("Vary")) == (b"plain css", "Accept-Encoding")

    def test_fields_of_two_lines(self, fresh_native, root):
        server = fresh_native("--check-static", str(root), "--static-gzip-all")
        lines = [("Accept-Encoding", "gzip;q=0.5"), ("Accept-Encoding", "zstd")]
        assert server.request("GET", "/a.css", lines).body == b"zstandard css"

    def test_a_form_that_is_not_there(self, fresh_native, root):
        server = fresh_native("--check-static", str(root), "--static-gzip-all")
        answer = server.get("/b.css", Accept_Encoding="br, gzip;q=0.1")
        assert (answer.body, answer.header("Content-Encoding")) == (b"gzip b", "gzip")
        assert server.get("/b.css", Accept_Encoding="br").body == b"plain b"

    def test_an_index(self, fresh_native, root):
        server = fresh_native(
            "--check-static", str(root), "--static-gzip-all", "--static-index", "index.html"
        )
        answer = server.get("/d/", Accept_Encoding="gzip, br")
        assert (answer.body, answer.header("Content-Type")) == (b"brotli index", "text/html")

    def test_the_compressed_file_itself(self, fresh_native, root):
        server = fresh_native("--check-static", str(root), "--static-gzip-ext", ".css")
        answer = server.get("/a.css.gz", Accept_Encoding="gzip")
        assert (answer.body, answer.header("Content-Encoding")) == (b"gzip css", None)
        assert answer.header("Vary") is None

    def test_without_the_file_there_is_no_form(self, fresh_native, tmp_path):
        root = plant(tmp_path / "root", **{"only.css.gz": "gzip"})
        server = fresh_native("--check-static", str(root), "--static-gzip-all")
        assert server.get("/only.css", Accept_Encoding="gzip").status == 404

    def test_a_form_that_is_a_directory_or_leads_out(self, fresh_native, tmp_path):
        root = plant(tmp_path / "root", "a.css.br", **{"a.css": "plain"})
        secret = put(tmp_path / "secret", "secret")
        (root / "a.css.gz").symlink_to(secret)
        server = fresh_native(
            "--check-static",
            str(root),
            "--static-gzip-all",
            allow=[r"\[fileserve\] security error"],
        )
        answer = server.get("/a.css", Accept_Encoding="br, gzip")
        assert (answer.body, answer.header("Content-Encoding")) == (b"plain", None)

    @pytest.mark.parametrize(
        ("rule", "coded"),
        [
            (["--static-gzip-ext", ".css"], {"/a.css"}),
            (["--static-gzip-suffix", "c.js"], {"/c.js"}),
            (["--static-gzip", r"/[ab]\.css$"], {"/a.css"}),
            (["--static-gzip", r"^a\.css$"], set()),
            (["--static-gzip-dir", "ROOT/d"], {"/d/index.html"}),
            (["--static-gzip-prefix", "ROOT"], {"/a.css", "/c.js", "/d/index.html"}),
            (["--static-gzip-ext", ".css", "--static-gzip-ext", ".js"], {"/a.css", "/c.js"}),
            ([], set()),
        ],
        ids=lambda value: " ".join(value) if isinstance(value, list) else "",
    )
    def test_which_files(self, fresh_native, root, rule, coded):
        options = [word.replace("ROOT", str(root)) for word in rule]
        server = fresh_native("--check-static", str(root), *options)
        targets = {"/a.css", "/c.js", "/d/index.html"}
        with server.http() as client:
            answers = {target: client.get(target, Accept_Encoding="*") for target in targets}
        assert {t for t in targets if answers[t].header("Content-Encoding")} == coded
        assert {t for t in targets if answers[t].header("Vary")} == coded

    def test_conditions_and_ranges_are_those_of_the_form(self, fresh_native, root):
        server = fresh_native("--check-static", str(root), "--static-gzip-all")
        tag = server.get("/a.css", Accept_Encoding="gzip").header("ETag")
        answer = server.get("/a.css", Accept_Encoding="gzip", If_None_Match=tag)
        assert (answer.status, answer.header("Vary")) == (304, "Accept-Encoding")
        assert server.get("/a.css", If_None_Match=tag).status == 200
        part = server.get("/a.css", Accept_Encoding="gzip", Range="bytes=5-")
        assert (part.status, part.body) == (206, b"css")
        assert (part.header("Content-Encoding"), part.header("Content-Range")) == (
            "gzip",
            "bytes 5-7/8",
        )


def seconds_from_date(answer) -> float:
    """`Expires` behind the moment of the answer."""
    date, expires = (parsedate_to_datetime(answer.header(n)) for n in ("Date", "Expires"))
    return (expires - date).total_seconds()


class TestExpires:
    @pytest.fixture
    def root(self, tmp_path):
        return plant(tmp_path / "root", **{"a.css": "x", "b.html": "y", "sub/c.css": "z"})

    def test_by_file(self, fresh_native, root):
        server = fresh_native(
            "--static-map", f"/s={root}", "--static-expires", rf"^{root}/sub/ 60",
            "--static-expires", r"\.css$ 3600",
        )  # fmt: skip
        # The clock may have gone on between the two dates.
        assert 3600 <= seconds_from_date(server.get("/s/a.css")) <= 3602
        assert 60 <= seconds_from_date(server.get("/s/sub/c.css")) <= 62
        assert server.get("/s/b.html").header("Expires") is None

    @pytest.mark.parametrize(
        ("rule", "target"),
        [
            (("--static-expires-mtime", r"\.css$ 7"), "/s/a.css"),
            (("--static-expires-uri-mtime", r"^/s/a\.css\?v=1$ 7"), "/s/a.css?v=1"),
            (("--static-expires-path-info-mtime", r"^/s/a\.css$ 7"), "/s/a.css?v=1"),
            (("--static-expires-type-mtime", "text/css=7"), "/s/a.css"),
        ],
        ids=["file", "uri", "path-info", "type"],
    )
    def test_from_the_last_change(self, fresh_native, root, rule, target):
        server = fresh_native("--static-map", f"/s={root}", *rule)
        assert server.get(target).header("Expires") == http_date(MODIFIED_S + 7)
        assert server.get("/s/b.html").header("Expires") is None

    @pytest.mark.parametrize(
        ("rule", "target", "other"),
        [
            (("--static-expires-uri", r"v= 9"), "/s/a.css?v=1", "/s/a.css"),
            (("--static-expires-path-info", r"^/s/a 9"), "/%73/a.css", "/s/b.html"),
            (("--static-expires-type", "text/css=9"), "/s/a.css", "/s/b.html"),
        ],
        ids=["uri", "path-info", "type"],
    )
    def test_from_now(self, fresh_native, root, rule, target, other):
        server = fresh_native("--static-map", f"/s={root}", *rule)
        assert 9 <= seconds_from_date(server.get(target)) <= 11
        assert server.get(other).header("Expires") is None

    def test_one_field_whatever_fits(self, fresh_native, root):
        server = fresh_native(
            "--static-map", f"/s={root}", "--static-expires-mtime", "css 1",
            "--static-expires-uri-mtime", "css 2", "--static-expires-type-mtime", "text/css=3",
        )  # fmt: skip
        assert server.get("/s/a.css").header("Expires") == http_date(MODIFIED_S + 1)

    def test_with_304_and_206(self, fresh_native, root):
        server = fresh_native("--static-map", f"/s={root}", "--static-expires-mtime", "css 5")
        for field in ({"If_None_Match": "*"}, {"Range": "bytes=0-0"}):
            answer = server.get("/s/a.css", **field)
            assert answer.status in (304, 206)
            assert answer.header("Expires") == http_date(MODIFIED_S + 5)

    def test_404_has_none(self, fresh_native, root):
        server = fresh_native("--static-map", f"/s={root}", "--static-expires", ". 5")
        assert server.get("/s/none.css").header("Expires") is None


class TestHead:
    def test_all_fields_of_a_file(self, fresh_native, tmp_path):
        root = plant(tmp_path / "root", **{"a.txt": "alpha"})
        answer = fresh_native("--check-static", str(root)).get("/a.txt")
        fields = dict(answer.headers)
        assert fields.pop("Date")
        assert fields == {
            "Content-Type": "text/plain",
            "Content-Length": "5",
            "Last-Modified": LAST_MODIFIED,
            "ETag": etag(5),
            "Accept-Ranges": "bytes",
            "Connection": "close",
        }
        assert answer.version == "HTTP/1.1"

    def test_an_empty_file(self, fresh_native, tmp_path):
        root = plant(tmp_path / "root", **{"a.txt": ""})
        with fresh_native("--check-static", str(root)).http() as client:
            for method in ("GET", "HEAD", "GET"):
                answer = client.request(method, "/a.txt")
                assert (answer.status, answer.header("Content-Length")) == (200, "0")
                assert answer.body == b""

    @pytest.mark.parametrize("size", [1, 32 * 1024, 32 * 1024 + 1, 256 * 1024, 3_000_001])
    def test_sizes(self, fresh_native, tmp_path, size):
        """Around the sizes at which the way of sending changes."""
        content = pattern(size)
        root = plant(tmp_path / "root", **{"a": content})
        with fresh_native("--check-static", str(root)).http() as client:
            for _ in range(3):
                assert client.get("/a").body == content
                assert client.request("HEAD", "/a").header("Content-Length") == str(size)
                part = client.get("/a", Range=f"bytes={size // 2}-")
                assert part.body == content[size // 2 :]
