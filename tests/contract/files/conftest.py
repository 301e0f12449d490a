"""Servers that answer with files, and the files."""

from __future__ import annotations

import gzip
import os

import pytest

from tests.contract.files.support import (
    FAILS,
    FAR,
    FULL,
    HUGE_SIZE,
    SMALL,
    Files,
    hands_over,
    make_large,
    warmed,
)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    root, outside = folder / "root", folder / "root-of-others"
    root.mkdir()
    outside.mkdir()
    (outside / "secret").write_bytes(b"secret\n")
    (root / "small").write_bytes(SMALL)
    (root / "small.gz").write_bytes(gzip.compress(SMALL))
    (root / "text.txt").write_bytes(SMALL)
    (root / ".hidden").write_bytes(SMALL)
    (root / "empty").touch()
    (root / "folder").mkdir()
    (root / "folder" / "small").write_bytes(SMALL)
    (root / "name with é").write_bytes(SMALL)
    (root / "100%25").write_bytes(b"a percent sign")
    os.mkfifo(root / "fifo")
    (root / "out").symlink_to(outside / "secret")
    (root / "out-folder").symlink_to(outside)
    (root / "within").symlink_to("folder/small")
    (root / "round").symlink_to("round")
    large_hash = make_large(root / "large")
    huge_hash = make_large(root / "huge", HUGE_SIZE)
    with (root / "sparse").open("wb") as file:
        file.truncate(5 << 30)
        file.seek(FAR)
        file.write(b"far away")
    # Its time has settled: the tag is a strong one.
    for path in root.iterdir():
        if path.is_file() and not path.is_symlink():
            os.utime(path, (1_700_000_000, 1_700_000_000))
    return Files(root, outside, large_hash, huge_hash)


@pytest.fixture
def start(serve_engine, files):
    """`start(cores, ...)`: a server that hands over what is below the root."""

    def started(cores, *options, by=serve_engine, **how):
        allowed = [FULL, *how.pop("allow", [])]
        return warmed(
            by("contract_files", *hands_over(files), *options, cores=cores, allow=allowed, **how),
            files,
        )

    return started


@pytest.fixture
def server(start):
    return start(2)


@pytest.fixture
def failing(start):
    """The same where the application fails, as the test asks."""
    return start(2, allow=FAILS)


@pytest.fixture
def single(start):
    """With one core: whoever holds it is alone."""
    return start(1)


@pytest.fixture
def over_packets(start):
    return start(2, uwsgi="127.0.0.1:0")
