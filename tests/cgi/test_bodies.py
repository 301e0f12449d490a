"""Request bodies on their way into scripts."""

from __future__ import annotations

import hashlib
import os
import threading

import pytest

from tests.cgi.scripts import HEAD, MOUNT, do, says, send
from tests.harness import procs
from tests.harness.http import chunked
from tests.harness.waiting import until

ECHO = r"printf 'X-Length: %s\n\n' ${CONTENT_LENGTH-none}; exec cat"
DIGEST = HEAD + "sha256sum | cut -d' ' -f1; echo $CONTENT_LENGTH"


def bytes_of(size):
    return (hashlib.sha256(b"cgi").digest() * (size // 32 + 1))[:size]


def head(code, length=None, *fields, path="/cgi-bin/do"):
    framing = "Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}"
    lines = [f"POST {path} HTTP/1.1", "Host: a", f"X-Do: {code}", framing, *fields]
    return "\r\n".join(lines).encode() + b"\r\n\r\n"


class TestCollected:
    @pytest.mark.parametrize("size", [1, 4095, 65_536, 65_537, 1 << 20, 3_000_000])
    @pytest.mark.parametrize("options", [(), ("--post-buffering", "4k")], ids=["memory", "spooled"])
    def test_all_of_it_arrives(self, scripts, options, size):
        server = scripts(*options)
        with server.http() as client:
            answer = do(client, ECHO, method="POST", body=bytes_of(size))
            assert answer.header("x-length") == str(size)
            assert answer.body == bytes_of(size)
            assert says(client, r"X-A: 1\n\nnext").body == b"next"

    def test_an_empty_one(self, server):
        answer = do(server, ECHO, method="POST", body=b"")
        assert (answer.status, answer.body) == (200, b"")

    def test_a_chunked_one_has_its_length(self, server):
        with server.http() as client:
            parts = [bytes_of(n) for n in (1, 1000, 70_000)]
            client.send(head(ECHO) + chunked(*parts))
            answer = client.read_response()
            assert answer.header("x-length") == "71001"
            assert answer.body == b"".join(parts)
            assert says(client, r"X-A: 1\n\nnext").body == b"next"

    def test_a_spooled_chunked_one(self, scripts):
        with scripts("--post-buffering", "4k").http() as client:
            parts = [bytes_of(50_000)] * 20
            client.send(head(DIGEST) + chunked(*parts))
            digest, length = client.read_response().body.decode().split()
            assert (digest, length) == (hashlib.sha256(b"".join(parts)).hexdigest(), "1000000")

    @pytest.mark.parametrize("size", [10, 3_000_000])
    def test_one_that_is_never_read(self, server, size):
        with server.http() as client:
            answer = do(client, HEAD + "echo deaf", method="POST", body=bytes_of(size))
            assert answer.body == b"deaf\n"
            answer = do(client, HEAD + "exec <&-; echo deafer", method="POST", body=bytes_of(size))
            assert answer.body == b"deafer\n"
            assert says(client, r"X-A: 1\n\nnext").body == b"next"

    def test_one_that_is_read_in_part(self, server):
        answer = do(server, HEAD + "head -c 5", method="POST", body=bytes_of(3_000_000))
        assert answer.body == bytes_of(5)

    def test_much_is_written_before_anything_is_read(self, server):
        # uWSGI writes the whole body first: both sides would wait for each other.
        code = HEAD + "head -c 2000000 /dev/zero; cat"
        answer = do(server, code, method="POST", body=bytes_of(2_000_000))
        assert len(answer.body) == 4_000_000
        assert answer.body[2_000_000:] == bytes_of(2_000_000)

    def test_one_that_is_longer_than_its_length_is_the_next_request(self, server):
        client = server.http()
        client.send(head(ECHO, 4) + b"body" + head(ECHO, 2) + b"ok")
        assert client.read_response().body == b"body"
        assert client.read_response().body == b"ok"

    def test_one_that_never_ends_starts_no_script(self, scripts, notes):
        server = scripts("--body-timeout", "0.2", "--body-min-rate", "0", *notes.options)
        client = server.http()
        client.send(head("echo started >>$NOTES", 10) + b"half")
        assert client.read_response().status == 408
        assert notes.lines() == []

    def test_one_that_is_too_large_is_413(self, scripts):
        server = scripts("--limit-post", "1000")
        client = server.http()
        client.send(head(ECHO, 1001))
        assert client.read_response().status == 413

    def test_expect_100(self, server):
        client = server.http()
        client.send(head(ECHO, 4, "Expect: 100-continue"))
        assert client.read_head().status == 100
        client.send(b"body")
        assert client.read_response().body == b"body"

    def test_a_hundred_megabytes_through_cat(self, scripts):
        server = scripts("--post-buffering", "64k")
        worker = server.worker()
        client = server.http()
        size = 100 << 20
        piece = bytes_of(1 << 20)
        do(server, ECHO, method="POST", body=piece)
        before = procs.rss_bytes(worker)
        client.send(head(ECHO, size))
        for _ in range(100):
            client.send(piece)
        answer = client.read_head()
        seen, most = 0, 0
        while chunk := client.read_chunk():
            seen += len(chunk)
            most = max(most, procs.rss_bytes(worker))
        assert (answer.status, seen) == (200, size)
        assert most - before < 5 << 20, f"{(most - before) >> 10} KiB more"


@pytest.fixture
def early(beside):
    """Scripts that start before their body is there, beside an application."""

    def start(*options, **how):
        words = ("--async", "2", "--ugreen", "--body-early", "/cgi-bin")
        return beside("hello", *MOUNT, *words, *options, **how)

    return start


def follows_or_closes(client, found):
    """A head that is sent before the body is there says that the connection ends."""
    if found.header("connection") == "close":
        assert client.closed_by_peer()
    else:
        assert says(client, r"X-A: 1\n\nnext").body == b"next"


class TestEarly:
    @pytest.mark.parametrize("engine", ["none", "ugreen"])
    def test_it_starts_at_the_head(self, scripts, early, engine):
        server = early() if engine == "ugreen" else scripts("--body-early", "/cgi-bin")
        client = server.http()
        client.send(head(HEAD + "echo started; cat", 4))
        found = client.read_head()
        assert client.read_chunk() == b"started\n"
        client.send(b"body")
        assert client.read_body(found).body == b"body"

    def test_the_first_piece_is_answered_before_the_second_is_sent(self, early):
        server = early()
        with server.http() as client:
            client.send(head(ECHO, 9) + b"one")
            found = client.read_head()
            assert found.header("x-length") == "9"
            assert client.read_chunk() == b"one"
            client.send(b"two")
            assert client.read_chunk() == b"two"
            client.send(b"end")
            assert client.read_body(found).body == b"end"
            follows_or_closes(client, found)

    def test_a_chunked_body_is_411(self, early):
        server = early()
        client = server.http()
        client.send(head(ECHO) + chunked(b"body"))
        assert client.read_response().status == 411
        assert client.closed_by_peer()
        server.wait_for_log("needs a body with a Content-Length")

    def test_expect_100_is_answered(self, early):
        server = early()
        client = server.http()
        client.send(head(ECHO, 4, "Expect: 100-continue"))
        assert client.read_head().status == 100
        client.send(b"body")
        assert client.read_response().body == b"body"

    def test_a_large_one(self, early):
        server = early()
        with server.http() as client:
            body = bytes_of(5_000_000)
            sender = threading.Thread(target=client.send, args=(head(ECHO, len(body)) + body,))
            sender.start()
            found = client.read_response()
            assert found.body == body
            sender.join()
            follows_or_closes(client, found)

    def test_one_that_reads_slowly_holds_the_client_back(self, early, gate):
        server = early("--cgi-env", f"GATE={gate.path}")
        worker = server.worker()
        client = server.http(timeout_s=0.5)
        code = "dd bs=1 count=1 <$GATE >/dev/null 2>&1; " + DIGEST
        size, piece, sent = 200 << 20, bytes_of(1 << 20), 0
        client.send(head(code, size))
        before = procs.rss_bytes(worker)
        try:
            while sent < size:
                sent += client.socket.send(piece[sent % len(piece) :])
        except TimeoutError:
            pass
        assert sent < size
        assert procs.rss_bytes(worker) - before < 5 << 20
        gate.release()
        client.socket.settimeout(20)
        while sent < size:
            sent += client.socket.send(piece[sent % len(piece) : len(piece)][: size - sent])
        digest, length = client.read_response().body.decode().split()
        assert int(length) == size
        whole = hashlib.sha256()
        for _ in range(200):
            whole.update(piece)
        assert digest == whole.hexdigest()

    def test_one_that_answers_without_reading(self, early):
        server = early()
        client = server.http()
        client.send(head(HEAD + "echo deaf", 1_000_000) + b"a little")
        assert client.read_response().body == b"deaf\n"
        # The rest of the body is nobody's: the connection ends.
        client.half_close()
        assert client.closed_by_peer()

    def test_a_client_that_leaves_in_the_middle_ends_it(self, early, notes):
        server = early(*notes.options)
        client = server.http()
        client.send(head("echo pid $$ >>$NOTES; " + HEAD + "cat; sleep 1000", 10) + b"half")
        client.read_head()
        client.close()
        notes.wait(1)
        notes.wait_gone()

    def test_a_client_that_stops_sending_is_408_or_cut(self, early, notes):
        server = early("--body-timeout", "0.3", "--body-min-rate", "0", *notes.options)
        client = server.http()
        client.send(head("echo pid $$ >>$NOTES; cat; sleep 1000", 10) + b"half")
        assert client.read_response().status == 408
        notes.wait(1)
        notes.wait_gone()

    def test_what_is_too_large_is_413_before_a_script_starts(self, early, notes):
        server = early("--limit-post", "1000", *notes.options)
        client = server.http()
        client.send(head("echo started >>$NOTES; " + ECHO, 1001))
        assert client.read_response().status == 413
        assert notes.lines() == []


def test_a_spooled_body_leaves_no_file(scripts, tmp_path):
    spool = tmp_path / "spool"
    spool.mkdir()
    server = scripts("--post-buffering", "4k", env={"TMPDIR": str(spool)})
    client = server.http()
    send(client, ECHO, "POST", body=bytes_of(300_000))
    assert len(client.read_response().body) == 300_000
    until(lambda: not os.listdir(spool), "no file is left")
