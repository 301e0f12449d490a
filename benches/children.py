"""What all child processes of a benchmark share: a CPU each, and that none stays behind."""

from __future__ import annotations

import ctypes
import os
import signal
from collections.abc import Callable

_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None, use_errno=True)


def bound_to(cpu: int) -> Callable[[], None]:
    """Make a ``preexec_fn``: the child stays on ``cpu`` and dies with the benchmark."""

    def before_exec() -> None:
        os.sched_setaffinity(0, {cpu})
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)

    return before_exec
