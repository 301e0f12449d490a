"""Bodies, however they come and however they are read: complete, without a core, beside others."""

from __future__ import annotations

import hashlib

import pytest

from tests.harness.http import chunked

MIB = 1 << 20
WAYS = ["read", "pieces", "lines", "iterate", "into"]
# Nothing, one byte, what fits into one segment, and what is in memory, and in a file.
SIZES = [0, 1, 1000, 70_000, 3 * MIB]


def content(size):
    """Lines of all lengths, in bytes that no line break of HTTP or of a chunk is mistaken for."""
    line = b"".join(bytes([65 + n % 50]) * n + b"\n" for n in range(50))
    return (line * (size // len(line) + 1))[:size]


def is_whole(answer, sent):
    assert answer.status == 200
    said = answer.json()
    assert said["length"] == len(sent)
    assert said["sha256"] == hashlib.sha256(sent).hexdigest()
    return said


@pytest.fixture
def server(serve_engine):
    return serve_engine("contract_uploads", cores=2)


def chunks_of(body, size):
    pieces = [body[at : at + size] for at in range(0, len(body), size)]
    return chunked(*pieces)


class TestWhole:
    @pytest.mark.parametrize("how", WAYS)
    def test_with_a_length(self, server, how):
        client = server.http()
        for size in SIZES:
            is_whole(client.request("POST", f"/{how}", body=content(size)), content(size))
        # The application begins when the body is there, so that reading it never waits.
        assert [line.switches for line in server.wait_requests(len(SIZES))] == [1] * len(SIZES)

    @pytest.mark.parametrize("how", WAYS)
    def test_chunked(self, server, how):
        client = server.http()
        for size in SIZES:
            client.send_request("POST", f"/{how}", [("Transfer-Encoding", "chunked")])
            client.send(chunks_of(content(size), 8191))
            is_whole(client.read_response(), content(size))
        assert [line.switches for line in server.wait_requests(len(SIZES))] == [1] * len(SIZES)

    @pytest.mark.parametrize("how", WAYS)
    def test_spooled(self, serve_engine, how):
        """A body above --post-buffering lies in a file and reads the same."""
        server = serve_engine("contract_uploads", "--post-buffering", "4096", cores=2)
        client = server.http()
        for size in (4095, 4096, 4097, 70_000, 3 * MIB):
            is_whole(client.request("POST", f"/{how}", body=content(size)), content(size))
        assert [line.switches for line in server.wait_requests(5)] == [1] * 5

    def test_over_packets(self, serve_engine):
        server = serve_engine("contract_uploads", cores=2, uwsgi="127.0.0.1:0")
        for size in (1, 70_000, 3 * MIB):
            answer = server.packets().ask("POST", "/pieces", "size=1000", body=content(size))
            is_whole(answer, content(size))


class TestInPieces:
    @pytest.mark.parametrize("piece", [1000, 65_536])
    def test_yields_between_reads(self, server, piece):
        sent = content(100_000)
        said = is_whole(server.request("POST", f"/yielding?size={piece}", body=sent), sent)
        assert said["pieces"] == -(-len(sent) // piece)
        (line,) = server.wait_requests(1)
        assert line.switches == said["pieces"] + 1

    @pytest.mark.parametrize("options", [(), ("--post-buffering", "4096")], ids=["", "spooled"])
    def test_suspends_between_reads(self, suspending, serve_engine, options):
        server = serve_engine("contract_uploads", *options, cores=2)
        sent = content(100_000)
        said = is_whole(server.request("POST", "/suspending?size=1000", body=sent), sent)
        assert said["pieces"] == 100
        (line,) = server.wait_requests(1)
        assert line.switches == 101

    def test_bodies_of_overlapping_requests_stay_apart(self, serve_engine):
        """Each reads its own, though all of them are in the middle of it at once."""
        server = serve_engine("contract_uploads", cores=8)
        clients, bodies = [], []
        for number in range(8):
            client = server.http()
            bodies.append(bytes([65 + number]) * (50_000 + number))
            client.send_request("POST", "/yielding?size=500&together=8", body=bodies[-1])
            clients.append(client)
        for client, sent in zip(reversed(clients), reversed(bodies), strict=True):
            is_whole(client.read_response(), sent)
        lines = server.wait_requests(8)
        assert {line.core for line in lines} == set(range(8))
        # Beside those of the pieces, those of the wait for the last one to come.
        assert all(line.switches >= 101 for line in lines)


class TestSlow:
    def test_every_byte_by_itself(self, server):
        sent = content(300)
        client = server.http()
        client.send(b"POST /lines HTTP/1.1\r\nHost: a\r\nContent-Length: 300\r\n\r\n")
        client.send_pieces(sent)
        is_whole(client.read_response(), sent)

    def test_chunks_byte_by_byte(self, server):
        sent = content(100)
        client = server.http()
        client.send_request("POST", "/read", [("Transfer-Encoding", "chunked")])
        client.send_pieces(chunks_of(sent, 7))
        is_whole(client.read_response(), sent)

    @pytest.mark.parametrize("options", [(), ("--post-buffering", "4096")], ids=["", "spooled"])
    def test_uploads_under_way_take_no_core(self, serve_engine, options):
        """Many more of them than cores; neighbours are answered between any two of their pieces."""
        server = serve_engine("contract_uploads", *options, cores=2)
        sent = content(40_000)
        clients = [server.http() for _ in range(20)]
        for client in clients:
            client.send(b"POST /pieces HTTP/1.1\r\nHost: a\r\nContent-Length: 40000\r\n\r\n")
        for at in range(0, len(sent), 8000):
            for client in clients:
                client.send(sent[at : at + 8000])
                if client is clients[at // 8000]:
                    assert server.get("/hello").body == b"hello\n"
        for client in clients:
            is_whole(client.read_response(), sent)
        lines = server.wait_requests(25)
        assert {line.switches for line in lines} == {1}
        # The core's time is that of the application, not that of the slow client.
        assert {line.core for line in lines} <= {0, 1}

    def test_the_next_request_on_the_connection(self, server):
        """What comes behind a body is a request of its own, in the same segment, too."""
        sent = content(5000)
        head = b"POST /read HTTP/1.1\r\nHost: a\r\nContent-Length: 5000\r\n\r\n"
        client = server.http()
        client.send((head + sent) * 3 + b"GET /hello HTTP/1.1\r\nHost: a\r\n\r\n")
        for _ in range(3):
            is_whole(client.read_response(), sent)
        assert client.read_response().body == b"hello\n"

    def test_expect_continue(self, server):
        client = server.http()
        headers = [("Expect", "100-continue"), ("Content-Length", "5000")]
        client.send_request("POST", "/read", headers)
        assert client.read_head().status == 100
        client.send(content(5000))
        is_whole(client.read_response(), content(5000))
