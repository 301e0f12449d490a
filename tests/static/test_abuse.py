"""The list of abuse.py: each request as it is, cut at every byte, and beside an application."""

from __future__ import annotations

import os
import re

import pytest

from tests.harness.http import Client, Truncated
from tests.harness.unprivileged import UnprivilegedNative
from tests.harness.waiting import until
from tests.static import abuse
from tests.static.abuse import ALPHA, CASES, SECRET, Case, get
from tests.static.trees import put

# Connections at the same time: no more than the queue of the listener takes (--listen).
TOGETHER = 80
# Places to cut a request: all, if it is no longer than this.
MOST = 240
SECURITY = r"\[fileserve\] security error"
NAMES = [case.name for case in CASES]
BOUNDARY = re.compile(rb"greenloom-[0-9a-f]{16}")


def test_the_list():
    assert len(CASES) >= 60
    assert len(set(NAMES)) == len(NAMES)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return abuse.build(tmp_path_factory.mktemp("abuse"))


@pytest.fixture(params=CASES, ids=NAMES)
def case(request, root) -> Case:
    found: Case = request.param
    if found.needs_root and os.geteuid() != 0:
        pytest.skip("only root can make devices")
    folder = os.fsencode(root.parent).lstrip(b"/")
    return Case(found.name, found.request.replace(b"FOLDER", folder), found.status, found.body)


def answer_of(client: Client, case: Case) -> tuple[int, bytes]:
    """Status and body; what differs from answer to answer is made the same."""
    answer = client.read_response("HEAD" if case.request.startswith(b"HEAD") else "GET")
    assert SECRET not in answer.raw_head + answer.body
    assert b"root:" not in answer.body, "the system's users"
    assert answer.header("X-Injected") is None
    return answer.status, BOUNDARY.sub(b"greenloom-X", answer.body)


def options(root) -> list[str]:
    return ["--static-map", f"/s={root}", "--check-static", str(root), *abuse.OPTIONS]


def cuts(size: int) -> list[int]:
    """Between all bytes; of long requests, between all near the ends and some in between."""
    if size <= MOST:
        return list(range(1, size))
    edge = MOST // 3
    step = (size - 2 * edge) // edge + 1
    return [*range(1, edge), *range(edge, size - edge, step), *range(size - edge, size)]


def test_plain_and_cut(native, root, case):
    """Cut: the first piece has arrived when the second one is sent."""
    server = native(*options(root), allow=[SECURITY])
    with server.http() as client:
        client.send(case.request)
        expected = answer_of(client, case)
    assert case.allows(expected[0]), expected
    if case.body is not None:
        assert expected[1] == case.body
    places = cuts(len(case.request))
    for start in range(0, len(places), TOGETHER):
        some = places[start : start + TOGETHER]
        clients = [server.http() for _ in some]
        for client, place in zip(clients, some, strict=True):
            client.send(case.request[:place])
        # In the order of arrival: when this one is answered, those have been read.
        assert server.get("/s/a.txt").body == ALPHA
        for client, place in zip(clients, some, strict=True):
            assert cut_off_or(expected, client, case, place), f"cut at {place}"
        server.close_clients()


def cut_off_or(expected, client: Client, case: Case, place: int) -> bool:
    """Whether the rest of the request gets the same answer, or comes too late for a refusal."""
    try:
        client.send(case.request[place:])
        return answer_of(client, case) == expected
    except (BrokenPipeError, ConnectionResetError, Truncated):
        return expected[0] in (400, 414, 431)


def test_beside_an_application(serve, root, case):
    """What is no file is the application's, which knows nothing of secrets either."""
    server = serve("echo", *options(root), allow=[SECURITY])
    with server.http() as client:
        client.send(case.request)
        status, body = answer_of(client, case)
    if case.allows(404) and status == 200:
        assert body == b"" or b'"method"' in body, "the application has answered"
    else:
        assert case.allows(status)


def test_the_same_over_the_other_protocol(native, root):
    """A front-end decodes paths: these arrive as a file system would take them."""
    server = native(*options(root), allow=[SECURITY], uwsgi="127.0.0.1:0")
    for path in (
        "/s/../secret.txt", "/s/sub/../../secret.txt", "/../secret.txt", "/s/./a.txt", "/s/..",
        "s/a.txt", "", "../secret.txt", "/s/a.txt\0", "/s/\0/../secret.txt", "/s/.env",
        "/s/out-relative", "/s/out-directory/secret.txt", "/s/fifo", "/s/..\\secret.txt",
        "/s/\xff\xfe", "/s/" + "n" * 5000, "//etc/passwd", "/s/out-root/etc/passwd",
    ):  # fmt: skip
        with server.packets() as client:
            answer = client.ask(path=path)
        assert answer.status in (400, 404), path
        assert SECRET not in answer.body
    with server.packets() as client:
        assert client.ask(path="/s/a.txt").body == ALPHA


class TestReplacedOnTheWay:
    def test_a_link_that_changes_sides(self, native, root):
        """In and out again and again, while it is asked for: only what is inside ever comes."""
        server = native(*options(root), allow=[SECURITY])
        path, spare = root / "changing", root / "spare"
        statuses = set()
        with server.http() as client:
            for number in range(400):
                spare.symlink_to("a.txt" if number % 2 else "../secret.txt")
                os.replace(spare, path)
                # Not read at once, so that renames and lookups overlap.
                client.send(get("/s/changing").replace(b"Connection: close\r\n", b""))
                if number % 4 == 3:
                    for _ in range(4):
                        answer = client.read_response()
                        assert answer.body in (ALPHA, abuse.NONE)
                        statuses.add(answer.status)
        path.unlink()
        assert 200 in statuses


class TestRights:
    """Root may read everything: these servers are somebody else."""

    @pytest.fixture
    def server(self, fresh, unprivileged_native: UnprivilegedNative):
        user = unprivileged_native
        root = user.folder / "root"
        put(root / "a.txt", ALPHA)
        put(root / "closed.txt", SECRET).chmod(0)
        put(root / "closed/b.txt", SECRET)
        (root / "closed").chmod(0o700)
        put(root / "unlisted/c.txt", ALPHA)
        put(root / "unlisted/index.html", ALPHA)
        (root / "unlisted").chmod(0o711)
        put(root / "closed-index/index.html", SECRET).chmod(0)
        return fresh(
            None, "--static-map", f"/s={root}", "--uid", user.name, *abuse.OPTIONS,
            program=user.program, probe=False, cwd=user.folder, allow=["cannot open .* denied"],
        )  # fmt: skip

    def test_what_may_not_be_read_is_403(self, server):
        for target in ("/s/closed.txt", "/s/closed/b.txt", "/s/closed-index/"):
            answer = server.get(target)
            assert (answer.status, answer.body) == (403, abuse.DENIED), target
            name = target.removeprefix("/s/")
            server.wait_for_log(rf"cannot open \S*{name}\S*: Permission denied .*answered 403\)$")
        assert server.get("/s/a.txt").body == ALPHA

    def test_a_directory_that_may_only_be_passed(self, server):
        assert server.get("/s/unlisted/c.txt").body == ALPHA
        assert server.get("/s/unlisted/none").status == 404

    def test_the_index_of_such_a_directory(self, server):
        """As with uWSGI and nginx: nobody needs the list."""
        assert server.get("/s/unlisted/").body == ALPHA


def test_a_fifo_has_no_reader_and_no_writer_left(native, root):
    """A look at it neither waits for the other end nor keeps its own."""
    server = native(*options(root))
    for _ in range(20):
        assert server.get("/s/fifo").status == 404

    def nobody_reads():
        try:
            os.close(os.open(root / "fifo", os.O_WRONLY | os.O_NONBLOCK))
        except OSError:
            return True
        return False

    until(nobody_reads, "the FIFO is closed")
