"""Starts and stops leave nothing behind: a few here, `make cycles` does a thousand."""

from __future__ import annotations

import subprocess
import sys

from tests.harness.server import ROOT, environment


def test_a_few_cycles():
    outcome = subprocess.run(
        [sys.executable, str(ROOT / "benches" / "cycles.py"), "--cycles", "12"],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert outcome.returncode == 0, outcome.stderr
    assert "12 cycles" in outcome.stdout
