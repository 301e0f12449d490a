"""RFC 9110 (HTTP semantics) for files: validators, preconditions, ranges, clause by clause."""

from __future__ import annotations

import os
import re
import time
from email.utils import parsedate_to_datetime

import pytest

from tests.harness.http import Response
from tests.harness.waiting import until
from tests.static.trees import (
    LAST_MODIFIED,
    MODIFIED_NS,
    MODIFIED_S,
    age,
    etag,
    http_date,
    pattern,
    plant,
    put,
)

TEXT = b"".join(b"%09d\n" % n for n in range(1000))
SIZE = len(TEXT)
TAG = etag(SIZE)
BEFORE, AFTER = http_date(MODIFIED_S - 1), http_date(MODIFIED_S + 1)
ASCTIME = "Tue Nov 14 22:13:20 2023"
RFC850 = "Tuesday, 14-Nov-23 22:13:20 GMT"


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    return plant(
        folder, **{"a.txt": TEXT, "empty.txt": b"", "noend": TEXT, "large": pattern(300_000)}
    )


@pytest.fixture
def client(native, root):
    return native("--check-static", str(root)).http()


@pytest.fixture
def ask(client):
    """`ask(If_Match="*")`: one request for the text."""

    def ask(method: str = "GET", target: str = "/a.txt", **fields: str) -> Response:
        pairs = [(name.replace("_", "-"), value) for name, value in fields.items()]
        return client.request(method, target, pairs)

    return ask


def parts_of(answer: Response) -> list[tuple[dict[str, str], bytes]]:
    """A multipart/byteranges body, read as strictly as RFC 2046 (5.1.1) has it."""
    kind = answer.header("Content-Type")
    boundary = re.fullmatch(r"multipart/byteranges; boundary=([-\w]{1,70})", kind)[1].encode()
    rest = b"\r\n" + answer.body
    end = b"\r\n--" + boundary + b"--\r\n"
    assert rest.endswith(end)
    pieces = rest[: -len(end)].split(b"\r\n--" + boundary + b"\r\n")
    assert pieces[0] == b""
    found = []
    for piece in pieces[1:]:
        head, _, body = piece.partition(b"\r\n\r\n")
        lines = [line.split(": ", 1) for line in head.decode().split("\r\n")]
        found.append((dict(lines), body))
    return found


def ranges_of(answer: Response) -> list[str]:
    return [fields["Content-Range"] for fields, _ in parts_of(answer)]


class TestSection8Validators:
    def test_8_3_a_type_that_is_not_known_is_left_out(self, ask):
        assert ask(target="/noend").header("Content-Type") is None

    def test_8_6_content_length_is_that_of_the_file(self, ask):
        assert ask().header("Content-Length") == str(SIZE)
        assert ask(target="/empty.txt").header("Content-Length") == "0"

    def test_8_6_the_length_of_head_is_that_of_get(self, ask):
        for target in ("/a.txt", "/empty.txt", "/large"):
            length = ask(target=target).header("Content-Length")
            assert ask("HEAD", target).header("Content-Length") == length

    def test_8_8_2_last_modified_is_that_of_the_file(self, ask):
        assert ask().header("Last-Modified") == LAST_MODIFIED

    def test_8_8_2_1_last_modified_is_not_later_than_date(self, native, root):
        """RFC 9110 8.8.2.1: a time in the future must be replaced by the date of the message."""
        future = put(root / "future", b"x")
        age(future, int(time.time()) + 100_000)
        answer = native("--check-static", str(root)).get("/future")
        assert answer.header("Last-Modified") in (None, answer.header("Date"))

    def test_8_8_2_1_neither_is_that_of_a_file_changed_just_now(self, native, root):
        """Date may be a little behind the clock of files, and is the date of the message."""
        path = root / "just-now"
        end = time.monotonic() + 2.5  # Two seconds begin meanwhile.
        with native("--check-static", str(root)).http() as client:
            while time.monotonic() < end:
                path.write_bytes(b"x")
                answer = client.get("/just-now")
                changed = parsedate_to_datetime(answer.header("Last-Modified"))
                assert changed <= parsedate_to_datetime(answer.header("Date"))

    def test_8_8_3_the_tag_is_quoted_and_strong(self, ask):
        assert ask().header("ETag") == TAG
        assert re.fullmatch(r'"[\x21\x23-\x7e]+"', TAG)

    def test_8_8_1_a_file_changed_within_the_tick_of_the_clock_has_a_weak_tag(self, native, root):
        """It may change again without another time; when that is over, the tag is a strong one."""
        server = native("--check-static", str(root))
        seen = []
        for number in range(50):
            path = root / "fresh"
            path.write_bytes(b"%03d" % number)
            seen.append(server.get("/fresh").header("ETag"))
            if seen[-1].startswith("W/"):
                break
        assert seen[-1].startswith("W/"), seen
        strong = seen[-1].removeprefix("W/")
        until(lambda: server.get("/fresh").header("ETag") == strong, "a strong tag")

    @pytest.mark.parametrize("change", ["content", "time", "nanoseconds", "length"])
    def test_8_8_3_another_file_has_another_tag(self, native, root, change):
        server = native("--check-static", str(root))
        path = put(root / "changing", b"one")
        first = server.get("/changing").header("ETag")
        if change in ("content", "length"):
            path.write_bytes(b"two" if change == "content" else b"one more")
        if change == "length":
            age(path)
        elif change != "content":
            more = 10**9 if change == "time" else 1
            os.utime(path, ns=(0, MODIFIED_S * 10**9 + MODIFIED_NS + more))
        assert server.get("/changing").header("ETag") != first


class TestSection9Methods:
    def test_9_1_get_and_head_alone(self, ask):
        for method in ("POST", "PUT", "DELETE", "OPTIONS"):
            assert ask(method).status == 404

    @pytest.mark.parametrize(
        "fields",
        [
            {},
            {"If_None_Match": TAG},
            {"If_Match": '"x"'},
            {"If_Modified_Since": AFTER},
        ],
        ids=["200", "304", "412", "304 by date"],
    )
    def test_9_3_2_head_has_the_fields_of_get(self, ask, fields):
        get, head = ask(**fields), ask("HEAD", **fields)
        assert head.status == get.status
        assert dict(head.headers) | {"Date": ""} == dict(get.headers) | {"Date": ""}
        assert head.body == b""


class TestSection13IfMatch:
    @pytest.mark.parametrize(
        "value", ["*", TAG, f'"a", {TAG}, "b"', f"W/{TAG}, {TAG}", f",,{TAG} ,"]
    )
    def test_13_1_1_holds(self, ask, value):
        assert ask(If_Match=value).status == 200

    @pytest.mark.parametrize(
        "value", ['"a"', f"W/{TAG}", TAG.strip('"'), TAG[:-1], f"w/{TAG}", f'"{TAG}"', "**", '""']
    )
    def test_13_1_1_does_not_hold(self, ask, value):
        answer = ask(If_Match=value)
        assert (answer.status, answer.body) == (412, b"")

    def test_13_1_1_several_lines_are_one_list(self, client):
        lines = [("If-Match", '"a"'), ("If-Match", TAG)]
        assert client.request("GET", "/a.txt", lines).status == 200


class TestSection13IfNoneMatch:
    @pytest.mark.parametrize(
        "value", ["*", TAG, f"W/{TAG}", f'"a", W/{TAG}', f'"a",{TAG}', f"{TAG},"]
    )
    def test_13_1_2_a_tag_that_matches_weakly_is_304(self, ask, value):
        answer = ask(If_None_Match=value)
        assert (answer.status, answer.body) == (304, b"")

    @pytest.mark.parametrize("value", ['"a"', TAG.strip('"'), f"{TAG}x", f"x{TAG}", '"', ""])
    def test_13_1_2_others_get_the_file(self, ask, value):
        assert ask(If_None_Match=value).body == TEXT

    def test_13_1_2_a_weak_tag_of_ours_is_matched(self, native, root):
        server = native("--check-static", str(root))
        path = root / "weak"
        for _ in range(50):
            path.write_bytes(b"weak")
            tag = server.get("/weak").header("ETag")
            answer = server.get("/weak", If_None_Match=tag)
            assert answer.status == 304
            if tag.startswith("W/"):
                return
        raise AssertionError("never a weak tag")


class TestSection13Dates:
    @pytest.mark.parametrize("value", [LAST_MODIFIED, AFTER, ASCTIME, RFC850])
    def test_13_1_3_not_modified_since(self, ask, value):
        answer = ask(If_Modified_Since=value)
        assert (answer.status, answer.body) == (304, b"")

    @pytest.mark.parametrize("value", [BEFORE, "Thu, 01 Jan 1970 00:00:00 GMT"])
    def test_13_1_3_modified_since(self, ask, value):
        assert ask(If_Modified_Since=value).body == TEXT

    @pytest.mark.parametrize(
        "value",
        [
            "yesterday",
            "",
            "1700000000",
            "Tue, 14 Nov 2023 22:13:20",
            "Tue, 14 Nov 2023 22:13:20 +0000",
            "2023-11-14T22:13:20Z",
            "Tue, 31 Feb 2023 22:13:20 GMT",
            f"{LAST_MODIFIED}, {LAST_MODIFIED}",
        ],
    )
    def test_13_1_3_what_is_no_date_is_ignored(self, ask, value):
        assert ask(If_Modified_Since=value).status == 200
        assert ask(If_Unmodified_Since=value).status == 200

    @pytest.mark.parametrize("value", [LAST_MODIFIED, AFTER, ASCTIME, RFC850])
    def test_13_1_4_unmodified_since(self, ask, value):
        assert ask(If_Unmodified_Since=value).body == TEXT

    def test_13_1_4_modified_since_is_412(self, ask):
        answer = ask(If_Unmodified_Since=BEFORE)
        assert (answer.status, answer.body) == (412, b"")


class TestSection13Precedence:
    def test_13_2_2_1_if_match_hides_if_unmodified_since(self, ask):
        assert ask(If_Match=TAG, If_Unmodified_Since=BEFORE).status == 200
        assert ask(If_Match='"x"', If_Unmodified_Since=AFTER).status == 412

    def test_13_2_2_3_if_none_match_hides_if_modified_since(self, ask):
        assert ask(If_None_Match='"x"', If_Modified_Since=AFTER).status == 200
        assert ask(If_None_Match=TAG, If_Modified_Since=BEFORE).status == 304

    def test_13_2_2_failing_comes_before_not_modified(self, ask):
        assert ask(If_Match='"x"', If_None_Match=TAG).status == 412
        assert ask(If_Match=TAG, If_None_Match=TAG).status == 304

    def test_13_2_2_preconditions_come_before_ranges(self, ask):
        assert ask(If_None_Match=TAG, Range="bytes=0-1").status == 304
        assert ask(If_Match='"x"', Range="bytes=0-1").status == 412
        assert ask(If_Modified_Since=AFTER, Range="bytes=99999-").status == 304

    def test_13_2_1_no_precondition_of_a_file_that_is_not_there(self, ask):
        for fields in ({"If_None_Match": "*"}, {"If_Match": "*"}, {"If_Unmodified_Since": BEFORE}):
            assert ask(target="/none", **fields).status == 404


class TestSection13IfRange:
    @pytest.mark.parametrize("value", [TAG, LAST_MODIFIED, RFC850, ASCTIME])
    def test_13_1_5_the_same_gets_the_part(self, ask, value):
        answer = ask(If_Range=value, Range="bytes=0-9")
        assert (answer.status, answer.body) == (206, TEXT[:10])

    @pytest.mark.parametrize(
        "value", [f"W/{TAG}", '"x"', BEFORE, AFTER, "nonsense", "", f"{TAG}, {TAG}", "*"]
    )
    def test_13_1_5_others_get_the_whole(self, ask, value):
        answer = ask(If_Range=value, Range="bytes=0-9")
        assert (answer.status, answer.body) == (200, TEXT)

    def test_13_1_5_without_range_it_says_nothing(self, ask):
        assert ask(If_Range='"x"').status == 200
        assert ask(If_Range=TAG).status == 200

    def test_13_1_5_a_changed_file_is_not_416(self, ask):
        assert ask(If_Range='"x"', Range="bytes=99999-").status == 200

    def test_8_8_2_2_the_date_of_this_second_is_no_strong_validator(self, native, root):
        server = native("--check-static", str(root))
        path = root / "now"
        for _ in range(100):
            path.write_bytes(TEXT)
            date = http_date(int(path.stat().st_mtime))
            answer = server.get("/now", If_Range=date, Range="bytes=0-9")
            if http_date(int(time.time())) == date:
                # Nothing of this took longer than the second of the change.
                assert answer.status == 200
                break
        else:
            raise AssertionError("each answer came a second later")
        # When that second is over the date will do.
        until(
            lambda: server.get("/now", If_Range=date, Range="bytes=0-9").status == 206,
            "a part by date",
        )


class TestSection14Single:
    @pytest.mark.parametrize(
        ("value", "first", "last"),
        [
            ("bytes=0-0", 0, 0),
            ("bytes=0-9", 0, 9),
            ("bytes=10-19", 10, 19),
            ("bytes=9990-", 9990, 9999),
            ("bytes=-1", 9999, 9999),
            ("bytes=-10", 9990, 9999),
            ("bytes=-20000", 0, 9999),
            ("bytes=0-", 0, 9999),
            ("bytes=0-99999", 0, 9999),
            ("bytes=9999-9999", 9999, 9999),
            ("BYTES=0-1", 0, 1),
            ("bytes=0-99999999999999999999999999", 0, 9999),
            ("bytes=00-007", 0, 7),
            ("bytes= 5-6 ", 5, 6),
            ("bytes=,5-6,", 5, 6),
            ("bytes=5-6, 20000-", 5, 6),
            ("bytes=0-4,5-9", 0, 9),
        ],
    )
    def test_14_1_2_one_range(self, ask, value, first, last):
        answer = ask(Range=value)
        assert answer.status == 206
        assert answer.header("Content-Range") == f"bytes {first}-{last}/{SIZE}"
        assert answer.body == TEXT[first : last + 1]
        assert answer.header("Content-Type") == "text/plain"

    @pytest.mark.parametrize(
        "value",
        [
            "bytes=", "bytes=-", "bytes=a-b", "bytes=1-0", "bytes=0-1,3-2", "bytes", "0-1",
            "bytes=0-1;2-3", "bytes=+0-1", "bytes=0x0-0x1", "bytes=--1", "bytes=0-1-2",
            "bytes =0-1", "bytes=,", "bytes=0-1 2-3", "bytes=0.5-1", "bytes:0-1",
        ],
    )  # fmt: skip
    def test_14_2_a_malformed_range_is_ignored(self, ask, value):
        answer = ask(Range=value)
        assert (answer.status, answer.body) == (200, TEXT)
        assert answer.header("Content-Range") is None

    @pytest.mark.parametrize("value", ["items=0-1", "seconds=1-2", "none=0-1", "byte=0-1", "x-y=1"])
    def test_14_2_another_unit_is_ignored(self, ask, value):
        assert ask(Range=value).body == TEXT

    def test_14_2_of_get_alone(self, ask):
        answer = ask("HEAD", Range="bytes=0-9")
        assert (answer.status, answer.header("Content-Length")) == (200, str(SIZE))
        assert answer.header("Content-Range") is None
        assert ask("HEAD", Range="bytes=99999-").status == 200

    def test_14_3_accept_ranges_says_bytes(self, ask):
        assert ask().header("Accept-Ranges") == "bytes"
        assert ask("HEAD").header("Accept-Ranges") == "bytes"
        assert ask(Range="bytes=0-1").header("Accept-Ranges") == "bytes"

    @pytest.mark.parametrize("value", ["bytes=0-", "bytes=0-0", "bytes=-1", "bytes=5-9"])
    def test_14_1_2_of_an_empty_file(self, ask, value):
        """No range of it has a byte: 416, or as if there were none."""
        answer = ask(target="/empty.txt", Range=value)
        assert answer.body == b""
        assert answer.status in (200, 416)

    def test_14_2_several_lines_are_one_list(self, client):
        lines = [("Range", "bytes=0-1"), ("Range", "5-6")]
        answer = client.request("GET", "/a.txt", lines)
        assert ranges_of(answer) == [f"bytes 0-1/{SIZE}", f"bytes 5-6/{SIZE}"]


class TestSection14BeyondFourGigabytes:
    END = b"the end"
    SIZE = (5 << 30) + len(END)

    @pytest.fixture
    def client(self, native, root):
        path = root / "sparse"
        with path.open("wb") as file:
            file.seek(5 << 30)
            file.write(self.END)
        age(path)
        yield native("--check-static", str(root)).http()
        path.unlink()

    def test_8_6_the_length(self, client):
        assert client.request("HEAD", "/sparse").header("Content-Length") == str(self.SIZE)

    @pytest.mark.parametrize(
        "value", ["bytes=-7", "bytes=5368709120-", "bytes=5368709120-5368709126"]
    )
    def test_14_1_2_the_end(self, client, value):
        answer = client.get("/sparse", Range=value)
        assert (answer.status, answer.body) == (206, self.END)
        assert answer.header("Content-Range") == f"bytes 5368709120-5368709126/{self.SIZE}"

    def test_14_6_the_beginning_and_the_end(self, client):
        answer = client.get("/sparse", Range="bytes=0-1,4294967296-4294967297,-3")
        assert [body for _, body in parts_of(answer)] == [b"\0\0", b"\0\0", b"end"]

    def test_15_5_17_behind_the_end(self, client):
        answer = client.get("/sparse", Range=f"bytes={self.SIZE}-")
        assert (answer.status, answer.header("Content-Range")) == (416, f"bytes */{self.SIZE}")


class TestSection14Multipart:
    def test_14_6_each_part_has_its_range_and_type(self, ask):
        answer = ask(Range="bytes=0-9,50-59,-10")
        assert answer.status == 206
        expected = [(0, 9), (50, 59), (9990, 9999)]
        assert parts_of(answer) == [
            (
                {"Content-Type": "text/plain", "Content-Range": f"bytes {a}-{b}/{SIZE}"},
                TEXT[a : b + 1],
            )
            for a, b in expected
        ]

    def test_15_3_7_2_no_content_range_in_the_head(self, ask):
        answer = ask(Range="bytes=0-1,5-6")
        assert answer.header("Content-Range") is None
        assert answer.header("Content-Length") == str(len(answer.body))

    def test_14_6_no_type_in_parts_of_an_unknown_type(self, ask):
        answer = ask(target="/noend", Range="bytes=0-1,5-6")
        assert [set(fields) for fields, _ in parts_of(answer)] == [{"Content-Range"}] * 2

    def test_15_3_7_2_the_order_asked_for(self, ask):
        answer = ask(Range="bytes=500-509,0-9,9990-,100-100")
        expected = [(500, 509), (0, 9), (9990, 9999), (100, 100)]
        assert ranges_of(answer) == [f"bytes {a}-{b}/{SIZE}" for a, b in expected]
        assert [body for _, body in parts_of(answer)] == [TEXT[a : b + 1] for a, b in expected]

    def test_15_3_7_2_ranges_that_touch_are_joined(self, ask):
        answer = ask(Range="bytes=0-9,10-19,30-39,35-44")
        assert ranges_of(answer) == [f"bytes 0-19/{SIZE}", f"bytes 30-44/{SIZE}"]

    def test_14_2_those_without_a_byte_are_left_out(self, ask):
        answer = ask(Range="bytes=0-1,20000-,5-6,-0")
        assert ranges_of(answer) == [f"bytes 0-1/{SIZE}", f"bytes 5-6/{SIZE}"]

    def test_14_6_of_a_large_file_with_large_parts(self, ask):
        content = pattern(300_000)
        answer = ask(target="/large", Range="bytes=0-99999,100002-199999,250000-299999")
        parts = [content[:100_000], content[100_002:200_000], content[250_000:]]
        assert [body for _, body in parts_of(answer)] == parts

    def test_14_6_boundaries_differ(self, ask):
        kinds = {ask(Range="bytes=0-1,5-6").header("Content-Type") for _ in range(5)}
        assert len(kinds) == 5

    def test_the_next_request_of_the_connection(self, ask):
        for _ in range(3):
            assert len(parts_of(ask(Range="bytes=0-1,5-6,10-11"))) == 3
            assert ask().body == TEXT


class TestSection17Abuse:
    """RFC 9110 17.15: a small request must not ask for a large answer."""

    @staticmethod
    def spread(count: int) -> str:
        return "bytes=" + ",".join(f"{n * 10}-{n * 10 + 1}" for n in range(count))

    def test_17_15_sixteen_ranges(self, ask):
        assert len(parts_of(ask(Range=self.spread(16)))) == 16

    @pytest.mark.parametrize("count", [17, 100, 900])
    def test_17_15_more_get_the_whole(self, ask, count):
        answer = ask(Range=self.spread(count))
        assert (answer.status, answer.body) == (200, TEXT)

    @pytest.mark.parametrize(
        "value",
        [
            "bytes=0-,0-,0-,0-",
            "bytes=0-9999,1-9999,2-9999,3-9999",
            "bytes=5000-,0-5000,1-9998",
            "bytes=" + ",".join(["0-9999"] * 200),
            "bytes=" + ",".join(f"{n}-" for n in range(200)),
            "bytes=" + ",".join(f"-{n + 1}" for n in range(200)),
        ],
        ids=lambda value: value[:30],
    )
    def test_17_15_overlapping_ones_get_the_whole_at_most(self, ask, value):
        answer = ask(Range=value)
        assert (answer.status, answer.body) == (200, TEXT)

    @pytest.mark.parametrize("count", [2, 3, 10, 16, 30])
    def test_17_15_never_much_more_than_the_whole(self, ask, count):
        for step in (1, 7, 300, 600):
            value = "bytes=" + ",".join(f"{n * step}-{n * step + 700}" for n in range(count))
            assert len(ask(Range=value).body) <= SIZE + 16 * 200


class TestSection15Statuses:
    def test_15_3_7_206_has_the_fields_of_200(self, ask):
        whole, part = dict(ask().headers), dict(ask(Range="bytes=0-9").headers)
        for name in ("ETag", "Last-Modified", "Content-Type", "Accept-Ranges"):
            assert part[name] == whole[name]
        assert part["Content-Length"] == "10"
        assert part["Date"]

    def test_15_4_5_304_has_the_validators_and_no_content(self, ask):
        answer = ask(If_None_Match=TAG)
        assert answer.header("ETag") == TAG
        assert answer.header("Date")
        assert answer.header("Last-Modified") == LAST_MODIFIED
        assert answer.header("Content-Type") is None
        assert answer.header("Content-Length") in (None, str(SIZE))

    def test_15_4_5_304_keeps_the_connection(self, ask):
        for _ in range(3):
            assert ask(If_None_Match=TAG).status == 304
            assert ask().body == TEXT

    def test_15_5_13_412_is_empty_and_keeps_the_connection(self, ask):
        answer = ask(If_Match='"x"')
        assert (answer.status, answer.header("Content-Length")) == (412, "0")
        assert ask().body == TEXT

    @pytest.mark.parametrize(
        "value",
        [
            "bytes=10000-",
            "bytes=10000-10001",
            "bytes=-0",
            "bytes=99999999999999999999-",
            "bytes=18446744073709551616-18446744073709551617",
            "bytes=20000-,30000-40000,-0",
        ],
    )
    def test_15_5_17_416_says_how_long_the_file_is(self, ask, value):
        answer = ask(Range=value)
        assert (answer.status, answer.header("Content-Range")) == (416, f"bytes */{SIZE}")
        assert answer.body == b""
        assert ask().body == TEXT

    def test_6_6_1_each_answer_has_a_date(self, ask):
        for fields in ({}, {"If_None_Match": "*"}, {"If_Match": '"x"'}, {"Range": "bytes=99999-"}):
            assert ask(**fields).header("Date")
        assert ask(target="/none").header("Date")
