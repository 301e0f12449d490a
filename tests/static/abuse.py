"""Requests that try to get what they must not have, and what they get: one list.

The tree they are sent to is made by `build`: a root with everything that can lie in one, and beside
it what nobody may see. Each of the secret files holds SECRET.
"""

from __future__ import annotations

import os
import socket
import stat
from dataclasses import dataclass
from pathlib import Path

from tests.static.trees import etag, plant

SECRET = b"TOP-SECRET-CONTENT"
ALPHA = b"alpha\n"
BIG = bytes(n % 251 for n in range(5000))
INDEX = b"the index\n"
OPTIONS = ("--static-index", "index.html", "--static-dotfiles=false", "--buffer-size", "32768")
DENIED = b"Forbidden"
NONE = b"Not Found"


def build(folder: Path) -> Path:
    """Returns the root; the prefix /s has it, and so has check-static."""
    secrets = ("secret.txt", "outside/secret.txt", "root-old/secret.txt", "root/.env")
    secrets += ("root/.git/config", "root/sub/.htpasswd", "rootsecret.txt", "root/.a/b")
    plant(folder, **dict.fromkeys(secrets, SECRET))
    root = folder / "root"
    plant(
        root,
        "empty",
        "noread",
        **{
            "a.txt": ALPHA,
            "big": BIG,
            "index.html": INDEX,
            "sub/b.txt": ALPHA,
            "sub/deep/c.txt": ALPHA,
            "100%.txt": ALPHA,
            "back\\slash": ALPHA,
            "new\nline": ALPHA,
            "semi;colon": ALPHA,
            "blank name": ALPHA,
            "..a": SECRET,
            "ä": ALPHA,
            "loopdir/x": ALPHA,
        },
    )
    (root / os.fsdecode(b"latin-\xe4")).write_bytes(ALPHA)
    long = root
    for _ in range(3):
        long = long / ("n" * 250)
    plant(long, **{"leaf": ALPHA})
    plant(root, **{"n" * 255: ALPHA})
    links = {
        "in-relative": "a.txt",
        "in-relative-deep": "sub/deep/c.txt",
        "in-absolute": root / "a.txt",
        "in-round": "../root/a.txt",
        "in-directory": "sub",
        "sub/up": "..",
        "sub/deep/top": "../..",
        "out-relative": "../secret.txt",
        "out-absolute": folder / "secret.txt",
        "out-directory": "../outside",
        "out-directory-absolute": folder / "outside",
        "out-old": "../root-old",
        "out-parent": "..",
        "out-root": "/",
        "out-proc": "/proc/self",
        "out-twice": "out-relative",
        "sub/out": "../out-directory/secret.txt",
        "loop": "loop",
        "loop-a": "loop-b",
        "loop-b": "loop-a",
        "loopdir/again": "../loopdir",
        "dangling": "nothing",
        "dangling-out": "../nothing",
        "magic-root": "/proc/self/root/etc/passwd",
        "to-hidden": ".env",
    }
    for name, target in links.items():
        (root / name).symlink_to(target)
    os.mkfifo(root / "fifo")
    with socket.socket(socket.AF_UNIX) as listener:
        # Its own path may be too long for an address.
        here = os.open(root, os.O_PATH)
        listener.bind(f"/proc/self/fd/{here}/socket")
        os.close(here)
    if os.geteuid() == 0:
        os.mknod(root / "null", 0o666 | stat.S_IFCHR, os.makedev(1, 3))
        os.mknod(root / "zero", 0o666 | stat.S_IFCHR, os.makedev(1, 5))
    return root


@dataclass(frozen=True)
class Case:
    """A request and what is answered: `status`, or one of several, and the body if it is told."""

    name: str
    request: bytes
    status: int | tuple[int, ...]
    body: bytes | None = None
    needs_root: bool = False

    def allows(self, status: int) -> bool:
        return status in (self.status if isinstance(self.status, tuple) else (self.status,))


def get(target: str | bytes, *lines: str, method: str = "GET") -> bytes:
    raw = target.encode("latin-1") if isinstance(target, str) else target
    more = "".join(f"{line}\r\n" for line in lines).encode("latin-1")
    head = method.encode() + b" " + raw + b" HTTP/1.1\r\nHost: a\r\nConnection: close\r\n"
    return head + more + b"\r\n"


# Nobody but the parser of targets: refused, or answered as something that is not there.
REFUSED_OR_ABSENT = (400, 404)


def none(name: str, target: str | bytes, status: int | tuple[int, ...] = 404) -> Case:
    return Case(name, get(target), status)


def file(name: str, target: str | bytes, body: bytes = ALPHA) -> Case:
    return Case(name, get(target), 200, body)


def ranges(name: str, value: str, status: int, body: bytes | None = None) -> Case:
    return Case(f"range: {name}", get("/s/big", f"Range: {value}"), status, body)


TRAVERSAL = [
    none("parent", "/s/../secret.txt"),
    none("parent at the root", "/../secret.txt"),
    none("parent below a directory", "/s/sub/../../secret.txt"),
    none("parent that stays inside", "/s/sub/../a.txt"),
    none("many parents", "/s/" + "../" * 60 + "etc/passwd"),
    none("parent of the prefix", "/s/.."),
    none("parent with a slash", "/s/../"),
    none("parent within the prefix", "/x/../s/a.txt"),
    none("dot segment", "/s/./a.txt"),
    none("only dots", "/s/...", 404),
    none("parent and a name", "/s/..a"),
    none("dots and blanks", "/s/..%20/secret.txt"),
    none("parent behind a double slash", "/s//../secret.txt"),
    none("a sibling with the root's name in front", "/s-old/secret.txt"),
    none("prefix without its slash", "/ssecret.txt"),
    none("the root's own name", "/s/../root/a.txt"),
    none("absolute path behind the prefix", "/s//etc/passwd"),
    none("absolute path of a secret", "/s/FOLDER/secret.txt"),
    none("parameter behind a parent", "/s/..;/secret.txt"),
    none("parent with a parameter", "/s/..;a=b/secret.txt"),
    file("a parameter is part of a name", "/s/semi;colon"),
    file("double slashes are one", "/s//sub///b.txt"),
    file("no traversal at all", "/s/a.txt"),
    Case("absolute form", get("http://a/s/../secret.txt"), 404),
    Case("absolute form of a file", get("http://a/s/a.txt"), 200, ALPHA),
    Case("a path without a slash", get("s/a.txt"), 400),
    Case("asterisk", get("*"), REFUSED_OR_ABSENT),
    Case("another scheme", get("file:///etc/passwd"), REFUSED_OR_ABSENT),
]

ENCODINGS = [
    none("%2e%2e", "/s/%2e%2e/secret.txt"),
    none("%2E%2E", "/s/%2E%2E/secret.txt"),
    none(".%2e", "/s/.%2e/secret.txt"),
    none("%2e.", "/s/%2e./secret.txt"),
    none("%2e", "/s/%2e/a.txt"),
    none("..%2f", "/s/..%2fsecret.txt"),
    none("..%2F", "/s/..%2Fsecret.txt"),
    none("%2e%2e%2f", "/s/%2e%2e%2fsecret.txt"),
    none("%2f inside", "/s/sub%2fb.txt"),
    none("%2f in front", "/s/%2fetc%2fpasswd"),
    none("%2f for the first slash", "/%2fs/a.txt"),
    none("..%5c", "/s/..%5csecret.txt"),
    none("%5c..%5c", "/s/%5c..%5c..%5csecret.txt"),
    none("backslashes", "/s/..\\..\\secret.txt", REFUSED_OR_ABSENT),
    file("%5c is a part of a name", "/s/back%5cslash"),
    none("%00 behind a name", "/s/a.txt%00", REFUSED_OR_ABSENT),
    none("%00 before an ending", "/s/a.txt%00.html", REFUSED_OR_ABSENT),
    none("%00 before a parent", "/s/%00/../secret.txt", REFUSED_OR_ABSENT),
    none("double encoding", "/s/%252e%252e/secret.txt"),
    none("double encoded slash", "/s/..%252fsecret.txt"),
    none("triple encoding", "/s/%25252e%25252e%25252fsecret.txt"),
    none("overlong dots", "/s/%c0%ae%c0%ae/secret.txt"),
    none("overlong slash", "/s/..%c0%afsecret.txt"),
    none("overlong slash of three", "/s/..%e0%80%afsecret.txt"),
    none("overlong slash of four", "/s/..%f0%80%80%afsecret.txt"),
    none("full-width slash", "/s/..%ef%bc%8fsecret.txt"),
    none("full-width dots", "/s/%ef%bc%8e%ef%bc%8e/secret.txt"),
    none("a fraction slash", "/s/..%e2%81%84secret.txt"),
    none("UTF-16", "/s/%00.%00.%00/secret.txt", REFUSED_OR_ABSENT),
    none("%u002e", "/s/%u002e%u002e/secret.txt", REFUSED_OR_ABSENT),
    none("a lone %", "/s/%", REFUSED_OR_ABSENT),
    none("% with one digit", "/s/a.txt%2", REFUSED_OR_ABSENT),
    none("% with no digits", "/s/a%zz.txt", REFUSED_OR_ABSENT),
    file("an encoded %", "/s/100%25.txt"),
    file("invalid UTF-8 that is a name", "/s/latin-%e4"),
    none("invalid UTF-8 that is none", "/s/%ff%fe"),
    none("a cut sequence", "/s/%c3"),
    file("UTF-8", "/s/%c3%a4"),
    none("raw bytes above 127", b"/s/\xff\xfe", REFUSED_OR_ABSENT),
    file("a line end in a name", "/s/new%0aline"),
    none("an injected field", "/s/a%0d%0aX-Injected:%201"),
    file("an encoded blank", "/s/blank%20name"),
    none("plus is no blank", "/s/blank+name"),
    Case("a raw blank", get("/s/blank name"), 400),
    file("everything encoded", "/%73/%61%2e%74%78%74"),
    none("encoded question mark", "/s/a.txt%3fx=1"),
    Case("a fragment", get("/s/a.txt#../secret"), REFUSED_OR_ABSENT),
    none("query with a parent", "/s/none?/../secret.txt"),
    file("a file with a query", "/s/a.txt?/../../secret.txt"),
]

LINKS = [
    file("link: relative", "/s/in-relative"),
    file("link: relative and deep", "/s/in-relative-deep"),
    file("link: absolute inside", "/s/in-absolute"),
    file("link: out and in again", "/s/in-round"),
    file("link: a directory inside", "/s/in-directory/b.txt"),
    file("link: up but inside", "/s/sub/up/a.txt"),
    file("link: up twice but inside", "/s/sub/deep/top/a.txt"),
    file("link: around in circles", "/s/sub/up/sub/up/sub/up/a.txt"),
    file("link: a directory in itself", "/s/loopdir/again/again/again/x"),
    none("link: relative outside", "/s/out-relative"),
    none("link: absolute outside", "/s/out-absolute"),
    none("link: through a directory outside", "/s/out-directory/secret.txt"),
    none("link: through an absolute one", "/s/out-directory-absolute/secret.txt"),
    none("link: a sibling with a longer name", "/s/out-old/secret.txt"),
    none("link: the parent", "/s/out-parent/secret.txt"),
    none("link: the parent and back", "/s/out-parent/root/.env"),
    none("link: / and a file", "/s/out-root/etc/passwd"),
    none("link: /proc/self", "/s/out-proc/environ"),
    none("link: /proc/self/fd", "/s/out-proc/fd/0"),
    none("link: a magic link", "/s/magic-root"),
    none("link: a link to one that leads out", "/s/out-twice"),
    none("link: from below through one that leads out", "/s/sub/out"),
    none("link: to itself", "/s/loop"),
    none("link: two that point at each other", "/s/loop-a"),
    none("link: forty deep", "/s/loopdir" + "/again" * 41 + "/x"),
    none("link: dangling", "/s/dangling"),
    none("link: dangling outside", "/s/dangling-out"),
    none("link: a slash behind one", "/s/in-relative/"),
    none("link: a slash behind one that leads out", "/s/out-directory/"),
]

KINDS = [
    none("kind: FIFO", "/s/fifo"),
    none("kind: FIFO with a slash", "/s/fifo/"),
    none("kind: socket", "/s/socket"),
    Case("kind: device null", get("/s/null"), 404, needs_root=True),
    Case("kind: device zero", get("/s/zero"), 404, needs_root=True),
    none("kind: directory without index", "/s/empty"),
    none("kind: directory without index, slash", "/s/empty/"),
    file("kind: directory with index", "/s/", INDEX),
    file("kind: directory with index, no slash", "/s", INDEX),
    none("kind: slash behind a file", "/s/a.txt/"),
    none("kind: slashes behind a file", "/s/a.txt//"),
    none("kind: file as a directory", "/s/a.txt/b.txt"),
    none("kind: parent of a file", "/s/a.txt/../a.txt"),
    Case("kind: HEAD of a FIFO", get("/s/fifo", method="HEAD"), 404, b""),
]

HIDDEN = [
    none("hidden: .env", "/s/.env"),
    none("hidden: %2eenv", "/s/%2eenv"),
    none("hidden: .git", "/s/.git/config"),
    none("hidden: below a directory", "/s/sub/.htpasswd"),
    none("hidden: directory", "/s/.a/b"),
    none("hidden: double slash", "/s//.env"),
    none("hidden: by check-static", "/.env"),
]

LENGTHS = [
    file("length: the longest name", "/s/" + "n" * 255),
    none("length: one more", "/s/" + "n" * 256),
    none("length: a long name", "/s/" + "n" * 5000),
    none("length: longer than any path", "/s/" + "d/" * 2500 + "a.txt"),
    none("length: long before a parent", "/s/" + "n" * 5000 + "/../secret.txt"),
    file("length: three long directories", "/s/" + ("n" * 250 + "/") * 3 + "leaf"),
    none("length: many slashes before nothing", "/s" + "/" * 4000 + "none"),
    file("length: many slashes before a file", "/s" + "/" * 4000 + "a.txt"),
    none("length: many encoded dots", "/s/" + "%2e" * 3000),
    Case("length: beyond the buffer", get("/s/" + "n" * 40_000), (414, 431)),
]

WHOLE = BIG
RANGES = [
    ranges("huge last", "bytes=0-99999999999999999999", 206, BIG),
    ranges("huge first", "bytes=99999999999999999999-", 416, b""),
    ranges("2^64", "bytes=18446744073709551616-", 416, b""),
    ranges("2^64-1", "bytes=18446744073709551615-18446744073709551615", 416, b""),
    ranges("2^63", "bytes=9223372036854775808-9223372036854775809", 416, b""),
    ranges("huge suffix", "bytes=-99999999999999999999", 206, BIG),
    ranges(
        "suffix of 2^64-1 and more", "bytes=-18446744073709551615,-18446744073709551615", 206, BIG
    ),
    ranges("one thousand digits", "bytes=0-" + "9" * 1000, 206, BIG),
    ranges("negative first", "bytes=-5-10", 200, BIG),
    ranges("negative both", "bytes=-5--1", 200, BIG),
    ranges("last before first", "bytes=10-5", 200, BIG),
    ranges("behind the end", "bytes=5000-", 416, b""),
    ranges("suffix of nothing", "bytes=-0", 416, b""),
    ranges("the last byte", "bytes=4999-", 206, BIG[-1:]),
    ranges("a thousand", "bytes=" + ",".join(f"{n}-{n}" for n in range(0, 2000, 2)), 200, BIG),
    ranges("a thousand of all", "bytes=" + ",".join(["0-"] * 1000), 200, BIG),
    ranges("a thousand suffixes", "bytes=" + ",".join(f"-{n}" for n in range(1, 1001)), 200, BIG),
    ranges("a thousand behind the end", "bytes=" + ",".join(["5000-"] * 1000), 416, b""),
    ranges("a thousand commas", "bytes=0-1" + "," * 1000, 206, BIG[:2]),
    ranges("overlapping", "bytes=0-100,50-150,100-200,150-250", 200, None),
    ranges("nested", "bytes=0-4999,1-4998,2-4997,3-4996", 200, None),
    ranges("several", "bytes=0-0,2-2,-1", 206, None),
    ranges("letters", "bytes=a-z", 200, BIG),
    ranges("hexadecimal", "bytes=0x0-0xff", 200, BIG),
    ranges("signs", "bytes=+1-+5", 200, BIG),
    ranges("blanks inside", "bytes=1 - 5", 200, BIG),
    ranges("fractions", "bytes=0.5-1.5", 200, BIG),
    ranges("another unit", "lines=0-1", 200, BIG),
    ranges("nothing", "", 200, BIG),
    ranges("bytes above 127", "bytes=\xb2-\xb3", 200, BIG),
    Case("range: of a FIFO", get("/s/fifo", "Range: bytes=0-1"), 404),
    Case("range: of a link outside", get("/s/out-relative", "Range: bytes=0-5"), 404),
    Case("range: of a directory", get("/s/empty", "Range: bytes=0-1"), 404),
    Case("range: HEAD", get("/s/big", "Range: bytes=0-1", method="HEAD"), 200, b""),
]

CONDITIONS = [
    Case(f"condition: {name}", get("/s/a.txt", line), status, body)
    for name, line, status, body in [
        ("a thousand tags", "If-None-Match: " + ", ".join(['"x"'] * 1000), 200, ALPHA),
        ("a tag without its end", f'If-None-Match: "{"x" * 1000}', 200, ALPHA),
        ("quotes alone", 'If-None-Match: """"""', 200, ALPHA),
        ("the tag behind a quote too many", f'If-None-Match: "{etag(6)}', 200, ALPHA),
        ("a year far away", "If-Modified-Since: Tue, 14 Nov 9999 22:13:20 GMT", 304, b""),
        ("a year of five digits", "If-Modified-Since: Tue, 14 Nov 99999 22:13:20 GMT", 200, ALPHA),
        ("a negative year", "If-Modified-Since: Tue, 14 Nov -2023 22:13:20 GMT", 200, ALPHA),
        (
            "before 1970 there are no dates",
            "If-Modified-Since: Tue, 14 Nov 1600 22:13:20 GMT",
            200,
            ALPHA,
        ),
    ]
]

CASES = TRAVERSAL + ENCODINGS + LINKS + KINDS + HIDDEN + LENGTHS + RANGES + CONDITIONS
