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

    def ready(self) -> None:
        """Tell the process tree that this worker serves."""

    def on_leave(self, callback: Callable[[], object]) -> None:
        """Call back when the worker leaves: no turn comes after that."""

    def report(self, error: BaseException) -> None:
        """Write an exception that belongs to no request to the log."""
