"""Responses of every kind to clients that read fast, slowly, or not for a while."""

from __future__ import annotations

import hashlib

import pytest

from tests.harness import procs
from tests.harness.waiting import until

MIB = 1 << 20
FULL = r"\[DANGER\] async queue is full !!!$"
BLOCK = 64 * 1024
BLOCKS = 320
WAYS = ["bytes", "list", "generator", "sized", "write", "wrapper", "sendfile", "send"]
FROM_FILE = ("wrapper", "sendfile")
# Of five blocks: parts of the iterable, and a file is one of them; what is written past it is no
# switch while it is taken.
SWITCHES = {"bytes": 1, "list": 5, "generator": 5, "sized": 5, "wrapper": 1}


def content(blocks, size=BLOCK):
    return b"".join((b"%07d\n" % number) * (size // 8) for number in range(blocks))


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """A file with what all the others send; its hash."""
    path = tmp_path_factory.mktemp("files") / "large"
    path.write_bytes(content(BLOCKS))
    return path


@pytest.fixture
def small(tmp_path):
    path = tmp_path / "small"
    path.write_bytes(content(5, 800))
    return path


@pytest.fixture
def server(serve_engine, counter):
    return serve_engine("contract_responses", cores=4, env=counter.env)


def target(how, blocks, size, path):
    return f"/{how}?blocks={blocks}&block={size}" + (f"&path={path}" if how in FROM_FILE else "")


def read_slowly(client, server, how, neighbour):
    """A little at a time, others being answered in between; the hash of all."""
    digest, length = hashlib.sha256(), 0
    head = client.read_head()
    assert head.status == 200
    for _ in range(5):
        assert neighbour() == b"hello\n"
        if head.header("transfer-encoding") is None:
            data = client.read_exactly(50_000)
            digest.update(data)
            length += len(data)
    rest = client.read_body(head) if length == 0 else None
    if rest is not None:
        return hashlib.sha256(rest.body).hexdigest(), len(rest.body)
    left = BLOCKS * BLOCK - length
    digest.update(client.read_exactly(left))
    return digest.hexdigest(), length + left


class TestSmall:
    @pytest.mark.parametrize("how", WAYS)
    def test_complete(self, server, small, how):
        for _ in range(3):
            answer = server.get(target(how, 5, 800, small))
            assert answer.status == 200
            assert answer.body == content(5, 800)
        for line in server.wait_requests(3):
            assert line.switches == SWITCHES.get(how, 0)
            assert line.body_bytes == 4000 or how == "send"

    @pytest.mark.parametrize("how", [w for w in WAYS if w != "send"])
    def test_on_one_connection(self, server, small, how):
        client = server.http()
        for _ in range(5):
            assert client.get(target(how, 5, 800, small)).body == content(5, 800)

    @pytest.mark.parametrize("how", [w for w in WAYS if w != "send"])
    def test_over_packets(self, serve_engine, counter, small, how):
        server = serve_engine("contract_responses", cores=2, env=counter.env, uwsgi="127.0.0.1:0")
        path, _, query = target(how, 5, 800, small).partition("?")
        assert server.packets().ask(path=path, query=query).body == content(5, 800)


class TestLarge:
    @pytest.mark.parametrize("how", WAYS)
    def test_to_a_slow_reader(self, server, large, how):
        """Complete and correct, in little memory, and others are answered all the while."""
        # The application's own share is made before the memory is looked at.
        if how in ("bytes", "list"):
            assert len(server.get(target(how, BLOCKS, BLOCK, large)).body) == BLOCKS * BLOCK
        before = procs.rss_bytes(server.worker())
        client = server.http(receive_buffer=4096)
        client.send_request(
            target=target(how, BLOCKS, BLOCK, large), headers=[("Connection", "close")]
        )
        grown = []

        def neighbour():
            body = server.get("/hello").body
            grown.append(procs.rss_bytes(server.worker()) - before)
            return body

        found, length = read_slowly(client, server, how, neighbour)
        assert length == BLOCKS * BLOCK
        assert found == hashlib.sha256(large.read_bytes()).hexdigest()
        # 20 MiB are on their way; a list's parts are the application's, and were once freed.
        limit = 8 * MIB if how != "list" else 24 * MIB
        assert max(grown) < limit, [n // 1024 for n in grown]

    @pytest.mark.parametrize("how", WAYS)
    def test_a_reader_that_leaves_and_one_that_stays(self, serve_engine, counter, large, how):
        # Those that left and are not seen off yet are on cores, too. No failure is logged: an
        # application that writes while it runs hears of the departure as `uwsgi.ClientGone`.
        server = serve_engine("contract_responses", cores=2, env=counter.env, allow=[FULL])
        for _ in range(2):
            client = server.http(receive_buffer=4096)
            client.send_request(target=target(how, BLOCKS, BLOCK, large))
            client.read_head()
            client.reset()
        answer = server.get(target(how, BLOCKS, BLOCK, large))
        assert answer.body == large.read_bytes()


@pytest.mark.parametrize("how", ["write", "send", "generator"])
def test_output_suspends_the_core_only(suspending, server, counter, large, how):
    """What nobody reads is not made: the call waits, others go on, and it goes on when it can."""
    client = server.http(receive_buffer=4096)
    client.send_request(target=target(how, BLOCKS, BLOCK, large))
    client.read_head()
    made = counter.standstill()
    assert made < BLOCKS
    for _ in range(5):
        assert server.get("/hello").body == b"hello\n"
    assert counter.value() == made
    received = 0
    while counter.value() == made:
        received += len(client.socket.recv(1 << 20))
    until(lambda: counter.value() > made, "the application goes on")
    client.close()
    (line,) = [r for r in server.wait_requests(6) if r.uri.startswith(f"/{how}")]
    assert line.switches >= 1
    assert received < BLOCKS * BLOCK


def test_write_spools_where_nothing_suspends(serve, counter, large):
    """Without a suspend engine all that is written is taken, and the worker is free."""
    server = serve("contract_responses", "--async", "2", env=counter.env)
    client = server.http(receive_buffer=4096)
    client.send_request(target=target("write", BLOCKS, BLOCK, large))
    head = client.read_head()
    until(lambda: counter.value() == BLOCKS, "all is written")
    assert server.get("/hello").body == b"hello\n"
    assert client.read_body(head).body == large.read_bytes()


@pytest.mark.parametrize("how", WAYS)
def test_many_at_once(serve_engine, counter, large, how):
    """More large responses than cores, each complete."""
    server = serve_engine("contract_responses", cores=4, env=counter.env, allow=[FULL])
    clients = [server.http() for _ in range(6)]
    for client in clients:
        client.send_request(
            target=target(how, BLOCKS, BLOCK, large), headers=[("Connection", "close")]
        )
    expected = hashlib.sha256(large.read_bytes()).hexdigest()
    for client in clients:
        assert hashlib.sha256(client.read_response().body).hexdigest() == expected
    assert len(server.wait_requests(6)) == 6
