"""Every command in docs/deployment.md is one that greenloom accepts."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest

from tests.harness.server import ROOT, run

TEXT = (ROOT / "docs" / "deployment.md").read_text()
UNITS = re.findall(r"^ExecStart=\S+/greenloom (.*)$", TEXT, re.MULTILINE)
SHELL = re.findall(r"^greenloom (--.*)$", TEXT, re.MULTILINE)
CONTAINERS = re.findall(r'^CMD (\["greenloom".*\])$', TEXT, re.MULTILINE)


def test_they_are_found():
    assert (len(UNITS), len(SHELL), len(CONTAINERS)) == (1, 2, 1)


@pytest.mark.parametrize(
    "arguments",
    [shlex.split(line) for line in UNITS + SHELL] + [json.loads(line)[1:] for line in CONTAINERS],
    ids=" ".join,
)
def test_commands(tmp_path: Path, arguments: list[str]):
    (tmp_path / "shop.ini").write_text("[uwsgi]\nsocket = /run/shop/app.sock\nmodule = shop:app\n")
    outcome = run(*arguments, "--check", cwd=tmp_path)
    assert outcome.returncode == 0, outcome.stderr
    assert outcome.stdout == "configuration OK\n"
