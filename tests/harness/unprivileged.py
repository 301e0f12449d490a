"""A user without rights, and a place and an interpreter that this user can reach."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.harness.needed import missing
from tests.harness.server import native_command

ROOT = Path(__file__).resolve().parents[2]
PYTHONPATH = str(ROOT / "python")


def interpreter(user: pwd.struct_passwd) -> str | None:
    """One that the user may run and that can load greenloom: root has a home closed to others."""
    for python in (sys.executable, "/usr/bin/python3"):
        try:
            found = subprocess.run(
                [python, "-c", "from greenloom import _greenloom"],
                user=user.pw_uid,
                group=user.pw_gid,
                extra_groups=[],
                env={"PYTHONPATH": PYTHONPATH, "PATH": os.defpath},
                cwd="/",
                capture_output=True,
                check=False,
            )
        except PermissionError:
            continue
        if found.returncode == 0:
            return python
    return None


class Unprivileged:
    """Who a server becomes."""

    def __init__(self, user: pwd.struct_passwd, python: str, folder: Path) -> None:
        self.uid, self.gid, self.name = user.pw_uid, user.pw_gid, user.pw_name
        self.folder = folder
        """Belongs to the user; the path can be reached by everybody."""
        self.program = [python, "-m", "greenloom"]
        self.env = {"PYTHONPATH": PYTHONPATH}


@contextmanager
def folder_of(user: pwd.struct_passwd) -> Iterator[Path]:
    """Belongs to the user; the path can be reached by everybody."""
    folder = Path(tempfile.mkdtemp(prefix="greenloom-user-"))
    try:
        folder.chmod(0o755)
        os.chown(folder, user.pw_uid, user.pw_gid)
        yield folder
    finally:
        shutil.rmtree(folder)


def somebody() -> pwd.struct_passwd:
    """Needs root, to become somebody else."""
    if os.geteuid() != 0:
        missing("only root can become another user")
    return pwd.getpwnam("nobody")


@pytest.fixture
def unprivileged() -> Iterator[Unprivileged]:
    """Who a server with an application becomes."""
    user = somebody()
    python = interpreter(user)
    if python is None:
        missing(f"no interpreter that {user.pw_name} may run can load greenloom")
    with folder_of(user) as folder:
        yield Unprivileged(user, python, folder)


class UnprivilegedNative:
    """Who the executable without an interpreter becomes."""

    def __init__(self, user: pwd.struct_passwd, folder: Path) -> None:
        self.uid, self.gid, self.name = user.pw_uid, user.pw_gid, user.pw_name
        self.folder = folder
        """Belongs to the user; the path can be reached by everybody."""
        # The one that was built may lie where only root gets.
        self.program = [str(shutil.copy(native_command()[0], folder / "greenloom"))]


@pytest.fixture
def unprivileged_native() -> Iterator[UnprivilegedNative]:
    """Pass `program=user.program` and `cwd=user.folder` to `fresh(None, ..., probe=False)`."""
    user = somebody()
    with folder_of(user) as folder:
        yield UnprivilegedNative(user, folder)
