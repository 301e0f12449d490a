"""Autobahn's fuzzing client, which runs on CPython 2.7 alone: cases in, how the server behaved out.

`make autobahn` builds its environment where there is a 2.7.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MISSING = (
    "Autobahn's fuzzing client is not installed: it needs CPython 2.7 "
    "(pyenv install 2.7.18, or PYTHON2=/path/to/python2.7), then `make autobahn`"
)
AGENT = "greenloom"
DEADLINE_S = 300.0

PROTOCOL = ("1.*", "2.*", "3.*", "4.*", "5.*", "6.*", "7.*", "10.*")
"""247 cases, 10 seconds of which are pauses."""
LIMITS = ("9.*",)
"""54 cases: messages of up to 16 MiB, in frames and segments of every size."""
COMPRESSION = ("12.*", "13.*")
"""216 cases of permessage-deflate: a thousand messages each, of which the client is very slow."""

# The command `wstest`, for which 1000 is the only number of messages in a case of compression.
WSTEST = """
import sys
from autobahntestsuite import wstest
from autobahntestsuite.case import Cases
for case in Cases:
    if case.__name__.startswith(("Case12_", "Case13_")):
        case.COUNT = int(sys.argv[1])
del sys.argv[1]
wstest.run()
"""

HARMLESS = ("OK", "INFORMATIONAL")
"""What counts as strict: informational cases have no right answer."""


def program() -> list[str] | None:
    """The command up to the number of messages, or nothing."""
    venv = ROOT / ".venv-autobahn"
    # Its libraries complain of the age of Python at every start.
    command = [str(venv / "bin" / "python"), "-W", "ignore", "-c", WSTEST]
    return command if (venv / ".installed").exists() else None


@dataclass(frozen=True)
class Case:
    """One case: `behavior` and `behavior_close` are OK, NON-STRICT, INFORMATIONAL, UNIMPLEMENTED,
    FAILED and some more.
    """

    id: str
    behavior: str
    behavior_close: str
    close_code: int | None
    duration_ms: int
    report: Path

    @property
    def strict(self) -> bool:
        return self.behavior in HARMLESS and self.behavior_close in HARMLESS

    def told(self) -> dict:
        """Its whole report: wirelog, httpRequest, httpResponse, trafficStats and so on."""
        return json.loads(self.report.read_text(errors="replace"))

    def explain(self) -> str:
        """What was expected and what came."""
        told = self.told()
        return (
            f"{self.id}: {self.behavior}, close {self.behavior_close} ({self.close_code}): "
            f"{told['result']} {told['resultClose']}; "
            f"expected {str(told['expected'])[:300]}; received {str(told['received'])[:300]}"
        )


def order(case: str) -> list[int]:
    return [int(part) for part in case.split(".")]


def run(
    url: str,
    cases: Sequence[str],
    folder: Path,
    *,
    exclude: Sequence[str] = (),
    messages: int = 1000,
    deadline_s: float = DEADLINE_S,
) -> dict[str, Case]:
    """Runs the cases, one connection after the other; reports stay in `folder`, which is made.

    Patterns may end with `*`; `messages` is how many each case of compression sends. Every case
    that was asked for is in the result, or this fails.
    """
    command = program()
    assert command is not None, MISSING
    folder.mkdir(parents=True)
    specification = {
        "outdir": str(folder / "reports"),
        "servers": [{"agent": AGENT, "url": url}],
        "cases": list(cases),
        "exclude-cases": list(exclude),
        "exclude-agent-cases": {},
    }
    (folder / "specification.json").write_text(json.dumps(specification))
    log = folder / "log"
    env = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    with log.open("wb") as out:
        try:
            subprocess.run(
                [*command, str(messages), "-m", "fuzzingclient", "-s", "specification.json"],
                cwd=folder,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                timeout=deadline_s,
                check=True,
            )
        except subprocess.SubprocessError as error:
            # Its last line names the case.
            raise AssertionError(f"{error}; its log ends:\n{tail(log)}") from None
    index = folder / "reports" / "index.json"
    told = json.loads(index.read_text()).get(AGENT, {}) if index.exists() else {}
    announced = re.search(r"^Ok, will run (\d+) test cases", log.read_text(), re.MULTILINE)
    assert announced is not None, tail(log)
    assert len(told) == int(announced[1]) > 0, f"{len(told)} cases ran; its log:\n{tail(log)}"
    return {
        name: Case(
            name,
            told[name]["behavior"],
            told[name]["behaviorClose"],
            told[name]["remoteCloseCode"],
            told[name]["duration"],
            folder / "reports" / told[name]["reportfile"],
        )
        for name in sorted(told, key=order)
    }


def not_strict(cases: Iterable[Case], but: Iterable[str] = ()) -> list[str]:
    """What each case that is not strict did, without those named."""
    return [case.explain() for case in cases if not case.strict and case.id not in set(but)]


def tail(log: Path, characters: int = 2000) -> str:
    return log.read_text(errors="replace")[-characters:]
