"""Answers with files: `uwsgi.sendfile`, `wsgi.file_wrapper`, and files handed over in a field.

Whatever the engine, the server sends the bytes, and the application need not be there meanwhile.
"""

from __future__ import annotations

import hashlib
import os
import random
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.contract.files.support import (
    CUT,
    FAR,
    FREEING,
    HUGE_SIZE,
    LARGE_SIZE,
    MIB,
    SMALL,
    WAYS,
    begun,
    is_truncated,
    line_of,
    make_large,
    rest,
    target,
)
from tests.harness import procs
from tests.harness.http import Truncated
from tests.harness.server import APPS
from tests.harness.waiting import until


class TestSendfile:
    @pytest.mark.parametrize("kind", ["path", "bytes", "fd", "raw", "file", "text"])
    def test_whole(self, server, files, kind):
        """Whatever names the file: all of it, and what was given is closed."""
        client = server.http()
        answer = client.get(target("sendfile", files.small, **{"as": kind}))
        assert (answer.status, answer.body) == (200, SMALL)
        assert answer.header("content-type") == "application/octet-stream"
        assert client.get("/hello").body == b"hello\n"
        line = line_of(server, "sendfile")
        assert (line.status, line.body_bytes, line.via) == (200, len(SMALL), "sendfile")
        server.expect_log("^it sent True$")
        server.expect_log("^it closed True$")

    def test_what_the_object_has_not_written_yet(self, server):
        answer = server.get(target("sendfile", **{"as": "written"}))
        assert answer.body == b"written"
        server.wait_for_log("^it closed True$")

    @pytest.mark.parametrize(
        ("pos", "size"),
        [
            (0, 0),
            (0, 1),
            (0, 5000),
            (0, 6000),
            (1000, 0),
            (1000, 500),
            (4999, 0),
            (4999, 100),
            (5000, 0),
            (5000, 5),
            (9000, 0),
            (FAR, FAR),
        ],
    )
    @pytest.mark.parametrize("kind", ["path", "fd"])
    def test_a_range(self, server, files, kind, pos, size):
        """No size is the rest; what lies behind the end is nothing."""
        client = server.http()
        answer = client.get(target("sendfile", files.small, pos=pos, size=size, **{"as": kind}))
        assert answer.body == SMALL[pos : pos + size if size else None]
        assert client.get("/hello").body == b"hello\n"
        server.wait_for_log("^it closed True$")

    def test_beyond_four_gibibytes(self, server, files):
        answer = server.get(target("sendfile", files.sparse, pos=FAR - 3, size=14))
        assert answer.body == b"\0\0\0far away\0\0\0"

    def test_an_offset_of_the_object_does_not_count(self, server, files):
        """As in uWSGI, pos alone does."""
        assert (
            server.get(target("twice", files.small, pos=4000)).body
            == SMALL[:1000] + SMALL[4000:4500]
        )

    def test_a_relative_path(self, server):
        """From where the application is."""
        answer = server.get(target("relative"))
        assert answer.body == (APPS / "contract_files" / "app.py").read_bytes()

    @pytest.mark.parametrize("path", ["missing", "small/below", "round", ""])
    def test_a_path_that_cannot_be_opened(self, server, files, path):
        """None, and the application answers something else."""
        answer = server.get(target("missing", files.root / path if path else ""))
        assert answer.body == b"instead"
        server.wait_for_log("^it sent None$")
        assert line_of(server, "missing").via is None

    @pytest.mark.parametrize(
        ("kind", "path"),
        [
            ("path", "folder"),
            ("path", "/dev/zero"),
            ("pipe", ""),
            ("pipe-file", ""),
            ("memory", ""),
        ],
    )
    def test_no_regular_file(self, server, files, kind, path):
        """An OSError, and what was given is closed all the same."""
        client = server.http()
        answer = client.get(target("sendfile", files.root / path, **{"as": kind}))
        assert (answer.status, answer.body) == (200, b"")
        assert client.get("/hello").body == b"hello\n"
        assert server.wait_for_log(r"^it raised (\w+)$")[1] in ("OSError", "UnsupportedOperation")
        server.wait_for_log("^it closed True$")

    def test_a_fifo_keeps_nobody_waiting(self, server, files):
        """Opening one waits for whoever writes into it: for ever."""
        answer = server.get(target("sendfile", files.fifo))
        assert answer.body == b""
        server.wait_for_log(r"^it (raised OSError|sent None)$")

    @pytest.mark.parametrize("kind", ["fd", "file"])
    def test_before_start_response(self, failing, files, kind):
        answer = failing.get(target("sendfile", files.small, unbegun="", **{"as": kind}))
        assert answer.status == 500
        failing.wait_for_log("^it raised RuntimeError$")
        failing.wait_for_log("^it closed True$")

    def test_arguments(self, server, files):
        answer = server.get(target("arguments", files.small))
        found = answer.body.decode().split()
        assert found[:4] == ["TypeError", "AttributeError", "AttributeError", "AttributeError"]
        assert found[4:7] == ["OverflowError", "OverflowError", "TypeError"]
        assert found[7:] == ["OSError", "OSError", "None"]

    def test_twice(self, server, files):
        client = server.http()
        answer = client.get(target("twice", files.small, pos=100))
        assert answer.body == SMALL[:1000] + SMALL[100:600]
        assert answer.framing == "chunked"
        answer = client.get(target("twice", files.small, pos=100, length=1500))
        assert answer.body == SMALL[:1000] + SMALL[100:600]
        assert answer.framing == "length"

    @pytest.mark.parametrize("how", ["between", "written"])
    @pytest.mark.parametrize("framing", ["chunked", "length", "close", "packets"])
    def test_between_other_parts(self, over_packets, files, how, framing):
        """Every byte where it belongs, though most of them never come here."""
        dot = b"." if how == "written" else b""
        for path, pos in (("small", 4000), ("large", LARGE_SIZE - 5 * MIB)):
            data = (files.root / path).read_bytes()
            expected = b"<" + data[:1000] + b"|" + data[pos:] + b">" + dot
            length = {"length": len(expected)} if framing == "length" else {}
            at = target(how, files.root / path, pos=pos, **length)
            if framing == "packets":
                path_, _, query = at.partition("?")
                answer = over_packets.packets().ask(path=path_, query=query)
            else:
                client = over_packets.http()
                version = "HTTP/1.0" if framing == "close" else "HTTP/1.1"
                answer = client.request("GET", at, version=version)
                assert answer.framing == framing
            assert hashlib.sha256(answer.body).digest() == hashlib.sha256(expected).digest()

    def test_with_the_context_of_the_request(self, server, files):
        assert server.get(target("context", files.small)).body == SMALL
        server.wait_for_log("^it sent True$")

    @pytest.mark.engines("greenlet", "gevent")
    @pytest.mark.parametrize("path", ["small", "large"])
    def test_from_another_coroutine(self, server, files, path):
        answer = server.get(target("context", files.root / path, greenlet=""))
        assert answer.body == (files.root / path).read_bytes()
        server.wait_for_log("^it sent True$")

    def test_many_parts(self, server, files):
        client = server.http()
        answer = client.get(target("many", files.small, count=300, size=10))
        assert answer.body == b"".join(SMALL[n : n + 10] for n in range(300))
        assert client.get("/hello").body == b"hello\n"

    def test_an_exception_behind_it(self, failing, files):
        """The client is not told that this was all."""
        client = failing.http()
        client.send_request(target=target("sendfile", files.small, **{"raise": ""}))
        with pytest.raises((Truncated, ConnectionResetError)):
            client.read_response()
        failing.wait_for_log("^RuntimeError: after sendfile$")

    def test_an_exception_behind_a_large_one(self, failing, files):
        """All that was sent before arrives, and then the end."""
        client = failing.http()
        client.send_request(target=target("sendfile", files.large, **{"raise": ""}))
        head = client.read_head()
        assert head.header("transfer-encoding") == "chunked"
        # The chunk is whole, and no other follows it.
        assert hashlib.sha256(client.read_chunk()).hexdigest() == files.large_hash
        with pytest.raises((Truncated, ConnectionResetError)):
            client.read_chunk()
        line = line_of(failing, "sendfile")
        assert line.body_bytes == LARGE_SIZE

    def test_suspends_until_it_has_left(self, suspending, server, files):
        """What comes behind it in the application happens behind it."""
        client = begun(server, target("sendfile", files.large))
        assert server.get("/hello").body == b"hello\n"
        assert server.count_log("^it sent") == 0
        assert rest(client) == files.large_hash
        server.wait_for_log("^it sent True$")
        assert line_of(server, "sendfile").switches >= 1


class TestWrapper:
    KINDS = ("file", "raw", "random", "temporary", "unnamed")

    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("after", ["", "read", "line", "seek", "end", "beyond"])
    def test_from_where_the_file_is(self, server, files, kind, after):
        """What read() would still give, buffers or not."""
        start = {"read": 100, "line": 8, "seek": 2000, "end": 5000, "beyond": 6000}.get(after, 0)
        client = server.http()
        answer = client.get(target("wrapper", files.small, after=after, **{"as": kind}))
        assert (answer.status, answer.body) == (200, SMALL[start:])
        # Its length is known, if there is something.
        assert answer.header("content-length") == str(len(SMALL[start:]))
        assert client.get("/hello").body == b"hello\n"
        line = line_of(server, "wrapper")
        assert (line.status, line.body_bytes, line.switches) == (200, len(SMALL[start:]), 1)
        server.expect_log("^it file closed$")
        if answer.body:
            assert line.via == "sendfile"

    def test_what_the_object_has_not_written_yet(self, server, tmp_path):
        path = tmp_path / "file"
        path.write_bytes(SMALL)
        answer = server.get(target("wrapper", path, after="written", **{"as": "random"}))
        assert answer.body == SMALL[7:]
        assert path.read_bytes() == b"changed" + SMALL[7:]

    @pytest.mark.parametrize("kind", ["memory", "gzip", "pipe", "reader"])
    @pytest.mark.parametrize("block", ["", 1000, 4096, 1_000_000, 0, -1])
    def test_what_is_no_file_is_read(self, server, files, kind, block):
        """Also where a descriptor is behind it, which holds other bytes, or has no end."""
        how = {"as": kind} if block == "" else {"as": kind, "block": block}
        answer = server.get(target("wrapper", files.small, **how))
        expected = b"through a pipe" if kind == "pipe" else SMALL
        assert answer.body == expected
        line = line_of(server, "wrapper")
        assert (line.via, line.body_bytes) == (None, len(expected))
        if kind in ("gzip", "pipe"):
            server.expect_log("^it file closed$")
        if kind == "reader":
            size = r"\(\)" if block in (0, -1) else rf"\({block or 32768},\)"
            asked = -(-len(SMALL) // (block or 32768)) if block != -1 else 1
            assert server.count_log(rf"^it read {size}$") == asked + 1
        if kind == "memory" and block == 1000:
            assert line.switches == 5

    def test_a_wrapper_in_a_wrapper(self, failing, files):
        """It has no read()."""
        answer = failing.get(target("wrapper", files.small, twice="", **{"as": "memory"}))
        assert answer.status == 500

    @pytest.mark.parametrize("kind", ["file", "memory"])
    @pytest.mark.parametrize("length", [0, 1, 4999])
    def test_a_length_that_is_shorter(self, server, files, kind, length):
        """So much is sent and no more, and the connection goes on."""
        client = server.http()
        answer = client.get(target("wrapper", files.small, length=length, **{"as": kind}))
        assert answer.body == SMALL[:length]
        assert client.get("/hello").body == b"hello\n"
        server.expect_log("sends more bytes than its Content-Length announces")
        assert line_of(server, "wrapper").body_bytes == length

    @pytest.mark.parametrize("kind", ["file", "memory"])
    def test_a_length_that_is_longer(self, server, files, kind):
        client = server.http()
        client.send_request(target=target("wrapper", files.small, length=5001, **{"as": kind}))
        with pytest.raises((Truncated, ConnectionResetError)):
            client.read_response()
        server.expect_log("sends fewer bytes than its Content-Length announces")
        assert line_of(server, "wrapper").body_bytes == len(SMALL)

    @pytest.mark.parametrize("kind", KINDS)
    def test_an_empty_file(self, server, files, kind):
        client = server.http()
        answer = client.get(target("wrapper", files.empty, **{"as": kind}))
        assert (answer.status, answer.body, answer.header("content-length")) == (200, b"", "0")
        assert client.get("/hello").body == b"hello\n"
        server.expect_log("^it file closed$")

    @pytest.mark.parametrize("length", ["", "length"])
    def test_several_in_an_iterable(self, server, files, length):
        """Each where it belongs; its maker may close it at once."""
        expected = b"<" + SMALL + b"|" + SMALL[4000:] + b">"
        how = {"length": len(expected)} if length else {}
        client = server.http()
        answer = client.get(target("inside", files.small, pos=4000, **how))
        assert answer.body == expected
        assert answer.framing == (length or "chunked")
        assert line_of(server, "inside").switches == 5

    def test_large_ones_in_an_iterable(self, server, files):
        data = files.large.read_bytes()
        client = begun(server, target("inside", files.large, pos=LARGE_SIZE - 1000))
        assert server.get("/hello").body == b"hello\n"
        expected = b"<" + data + b"|" + data[-1000:] + b">"
        assert rest(client) == hashlib.sha256(expected).hexdigest()

    def test_what_nobody_reads_is_not_asked_for(self, server, files):
        """One file at a time: no descriptors lie in wait for a client."""
        client = begun(server, target("sized_parts", files.large, count=5))
        for _ in range(5):
            assert server.get("/hello").body == b"hello\n"
        server.expect_log("^it makes")
        client.reset()
        until(lambda: line_of(server, "sized_parts"), "its end")
        server.expect_log("^it makes")

    def test_many_small_ones_in_an_iterable(self, server, files):
        answer = server.get(target("sized_parts", files.small, count=200))
        assert answer.body == SMALL * 200
        assert line_of(server, "sized_parts").switches == 200

    def test_start_response_before_the_file_is_opened(self, server, files):
        assert server.get(target("wrapper", files.small, early="")).body == SMALL

    def test_behind_what_was_written(self, server, files):
        answer = server.get(target("wrapper", files.small, early="<"))
        assert answer.body == b"<" + SMALL

    def test_a_close_that_fails(self, failing, files):
        """The file is sent all the same."""
        client = begun(failing, target("wrapper", files.large, close="fails"))
        failing.wait_for_log(r"^RuntimeError: in close\(\)$")
        assert rest(client) == files.large_hash
        assert client.get("/hello").body == b"hello\n"
        failing.expect_log("^it file closed$")

    @pytest.mark.parametrize("kind", ["file", "raw"])
    def test_a_file_without_a_size(self, server, kind):
        """The kernel's own ones have none; read() gives something."""
        answer = server.get(target("wrapper", "/proc/version", **{"as": kind}))
        assert answer.body == Path("/proc/version").read_bytes()


class TestFraming:
    """What the message around the file is like, whichever way it is sent."""

    @pytest.mark.parametrize("how", WAYS)
    def test_head(self, server, files, how):
        client = server.http()
        for _ in range(2):
            answer = client.request("HEAD", target(how, files.small))
            assert (answer.status, answer.body) == (200, b"")
            assert answer.header("content-length") in (None, str(len(SMALL)))
        answer = client.request("HEAD", target(how, files.large, length=LARGE_SIZE))
        assert answer.header("content-length") == str(LARGE_SIZE)
        assert client.get("/hello").body == b"hello\n"
        lines = server.wait_requests(4)
        assert [line.body_bytes for line in lines] == [0, 0, 0, 6]
        assert [line.via for line in lines] == [None] * 4

    @pytest.mark.parametrize("status", ["204 No Content", "304 Not Modified"])
    @pytest.mark.parametrize("how", WAYS)
    def test_without_a_body(self, server, files, how, status):
        client = server.http()
        answer = client.get(target(how, files.small, status=status))
        assert (answer.status, answer.body) == (int(status[:3]), b"")
        assert client.get("/hello").body == b"hello\n"
        line, _ = server.wait_requests(2)
        assert (line.body_bytes, line.via) == (0, None)
        if how == "wrapper":
            server.expect_log("^it file closed$")

    @pytest.mark.parametrize("how", WAYS)
    def test_http_1_0(self, server, files, how):
        client = server.http()
        answer = client.request("GET", target(how, files.small), version="HTTP/1.0")
        assert (answer.body, answer.header("transfer-encoding")) == (SMALL, None)
        client = server.http()
        answer = client.request("GET", target(how, files.large), version="HTTP/1.0")
        assert hashlib.sha256(answer.body).hexdigest() == files.large_hash

    @pytest.mark.parametrize("how", FREEING)
    def test_keep_alive_of_http_1_0(self, server, files, how):
        """A length that is known keeps the connection."""
        client = server.http()
        headers = [("Connection", "keep-alive")]
        for _ in range(3):
            answer = client.request("GET", target(how, files.small), headers, version="HTTP/1.0")
            assert (answer.body, answer.framing) == (SMALL, "length")

    @pytest.mark.parametrize("how", WAYS)
    def test_over_packets(self, over_packets, files, how):
        for path in ("small", "empty", "large"):
            path_, _, query = target(how, files.root / path).partition("?")
            answer = over_packets.packets().ask(path=path_, query=query)
            assert answer.status == 200
            digest = hashlib.sha256((files.root / path).read_bytes()).digest()
            assert hashlib.sha256(answer.body).digest() == digest

    @pytest.mark.parametrize("how", WAYS)
    def test_many_on_one_connection(self, server, files, how):
        client = server.http()
        for _ in range(20):
            assert client.get(target(how, files.small)).body == SMALL
        assert (
            hashlib.sha256(client.get(target(how, files.large)).body).hexdigest()
            == files.large_hash
        )
        assert client.get(target(how, files.empty)).body == b""

    @pytest.mark.parametrize("how", WAYS)
    def test_pipelined(self, server, files, how):
        """What is asked behind a large file waits for its end."""
        client = server.http()
        one = f"GET {target(how, files.large)} HTTP/1.1\r\nHost: a\r\n\r\n"
        two = f"GET {target(how, files.small)} HTTP/1.1\r\nHost: a\r\n\r\n"
        client.send(one + two + "GET /hello HTTP/1.1\r\nHost: a\r\n\r\n")
        assert hashlib.sha256(client.read_response().body).hexdigest() == files.large_hash
        assert client.read_response().body == SMALL
        assert client.read_response().body == b"hello\n"


class TestTheCoreIsFree:
    @pytest.mark.parametrize("how", FREEING)
    def test_while_the_file_is_sent(self, single, files, how):
        """The one core answers others, and the file is closed, while nearly all is unsent."""
        client = begun(single, target(how, files.huge))
        for _ in range(3):
            assert single.get("/hello").body == b"hello\n"
        said = "file" if how == "wrapper" else "body"
        single.expect_log(f"^it {said} closed$")
        # Its line comes when the file has left.
        assert [line.uri for line in single.wait_requests(3)] == ["/hello"] * 3
        assert rest(client) == files.huge_hash
        single.expect_log(f"^it {said} closed$")
        line = single.wait_requests(4)[3]
        assert (line.via, line.status, line.body_bytes) == ("sendfile", 200, HUGE_SIZE)
        assert (line.switches, line.app, line.core) == (1, 0, 0)
        assert client.get("/hello").body == b"hello\n"

    @pytest.mark.engines("none")
    def test_after_sendfile_where_nothing_suspends(self, single, files):
        client = begun(single, target("sendfile", files.large))
        for _ in range(3):
            assert single.get("/hello").body == b"hello\n"
        single.wait_for_log("^it sent True$")
        assert len(single.wait_requests(3)) == 3
        assert rest(client) == files.large_hash
        line = single.wait_requests(4)[3]
        assert (line.via, line.body_bytes, line.switches) == ("sendfile", LARGE_SIZE, 0)

    @pytest.mark.parametrize("how", FREEING)
    def test_many_slow_clients_on_one_core(self, single, files, how):
        clients = [begun(single, target(how, files.large)) for _ in range(8)]
        before = procs.rss_bytes(single.worker())
        assert single.get("/hello").body == b"hello\n"
        for client in clients[:3]:
            assert rest(client) == files.large_hash
            assert single.get("/hello").body == b"hello\n"
        # The bytes of files never come into the process.
        assert procs.rss_bytes(single.worker()) - before < 4 * MIB

    def test_others_beside_sendfile(self, suspending, server, files):
        client = begun(server, target("sendfile", files.large))
        for _ in range(3):
            assert server.get("/hello").body == b"hello\n"
        assert rest(client) == files.large_hash


class TestLeaving:
    @pytest.mark.parametrize("ending", ["close", "reset"])
    @pytest.mark.parametrize("how", FREEING)
    def test_in_the_middle(self, single, files, how, ending):
        """Seen at once, whoever waits for the core; the look around sees its descriptor closed."""
        client = begun(single, target(how, files.large))
        assert single.get("/hello").body == b"hello\n"
        getattr(client, ending)()
        line = line_of(single, how if how != "accel" else "handed")
        assert line.cancelled == "client gone"
        assert (line.status, line.via) == (200, "sendfile")
        assert 0 < line.body_bytes < LARGE_SIZE
        assert single.get("/hello").body == b"hello\n"

    @pytest.mark.parametrize("ending", ["close", "reset"])
    def test_the_application_sees_it(self, suspending, server, files, ending):
        """Where it stands in sendfile; nothing is said of it but the line."""
        client = begun(server, target("sendfile", files.large))
        assert server.get("/hello").body == b"hello\n"
        getattr(client, ending)()
        server.wait_for_log("^it raised Cancelled$")
        line = line_of(server, "sendfile")
        assert line.cancelled == "client gone"
        assert 0 < line.body_bytes < LARGE_SIZE
        assert server.get("/hello").body == b"hello\n"

    @pytest.mark.engines("none")
    def test_after_sendfile_where_nothing_suspends(self, single, files):
        client = begun(single, target("sendfile", files.large))
        single.wait_for_log("^it sent True$")
        assert single.get("/hello").body == b"hello\n"
        client.reset()
        line = line_of(single, "sendfile")
        assert line.cancelled == "client gone"
        assert 0 < line.body_bytes < LARGE_SIZE

    @pytest.mark.parametrize("how", WAYS)
    def test_one_that_stands_still(self, start, files, how):
        """--socket-timeout ends it."""
        server = start(1, "--socket-timeout", "1")
        client = begun(server, target(how, files.large))
        line = line_of(server, how if how != "accel" else "handed")
        assert 0 < line.body_bytes < LARGE_SIZE
        assert is_truncated(client) < LARGE_SIZE

    @pytest.mark.parametrize("how", WAYS)
    def test_again_and_again(self, server, files, how):
        for number in range(12):
            client = begun(server, target(how, files.large))
            (client.reset if number % 2 else client.close)()
        assert server.get(target(how, files.small)).body == SMALL
        lines = server.wait_requests(13)
        assert [line.body_bytes for line in lines].count(LARGE_SIZE) == 0


class TestFilesThatChange:
    @pytest.fixture
    def copy(self, files):
        """A large file of the test's own, below the root."""
        path = files.root / "changing"
        make_large(path)
        yield path
        path.unlink(missing_ok=True)

    @pytest.mark.parametrize("how", WAYS)
    def test_shorter(self, server, copy, how):
        """The connection is cut, the log says why, and nobody else notices."""
        client = begun(server, target(how, copy))
        os.truncate(copy, 12 * MIB)
        assert is_truncated(client) < 13 * MIB
        server.wait_for_log(CUT)
        server.expect_log(CUT)
        line = line_of(server, how if how != "accel" else "handed")
        assert line.body_bytes <= 12 * MIB
        assert server.get("/hello").body == b"hello\n"

    @pytest.mark.parametrize("how", WAYS)
    def test_empty(self, server, copy, how):
        client = begun(server, target(how, copy))
        os.truncate(copy, 0)
        assert is_truncated(client) < LARGE_SIZE
        server.wait_for_log(CUT)
        assert server.get("/hello").body == b"hello\n"

    @pytest.mark.parametrize("how", WAYS)
    def test_longer(self, server, files, copy, how):
        """As much as there was when the head was made."""
        client = begun(server, target(how, copy))
        with copy.open("ab") as file:
            file.write(bytes(MIB))
        assert rest(client) == files.large_hash
        assert client.get("/hello").body == b"hello\n"

    @pytest.mark.parametrize("how", WAYS)
    def test_removed_and_replaced(self, server, files, copy, how):
        client = begun(server, target(how, copy))
        copy.unlink()
        copy.write_bytes(b"another")
        assert rest(client) == files.large_hash
        assert server.get(target(how, copy)).body == b"another"


@pytest.mark.parametrize("how", WAYS)
def test_a_reload_while_a_file_is_sent(start, fresh_engine, files, how):
    """The old worker stays until it has left."""
    server = start(2, by=fresh_engine)
    old = server.worker()
    client = begun(server, target(how, files.large))
    server.reload()

    def answered_by_the_next():
        # For a moment both of them accept.
        assert server.get("/hello").body == b"hello\n"
        return server.wait_requests(1)[-1].pid != old

    until(answered_by_the_next, "a request of the next worker")
    assert procs.alive(old)
    assert rest(client) == files.large_hash
    until(lambda: not procs.alive(old), "the old worker ends")
    line = line_of(server, how if how != "accel" else "handed")
    assert (line.pid, line.body_bytes) == (old, LARGE_SIZE)


@pytest.mark.parametrize("how", WAYS)
def test_a_stop_while_a_file_is_sent(start, fresh_engine, files, how):
    """As every request that has begun, it ends in order."""
    server = start(2, by=fresh_engine)
    client = begun(server, target(how, files.large))
    # It has gone as far as it can.
    assert server.get("/hello").body == b"hello\n"
    server.signal(signal.SIGTERM)
    server.wait_for_log("^requests in flight have ")
    assert rest(client) == files.large_hash
    assert server.wait_exit() == 0
    assert line_of(server, how if how != "accel" else "handed").body_bytes == LARGE_SIZE


@pytest.mark.parametrize("how", WAYS)
def test_many_at_once(server, files, how):
    """Ranges of random length, each complete and none of another's bytes."""
    data = files.large.read_bytes()
    numbers = random.Random(how)

    def one(path, begins, ends):
        pairs, query = [], {}
        if how == "sendfile":
            query = {"pos": begins, "size": ends - begins}
        elif how == "wrapper":
            # What it sends is from the beginning: the Content-Length is its end.
            begins, query = 0, {"length": ends}
        else:
            pairs = [("Range", f"bytes={begins}-{ends - 1}")]
        answer = server.request("GET", target(how, path, **query), pairs)
        expected = data[begins:ends]
        assert answer.status == (206 if pairs else 200)
        assert len(answer.body) == len(expected)
        assert hashlib.sha256(answer.body).digest() == hashlib.sha256(expected).digest()

    wanted = []
    for _ in range(40):
        begins = numbers.randrange(LARGE_SIZE)
        size = int(2 ** numbers.uniform(0, 23))
        wanted.append((files.large, begins, min(LARGE_SIZE, begins + size)))
    with ThreadPoolExecutor(12) as clients:
        list(clients.map(lambda arguments: one(*arguments), wanted))
    assert len(server.wait_requests(40)) == 40
