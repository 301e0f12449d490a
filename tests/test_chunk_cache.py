"""The data-stack chunks that a worker keeps: reused, bounded, harmless to threads and children."""

from __future__ import annotations

import pytest

pytest.importorskip("greenlet", reason="the cache is for greenlets: pip install greenlet")


def test_short_greenlets_share_a_chunk(serve):
    """Thousands of greenlets, one after the other, ask the system for hardly a chunk."""
    server = serve("chunks")
    answer = server.get("/short/5000").json()
    before, after = answer["before"], answer["after"]
    assert after["hits"] - before["hits"] >= 4990
    assert after["misses"] - before["misses"] <= 2
    assert 1 <= after["kept"] <= after["limit"] == 256


def test_kept_chunks_are_bounded(serve):
    server = serve("chunks", "--chunk-cache", "16")
    for _ in range(2):
        after = server.get("/together/200").json()["after"]
        assert after["limit"] == 16
        assert after["kept"] == 16
    answer = server.get("/together/200").json()
    assert answer["after"]["hits"] - answer["before"]["hits"] == 16
    assert answer["after"]["misses"] - answer["before"]["misses"] >= 184


def test_greenlets_at_once(serve):
    """What was in a chunk before is nobody's business; each greenlet has one of its own."""
    server = serve("chunks")
    server.get("/together/200")
    answer = server.get("/together/200").json()
    assert answer["after"]["hits"] - answer["before"]["hits"] >= 200
    assert answer["after"]["misses"] == answer["before"]["misses"]


def test_off(serve):
    server = serve("chunks", "--chunk-cache", "0")
    after = server.get("/short/500").json()["after"]
    assert set(after.values()) == {0}


def test_deep_calls(serve):
    """Frames beyond the first chunk use kept ones, too, and give them back."""
    server = serve("chunks")
    server.get("/deep/900")
    answer = server.get("/deep/900").json()
    before, after = answer["before"], answer["after"]
    assert after["hits"] - before["hits"] >= 2
    assert after["misses"] == before["misses"]
    assert after["kept"] == before["kept"]


@pytest.mark.parametrize("limit", ["2", "256"])
def test_threads(serve, limit):
    """Threads that end while greenlets are made; kept chunks stay within the limit."""
    server = serve("chunks", "--chunk-cache", limit)
    for _ in range(3):
        answer = server.get("/threads/25").json()
        assert answer["after"]["hits"] > answer["before"]["hits"]
        assert 1 <= answer["after"]["kept"] <= int(limit)


def test_fork_in_a_request(serve):
    """A child has the cache of its parent, as its own."""
    server = serve("chunks")
    server.get("/together/50")
    answer = server.get("/fork/500").json()
    child, before, after = answer["result"], answer["before"], answer["after"]
    assert child["hits"] - before["hits"] >= 500
    assert after["hits"] == before["hits"], "the child's greenlets are not the parent's"
    assert server.get("/short/100").json()["after"]["hits"] >= after["hits"] + 100


def test_each_worker_has_its_own(serve):
    """What one worker keeps is not another's: the cache begins after the fork."""
    server = serve("chunks", "--processes", "2")
    assert len(server.workers()) == 2
    for _ in range(8):
        after = server.get("/short/100").json()["after"]
        assert after["misses"] <= 4
        assert after["kept"] <= 4
