"""What the clients of a storm have seen: answers by kind, violations by kind, who answered."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum

KEPT = 20
"""Violations described in words; all are counted."""


class Kind(StrEnum):
    """What must never happen to a client."""

    REFUSED = "refused"
    RESET = "reset"
    TRUNCATED = "truncated"
    WRONG = "wrong bytes"
    STATUS = "wrong status"
    UNSOLICITED = "unsolicited bytes"
    CLOSED_IDLE = "closed while idle"
    CLOSED_UNANSWERED = "closed unanswered"
    CLOSED_ANNOUNCED = "close announced"
    TIMEOUT = "timeout"


class Violation(Exception):
    """One of them, with what was seen."""

    def __init__(self, kind: Kind, detail: str) -> None:
        super().__init__(f"{kind}: {detail}")
        self.kind = kind
        self.detail = detail


@dataclass
class Tally:
    """One run."""

    answers: Counter[str] = field(default_factory=Counter)
    violations: Counter[Kind] = field(default_factory=Counter)
    excused: Counter[Kind] = field(default_factory=Counter)
    """What a deliberate kill or stop explains."""
    described: list[str] = field(default_factory=list)
    bytes: int = 0
    loads: dict[str, int] = field(default_factory=dict)
    """Answers by load of the application, in the order of their first."""
    processes: Counter[str] = field(default_factory=Counter)
    slowest_s: float = 0.0
    begun: float = field(default_factory=time.monotonic)

    @property
    def total(self) -> int:
        """All answers that were right."""
        return sum(self.answers.values())

    def answered(self, what: str, load: str, pid: str, size: int, seconds: float) -> None:
        """A right answer of `size` bytes."""
        self.answers[what] += 1
        self.loads[load] = self.loads.get(load, 0) + 1
        self.processes[pid] += 1
        self.bytes += size
        self.slowest_s = max(self.slowest_s, seconds)

    def violated(self, what: str, violation: Violation) -> None:
        """One that counts."""
        self.violations[violation.kind] += 1
        if len(self.described) < KEPT:
            at = time.monotonic() - self.begun
            self.described.append(f"{at:8.3f} s, {what}: {violation}")

    def excuse(self, violation: Violation) -> None:
        """One that had to be."""
        self.excused[violation.kind] += 1

    def summary(self) -> str:
        """Counts in one line; every violation's kind is named, so that a zero is seen to be one."""
        answers = ", ".join(f"{count} {what}" for what, count in sorted(self.answers.items()))
        violations = ", ".join(f"{self.violations[kind]} {kind}" for kind in Kind)
        excused = ", ".join(f"{count} {kind}" for kind, count in self.excused.items())
        return (
            f"{self.total} answers ({answers}), {self.bytes / 1e6:.1f} MB, "
            f"{len(self.loads)} loads, {len(self.processes)} processes, "
            f"slowest {self.slowest_s:.2f} s; {violations}"
            + (f"; excused: {excused}" if excused else "")
        )
