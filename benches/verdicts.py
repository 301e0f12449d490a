"""How figures are printed, each with its limit and whether it is kept."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Verdicts:
    """What was found, line by line."""

    broken: list[str] = field(default_factory=list)

    def say(self, what: str, value: str, limit: str = "", *, kept: bool = True) -> None:
        """Print a figure with its limit and whether it is kept."""
        judged = f"  limit {limit}: {'kept' if kept else 'BROKEN'}" if limit else ""
        print(f"  {what:44}{value:>28}{judged}", flush=True)
        if not kept:
            self.broken.append(what)
