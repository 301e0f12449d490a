"""The harness itself: a client that accepted anything would let every test pass."""

from __future__ import annotations

import socket
from types import SimpleNamespace

import pytest

from tests.harness import procs, request_log
from tests.harness import server as harness_server
from tests.harness.http import Client, Malformed, Truncated, chunked
from tests.harness.look_around import unexpected_lines
from tests.harness.uwsgi import packet
from tests.harness.waiting import until

LINE = (
    "[pid: 10862|app: 0|req: 1/7] 127.0.0.1 (ann) {20 vars in 194 bytes} "
    "[Sat Nov 21 19:27:38 2026] GET /plain?a=1 => generated 5 bytes in 12 msecs (HTTP/1.1 200) "
    "1 headers in 45 bytes (1 switches on core 0)"
)


class TestRequestLog:
    def test_a_line(self):
        found = request_log.parse(LINE)
        assert (found.pid, found.app, found.started, found.total) == (10862, 0, 1, 7)
        assert (found.address, found.user, found.uri) == ("127.0.0.1", "ann", "/plain?a=1")
        assert (found.status, found.switches, found.core, found.via) == (200, 1, 0, None)

    def test_via(self):
        line = LINE.replace("msecs (", "msecs via sendfile() (")
        assert request_log.parse(line).via == "sendfile"

    def test_a_request_without_a_core(self):
        line = LINE.replace("app: 0|req: 1/7", "app: -1|req: -1/7").replace("core 0)", "core -1)")
        found = request_log.parse(line)
        assert (found.app, found.started, found.total, found.core) == (-1, -1, 7, -1)

    def test_what_ended_before_its_time(self):
        assert (request_log.parse(LINE).cancelled, request_log.parse(LINE).abandoned) == (
            None,
            False,
        )
        for why in ("client gone", "deadline", "stop"):
            line = f"{LINE} [cancelled: {why}]"
            found, given_up = request_log.parse(line), request_log.parse(f"{line} [abandoned]")
            assert (found.cancelled, found.abandoned) == (why, False)
            assert (given_up.cancelled, given_up.abandoned) == (why, True)
        for end in (" [cancelled: ]", " [cancelled: other]", " [abandoned]", " [cancelled: stop] "):
            assert request_log.parse(LINE + end) is None

    @pytest.mark.parametrize("other", ["x" + LINE, LINE + " ", LINE.replace("GET ", ""), ""])
    def test_no_line(self, other):
        assert request_log.parse(other) is None


@pytest.fixture
def pair(tmp_path):
    """A client and the other end of its connection."""
    path = str(tmp_path / "pair.sock")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        with Client(path, timeout_s=5) as client:
            far, _ = listener.accept()
            with far:
                yield client, far


class TestClient:
    def answer(self, pair, data, method="GET"):
        client, far = pair
        far.sendall(data)
        far.shutdown(socket.SHUT_WR)
        return client.read_response(method)

    def test_length(self, pair):
        answer = self.answer(pair, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nabHTTP")
        assert (answer.body, answer.framing) == (b"ab", "length")
        assert pair[0].buffer == b"HTTP"

    def test_chunks(self, pair):
        head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        answer = self.answer(pair, head + chunked(b"ab", b"c"))
        assert (answer.body, answer.chunks) == (b"abc", [b"ab", b"c"])

    def test_close(self, pair):
        answer = self.answer(pair, b"HTTP/1.1 200 OK\r\n\r\nrest")
        assert (answer.body, answer.framing) == (b"rest", "close")

    def test_interim(self, pair):
        data = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n"
        assert self.answer(pair, data).status == 204

    @pytest.mark.parametrize(
        "data",
        [
            b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
            b"HTTP/1.1 200 OK\r\nContent-",
        ],
    )
    def test_truncated(self, pair, data):
        with pytest.raises(Truncated):
            self.answer(pair, data)

    @pytest.mark.parametrize(
        "data",
        [
            b"HTTP/1.1 200\r\n\r\n",
            b"HTTP/2 200 OK\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nX : 1\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nX: a\nY: b\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n",
            b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n",
        ],
    )
    def test_malformed(self, pair, data):
        with pytest.raises(Malformed):
            self.answer(pair, data)

    def test_closed_by_peer(self, pair):
        client, far = pair
        far.sendall(b"x")
        assert not client.closed_by_peer()
        client.read_exactly(1)
        far.close()
        assert client.closed_by_peer()


def test_packet():
    assert packet([("A", "b")]) == bytes.fromhex("00 06 00 00 01 00 41 01 00 62")


def test_unexpected_lines():
    lines = [
        "all is well",
        LINE.replace("/plain", "/Traceback"),
        "Traceback (most recent call last):",
        "*** DANGER *** async mode without coroutine/greenthread engine loaded !!!",
        "[DANGER] async queue is full !!!",
        "some error",
    ]
    server = SimpleNamespace(log_lines=lambda: lines, probed_from=None)
    assert unexpected_lines(server, ["queue is full"]) == [lines[2], lines[5]]
    assert unexpected_lines(server, []) == [lines[2], lines[4], lines[5]]
    # A full queue is no surprise once the probes ask for every core; anything else still is.
    server.probed_from = 5
    assert unexpected_lines(server, []) == [lines[2], lines[4], lines[5]]
    server.probed_from = 4
    assert unexpected_lines(server, []) == [lines[2], lines[5]]


def test_until_fails_when_its_time_is_up():
    with pytest.raises(AssertionError, match="never"):
        until(lambda: False, "never", 0.01)


def test_processes():
    import os

    me = os.getpid()
    assert procs.alive(me)
    assert me in procs.children(os.getppid())
    assert procs.rss_bytes(me) > 1 << 20
    child = os.fork()
    if child == 0:
        os._exit(0)
    until(lambda: procs.state(child) == "Z", "a zombie")
    assert child in procs.descendants(me)
    assert not procs.alive(child)
    os.waitpid(child, 0)
    assert procs.state(child) is None


def test_a_flooded_log_is_not_read_whole(tmp_path, monkeypatch):
    monkeypatch.setattr(harness_server, "LOG_LIMIT", 10)
    server = harness_server.Server.__new__(harness_server.Server)
    server.log_path, server.mark = tmp_path / "log", 5
    server.log_path.write_bytes(b"old: 0123456789")
    assert server.log_text() == "0123456789"
    server.log_path.write_bytes(b"old: 0123456789.")
    with pytest.raises(AssertionError, match="the log is flooded"):
        server.log_text()
