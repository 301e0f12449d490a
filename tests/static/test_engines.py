"""Files beside an application, on every engine: the same answers, and no core."""

from __future__ import annotations

import pytest

from tests.contract.engines import ON_ASYNCIO, engines, pair_of, usable, with_engine
from tests.harness import procs
from tests.harness.waiting import until
from tests.static.test_faults import CONTENT, SIZE, SMALL, STALLED, begin, cool, holds
from tests.static.trees import etag, plant

LOOPS = ("gevent", *ON_ASYNCIO)
CORES = 4


@pytest.fixture(params=["none", "ugreen", "greenlet", *LOOPS])
def start(request, fresh):
    """Starts a server with an application on one pair of engines."""
    if request.param in LOOPS:
        pair = pair_of(request.param)
    else:
        on_ours = [e for e in engines() if e.loop == "native"]
        (pair,) = [usable(engine) for engine in on_ours if engine.suspend == request.param]
    start_engine = with_engine(fresh, pair)

    def start(app, root, *options, **how):
        return start_engine(app, "--check-static", str(root), *options, cores=CORES, **how)

    return start


@pytest.fixture
def root(tmp_path):
    return plant(tmp_path / "root", **{"big": CONTENT, "small": SMALL})


def test_mixed_on_one_connection(start, root):
    server = start("echo", root)
    with server.http() as client:
        for number in range(20):
            assert client.get("/small").body == SMALL
            assert client.request("POST", "/small", body=b"x" * number).json()["length"] == number
            assert client.get("/big", Range=f"bytes=-{number + 1}").body == CONTENT[-number - 1 :]
            assert client.get("/none").json()["path"] == "/none"
            assert client.get("/small", If_None_Match=etag(len(SMALL))).status == 304
    lines = server.wait_requests(100)
    assert [r.core == -1 for r in lines] == [True, False, True, False, True] * 20


def test_slow_readers_hold_no_core(start, root):
    """More of them than cores, while the application serves."""
    server = start("echo", root)
    slow = [begin(server) for _ in range(3 * CORES)]
    for number in range(20):
        assert server.get(f"/app{number}").json()["path"] == f"/app{number}"
        assert server.get("/small").body == SMALL
    for client in slow[:2]:
        assert client.read_body(client.head).body == CONTENT
    for client in slow[2:]:
        client.reset()
    until(lambda: not holds(server, "/big"), "all files closed")


def test_a_file_comes_while_all_cores_are_taken(start, root, gate):
    server = start("hold", root, env=gate.env, allow=["async queue is full"])
    holders = [server.http() for _ in range(CORES + 2)]
    for client in holders:
        client.send_request(target="/hold")
    with server.http() as client:
        assert client.get("/big").body == CONTENT
        assert client.get("/small").body == SMALL
    gate.release(len(holders))
    for client in holders:
        assert client.read_response().body == b"held\nreleased\n"


def test_what_is_not_in_memory(start, root):
    """The helper's answer reaches a loop that somebody else owns, too."""
    server = start("echo", root)
    cool(root / "big")
    client = server.http(**STALLED)
    client.send_request(target="/big")
    assert server.get("/app").json()["path"] == "/app"
    assert client.read_response().body == CONTENT
    assert "greenloom-helpe" in procs.thread_names(server.worker())


def test_a_download_across_a_reload(start, root):
    server = start("echo", root)
    (old,) = server.workers()
    client = begin(server)
    server.reload()
    assert server.get("/app").json()["path"] == "/app"
    assert client.read_body(client.head).body == CONTENT
    until(lambda: not procs.alive(old), "the old worker has left")
    assert server.wait_requests(2)[-1].body_bytes == SIZE
