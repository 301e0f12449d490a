"""Files that change while they are sent, clients that do not read or leave, workers that leave."""

from __future__ import annotations

import os
import signal

import pytest

from tests.harness import procs
from tests.harness.http import Client, Truncated
from tests.harness.look_around import refused
from tests.harness.uwsgi import packet, variables
from tests.harness.waiting import until
from tests.static.trees import age, etag, pattern, plant, put

MIB = 1 << 20
SIZE = 16 * MIB
"""More than the buffers of both sockets hold, several times."""
CONTENT = pattern(SIZE)
SMALL = b"small"
# A window of a few KiB, so that nearly all of a file waits in the server.
STALLED = {"receive_buffer": 4096}


@pytest.fixture
def root(tmp_path):
    return plant(tmp_path / "root", **{"big": CONTENT, "small": SMALL})


def begin(server, target="/big", **fields: str) -> Client:
    """A download that has begun and gets no further than the buffers."""
    client = server.http(**STALLED)
    client.send_request("GET", target, [(k.replace("_", "-"), v) for k, v in fields.items()])
    client.head = client.read_head()
    return client


def until_cut(client: Client) -> bytes:
    """What comes until the connection ends, in whichever way."""
    parts = [client.buffer]
    client.buffer = b""
    try:
        while data := client.socket.recv(1 << 20):
            parts.append(data)
    except ConnectionResetError:
        pass
    return b"".join(parts)


def holds(server, name: str, pid: int | None = None) -> int:
    """How often a worker has a file of this name open."""
    files = procs.open_files(pid or server.worker()).values()
    return sum(name in path for path in files)


class TestChangedWhileItIsSent:
    def test_truncated_ahead_of_what_has_left(self, fresh_native, root):
        server = fresh_native("--check-static", str(root), allow=["cannot send the rest of a file"])
        client = begin(server)
        keep = 10 * MIB
        os.truncate(root / "big", keep)
        got = until_cut(client)
        assert got == CONTENT[:keep]
        server.wait_for_log(
            r"cannot send the rest of a file: it has become shorter since it was opened "
            r"\(client 127\.0\.0\.1:\d+, the connection is cut\)$"
        )
        (line,) = server.wait_requests(1)
        assert (line.status, line.body_bytes) == (200, keep)
        assert server.get("/big").body == CONTENT[:keep]
        assert server.get("/small").body == SMALL

    def test_truncated_to_nothing(self, fresh_native, root):
        server = fresh_native("--check-static", str(root), allow=["cannot send the rest of a file"])
        client = begin(server)
        os.truncate(root / "big", 0)
        got = until_cut(client)
        assert len(got) < SIZE
        assert got == CONTENT[: len(got)]
        server.wait_for_log("cannot send the rest of a file: it has become shorter")
        assert server.get("/big").body == b""

    def test_truncated_between_two_ranges(self, fresh_native, root):
        server = fresh_native("--check-static", str(root), allow=["cannot send the rest of a file"])
        client = begin(server, Range=f"bytes=0-{8 * MIB - 1},{12 * MIB}-")
        os.truncate(root / "big", 10 * MIB)
        got = until_cut(client)
        assert CONTENT[: 8 * MIB] in got
        assert len(got) < 8 * MIB + 1000
        server.wait_for_log("cannot send the rest of a file: it has become shorter")

    def test_truncated_under_many(self, fresh_native, root):
        """Each of them is cut, and nobody else."""
        server = fresh_native("--check-static", str(root), allow=["cannot send the rest of a file"])
        put(root / "other", CONTENT)
        bystander = begin(server, "/other")
        clients = [begin(server) for _ in range(10)]
        os.truncate(root / "big", 8 * MIB)
        for client in clients:
            assert until_cut(client) == CONTENT[: 8 * MIB]
        assert bystander.read_body(bystander.head).body == CONTENT
        server.expect_log("cannot send the rest of a file", 10)

    def test_over_the_uwsgi_protocol(self, fresh_native, root):
        """The end of the connection is no end of the body: its length tells."""
        server = fresh_native(
            "--check-static",
            str(root),
            uwsgi="127.0.0.1:0",
            allow=["cannot send the rest of a file"],
        )
        with server.packets(**STALLED) as client:
            client.send(packet(variables(path="/big")))
            head = client.read_head()
            os.truncate(root / "big", 8 * MIB)
            assert head.header("Content-Length") == str(SIZE)
            assert until_cut(client) == CONTENT[: 8 * MIB]

    def test_deleted(self, fresh_native, root):
        server = fresh_native("--check-static", str(root))
        client = begin(server)
        os.unlink(root / "big")
        assert server.get("/big").status == 404
        assert client.read_body(client.head).body == CONTENT
        assert client.get("/small").body == SMALL
        assert not holds(server, "/big")

    def test_growing(self, fresh_native, root):
        """What was announced is sent, and nothing of what came later."""
        server = fresh_native("--check-static", str(root))
        client = begin(server)
        with (root / "big").open("ab") as file:
            file.write(b"more" * 1000)
        assert client.read_body(client.head).body == CONTENT
        assert client.get("/small").body == SMALL
        assert client.get("/big").body == CONTENT + b"more" * 1000

    def test_growing_all_the_time(self, fresh_native, root):
        server = fresh_native("--check-static", str(root))
        path = put(root / "log", b"")
        with path.open("ab", buffering=0) as file, server.http() as client:
            for number in range(300):
                file.write(b"%07d\n" % number)
                body = client.get("/log").body
                assert body == b"".join(b"%07d\n" % n for n in range(number + 1))

    def test_replaced(self, fresh_native, root):
        """By a rename, as deployments do it: each has what its own tag says."""
        server = fresh_native("--check-static", str(root))
        client = begin(server)
        other = pattern(SIZE, seed=100)
        put(root / "new", other)
        age(root / "new", 1_700_000_001)
        os.rename(root / "new", root / "big")
        fresh = server.get("/big")
        assert fresh.body == other
        assert fresh.header("ETag") == etag(SIZE, 1_700_000_001)
        assert client.head.header("ETag") == etag(SIZE)
        assert client.read_body(client.head).body == CONTENT

    def test_replaced_small_files_are_never_mixed(self, fresh_native, root):
        server = fresh_native("--check-static", str(root))
        contents = [bytes([65 + n]) * (1000 + n) for n in range(4)]
        with server.http() as client:
            for number in range(400):
                put(root / "spare", contents[number % 4])
                os.rename(root / "spare", root / "file")
                answer = client.get("/file")
                assert answer.body == contents[number % 4]


class TestDeployment:
    def test_a_root_that_is_swapped(self, fresh_native, tmp_path):
        """`current` points at another release: seen within a second or so, by everybody."""
        one = plant(tmp_path / "v1", **{"version": "one", "big": CONTENT})
        two = plant(tmp_path / "v2", **{"version": "two", "big": SMALL})
        current = tmp_path / "current"
        current.symlink_to("v1")
        server = fresh_native("--static-map", f"/s={current}")
        assert server.get("/s/version").body == b"one"
        client = begin(server, "/s/big")
        (tmp_path / "next").symlink_to("v2")
        os.rename(tmp_path / "next", current)
        until(lambda: server.get("/s/version").body == b"two", "the new release")
        for _ in range(20):
            assert server.get("/s/version").body == b"two"
        assert server.get("/s/big").body == SMALL
        assert client.read_body(client.head).body == CONTENT
        assert (one / "version").read_bytes() != (two / "version").read_bytes()

    def test_a_root_that_goes_and_comes(self, fresh_native, tmp_path):
        root = plant(tmp_path / "root", **{"a": "first"})
        server = fresh_native("--static-map", f"/s={root}")
        assert server.get("/s/a").body == b"first"
        root.rename(tmp_path / "away")
        until(lambda: server.get("/s/a").status == 404, "nothing there")
        plant(root, **{"a": "second"})
        until(lambda: server.get("/s/a").body == b"second", "the new root")


class TestDescriptors:
    LIMIT = 64
    ALLOWED = ("cannot accept connections", "Too many open files")

    def fill(self, server) -> list[Client]:
        """Connections until the worker can have no more."""
        clients = [server.http() for _ in range(80)]
        server.wait_for_log("cannot accept connections")
        return clients

    def test_none_left_for_a_file(self, fresh_native, root):
        """503 for that request; when there are some again, all is well on the same connection."""
        server = fresh_native(
            "--check-static", str(root), "--max-fd", str(self.LIMIT), allow=self.ALLOWED
        )
        kept = server.http()
        assert kept.get("/small").body == SMALL
        others = self.fill(server)
        answer = kept.get("/small")
        assert (answer.status, answer.body) == (503, b"Service Unavailable")
        server.wait_for_log(
            r"cannot open \S+: Too many open files .*; raise --max-fd .*answered 503"
        )
        for client in others:
            client.close()
        until(lambda: kept.get("/small").body == SMALL, "a descriptor")
        assert kept.get("/big").body == CONTENT
        assert server.get("/small").body == SMALL

    def test_downloads_go_on(self, fresh_native, root):
        server = fresh_native(
            "--check-static", str(root), "--max-fd", str(self.LIMIT), allow=self.ALLOWED
        )
        client = begin(server)
        others = self.fill(server)
        assert client.read_body(client.head).body == CONTENT
        for other in others:
            other.close()
        until(lambda: client.get("/small").status == 200, "a descriptor")

    def test_downloads_that_take_them_all(self, fresh_native, root):
        """Two for each; those that get none are told so."""
        server = fresh_native(
            "--check-static", str(root), "--max-fd", str(self.LIMIT), allow=self.ALLOWED
        )
        clients = [server.http(**STALLED) for _ in range(40)]
        for client in clients:
            client.send_request("GET", "/big", [("Connection", "close")])
        heads = [client.read_head() for client in clients[:5]]
        assert {head.status for head in heads} == {200}
        for client, head in zip(clients[:5], heads, strict=True):
            assert client.read_body(head).body == CONTENT
        server.close_clients()
        until(lambda: not holds(server, "/big"), "all files closed")
        assert server.get("/small").body == SMALL


class TestClients:
    @pytest.mark.parametrize("how", ["close", "reset"])
    def test_that_leave_in_the_middle(self, fresh_native, root, how):
        server = fresh_native("--check-static", str(root))
        before = None
        for _ in range(20):
            client = begin(server)
            taken = len(client.read_exactly(100_000))
            getattr(client, how)()
            until(lambda: not holds(server, "/big"), "the file is closed")
            now = len(procs.open_files(server.worker()))
            before = before or now
            assert now <= before
        lines = server.wait_requests(20)
        assert {line.cancelled for line in lines} == {"client gone"}
        assert all(taken <= line.body_bytes < SIZE for line in lines)
        assert server.get("/big").body == CONTENT

    def test_that_go_on_where_they_were_cut(self, fresh_native, root):
        """What a download manager does: the rest, if it is still the same file."""
        server = fresh_native("--check-static", str(root))
        got, tag = b"", ""
        while len(got) < SIZE:
            fields = {"Range": f"bytes={len(got)}-", "If_Range": tag} if got else {}
            client = begin(server, **fields)
            assert client.head.status == (206 if got else 200)
            tag = client.head.header("ETag")
            got += client.read_exactly(min(3 * MIB, SIZE - len(got)))
            client.reset()
        assert got == CONTENT
        (root / "big").write_bytes(CONTENT)
        answer = server.get("/big", Range="bytes=1000-", If_Range=tag)
        assert (answer.status, answer.body) == (200, CONTENT)

    def test_that_leave_at_once(self, fresh_native, root):
        """Before the answer, while it begins, while a helper may be looking."""
        server = fresh_native("--check-static", str(root))
        for number in range(200):
            client = server.http(**STALLED)
            client.send_request("GET", "/big" if number % 2 else "/small")
            (client.reset if number % 3 else client.close)()
        until(lambda: not holds(server, "/big"), "the files are closed")
        assert server.get("/small").body == SMALL

    def test_that_read_nothing(self, fresh_native, root):
        server = fresh_native("--check-static", str(root), "--socket-timeout", "1")
        client = begin(server)
        server.wait_for_log(
            r"write timeout: the client has read nothing for 1000 ms \(client 127\.0\.0\.1:\d+\)"
        )
        (line,) = server.wait_requests(1)
        assert line.status == 200
        until(lambda: not holds(server, "/big"), "the file is closed")
        got = until_cut(client)
        assert len(got) < SIZE
        assert got == CONTENT[: len(got)]
        assert len(got) <= line.body_bytes < SIZE

    @pytest.mark.parametrize("options", [(), ("--half-close",)], ids=["default", "half-close"])
    def test_that_stop_sending_after_a_request(self, fresh_native, root, options):
        """A half-closed connection that reads still gets what it has asked for."""
        server = fresh_native("--check-static", str(root), *options)
        client = begin(server)
        client.half_close()
        assert client.read_body(client.head).body == CONTENT

    def test_two_hundred_slow_ones(self, fresh_native, tmp_path):
        """They hold nobody up, and take no memory of the server's own."""
        content = CONTENT[: 8 * MIB]
        root = plant(tmp_path / "root", **{"big": content, "small": SMALL})
        server = fresh_native("--check-static", str(root))
        pid = server.worker()
        assert server.get("/big").body == content
        before = procs.rss_bytes(pid)
        slow = [begin(server) for _ in range(200)]
        assert holds(server, "/big") == 200
        for _ in range(100):
            assert server.get("/small").body == SMALL
        for client in slow:
            client.read_exactly(10_000)
        with server.http() as other:
            for _ in range(100):
                assert other.get("/small").body == SMALL
        assert procs.rss_bytes(pid) - before < 8 * MIB
        for client in slow[:20]:
            rest = client.read_exactly(len(content) - 10_000)
            assert rest == content[10_000:]
        server.close_clients()
        until(lambda: not holds(server, "/big"), "all files closed")

    def test_pipelined_and_gone(self, fresh_native, root):
        server = fresh_native("--check-static", str(root))
        client = server.http(**STALLED)
        client.send(b"GET /big HTTP/1.1\r\nHost: a\r\n\r\n" * 50)
        client.read_head()
        client.reset()
        until(lambda: not holds(server, "/big"), "the file is closed")
        assert server.get("/small").body == SMALL


def is_cold(path) -> bool:
    """Whether the kernel would have to read a file from the disk."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        try:
            os.preadv(file.fileno(), [bytearray(1)], 4 * MIB, os.RWF_NOWAIT)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return False


def cool(path) -> None:
    """Has the kernel forget a file; where that is impossible (tmpfs) there is nothing to test."""
    try:
        until(lambda: is_cold(path), "the file is not in memory", 5)
    except AssertionError:
        pytest.skip(f"{path} stays in memory on this file system")


class TestDisk:
    def test_what_is_not_in_memory_is_read_by_helpers(self, fresh_native, root):
        server = fresh_native("--check-static", str(root))
        cool(root / "big")
        client = begin(server)
        assert server.get("/small").body == SMALL
        assert client.read_body(client.head).body == CONTENT
        assert "greenloom-helpe" in procs.thread_names(server.worker())

    def test_ranges_and_many_at_once(self, fresh_native, root):
        server = fresh_native("--check-static", str(root), "--offload-threads", "2")
        cool(root / "big")
        clients = [server.http() for _ in range(14)]
        for number, client in enumerate(clients):
            first = number * MIB
            client.send_request("GET", "/big", [("Range", f"bytes={first}-{first + 2 * MIB - 1}")])
        for number, client in enumerate(clients):
            first = number * MIB
            assert client.read_response().body == CONTENT[first : first + 2 * MIB]
        assert procs.thread_names(server.worker()).count("greenloom-helpe") <= 2

    def test_the_order_of_answers_stays(self, fresh_native, root):
        """What comes behind a file that has to be read waits for it."""
        server = fresh_native("--check-static", str(root))
        cool(root / "big")
        client = server.http()
        request = b"GET /%s HTTP/1.1\r\nHost: a\r\n\r\n"
        client.send(b"".join(request % name for name in (b"big", b"small", b"none", b"big")))
        assert client.read_response().body == CONTENT
        assert client.read_response().body == SMALL
        assert client.read_response().status == 404
        assert client.read_response().body == CONTENT

    def test_clients_that_leave_while_it_is_read(self, fresh_native, root):
        server = fresh_native("--check-static", str(root))
        for _ in range(10):
            cool(root / "big")
            client = server.http()
            client.send_request("GET", "/big")
            client.reset()
        until(lambda: not holds(server, "/big"), "the file is closed")
        assert server.get("/big").body == CONTENT


class TestWorkersThatLeave:
    def test_reload_during_a_download(self, start):
        server = start()
        (old,) = server.workers()
        idle = server.http()
        assert idle.get("/small").body == SMALL
        client = begin(server)
        server.reload()
        assert server.get("/small").body == SMALL
        assert idle.get("/small").body == SMALL
        assert procs.alive(old)
        assert client.read_body(client.head).body == CONTENT
        until(lambda: not procs.alive(old), "the old worker has left")
        until(lambda: old not in server.workers(), "one worker")

    def test_a_new_configuration_at_the_reload(self, fresh_native, root, tmp_path):
        other = plant(tmp_path / "other", **{"small": "other"})
        ini = tmp_path / "x.ini"
        ini.write_text(f"[uwsgi]\nstatic-map = /s={root}\n")
        server = fresh_native("--ini", str(ini))
        assert server.get("/s/small").body == SMALL
        ini.write_text(f"[uwsgi]\nstatic-map = /s={other}\n")
        server.reload()
        assert server.get("/s/small").body == b"other"

    def test_stop_waits_for_a_download(self, start):
        server = start()
        client = begin(server)
        server.signal(signal.SIGTERM)
        until(lambda: refused(server.http_address), "nobody accepts any more")
        assert client.read_body(client.head).body == CONTENT
        assert server.wait_exit() == 0

    def test_stop_cuts_what_takes_too_long(self, start):
        server = start("--worker-reload-mercy", "1")
        client = begin(server)
        server.signal(signal.SIGTERM)
        assert server.wait_exit() == 0
        got = until_cut(client)
        assert len(got) < SIZE
        assert got == CONTENT[: len(got)]
        (line,) = server.wait_requests(1)
        assert (line.cancelled, line.status) == ("stop", 200)
        assert len(got) <= line.body_bytes < SIZE

    def test_a_second_signal_stops_at_once(self, start):
        server = start()
        client = begin(server)
        server.signal(signal.SIGTERM)
        server.wait_for_log("a second signal ends them at once")
        server.signal(signal.SIGTERM)
        assert server.wait_exit() == 0
        assert len(until_cut(client)) < SIZE

    def test_without_a_master(self, fresh_native, root):
        server = fresh_native("--check-static", str(root), "--master=false")
        client = begin(server)
        assert server.get("/small").body == SMALL
        server.signal(signal.SIGTERM)
        assert client.read_body(client.head).body == CONTENT
        assert server.wait_exit() == 0

    @pytest.mark.parametrize("who", ["master", "worker"])
    def test_a_question_for_stacks_harms_nobody(self, fresh_native, root, who):
        """SIGUSR2: there are none, without an interpreter."""
        server = fresh_native("--check-static", str(root))
        client = begin(server)
        worker = server.worker()
        server.signal(signal.SIGUSR2, None if who == "master" else worker)
        assert client.read_body(client.head).body == CONTENT
        assert server.get("/small").body == SMALL
        assert server.workers() == [worker]

    def test_recycling(self, start):
        """Requests for files count; none is lost, a long one neither."""
        server = start("--max-requests", "10")
        (old,) = server.workers()
        client = begin(server)
        with server.http() as other:
            for _ in range(15):
                assert other.get("/small").body == SMALL
        until(lambda: server.workers() != [old], "another worker")
        assert client.read_body(client.head).body == CONTENT
        until(lambda: not procs.alive(old), "the old worker has left")
        assert server.get("/small").body == SMALL

    def test_a_worker_that_is_killed(self, fresh_native, root):
        server = fresh_native("--check-static", str(root), allow=["DAMN ! worker"])
        client = begin(server)
        (old,) = server.workers()
        server.signal(signal.SIGKILL, old)
        with pytest.raises((Truncated, ConnectionResetError)):
            client.read_body(client.head)
        until(lambda: server.workers() not in ([], [old]), "another worker")
        assert server.get("/big").body == CONTENT
