"""What the extension module gives to a loop engine."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol


class Worker(Protocol):
    """The worker, as whoever runs its loop sees it."""

    @property
    def fd(self) -> int:
        """Readable when a turn has something to do."""

    def turn(self) -> None:
        """Do what can be done now; never blocks, and raises nothing."""

    def lifespans(self) -> list[tuple[Callable[..., object], dict[str, object], str]]:
        """For each ASGI application the callable, the scope of its lifespan, and its name."""

    def refuse(self, reason: str) -> None:
        """Say why the worker cannot serve; it leaves."""

    def give_up(self) -> None:
        """End requests whose tasks do not."""

    def log(self, line: str) -> None:
        """Write a line to the log."""

    def ready(self) -> None:
        """Tell the process tree that this worker serves."""

    def on_leave(self, callback: Callable[[], object]) -> None:
        """Call back when the worker leaves: no turn comes after that."""

    def report(self, error: BaseException) -> None:
        """Write an exception that belongs to no request to the log."""
