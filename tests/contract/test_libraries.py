"""`uwsgi.suspend()` in callbacks of libraries whose C code is not CPython's."""

from __future__ import annotations

import sys

import pytest

from tests.contract.overlap import all_at_once, check_switches, number_of

pytestmark = [
    pytest.mark.nasty,
    pytest.mark.skipif(
        hasattr(sys, "gettotalrefcount"), reason="numpy's wheels are not for debug builds"
    ),
]


@pytest.fixture
def server(suspending, serve_engine):
    return serve_engine("contract_libraries", cores=10)


@pytest.mark.parametrize("library", ["cffi", "numpy"])
def test_eight_at_once(server, library):
    for _ in range(3):
        server.begin()
        answers = all_at_once(server, f"/{library}")
        for answer in answers:
            found, expected = answer["result"]
            assert found == expected
            assert answer["suspends"] > 3
        ended = [number_of(line) for line in check_switches(server, answers)]
        assert sorted(ended) == list(range(8))
