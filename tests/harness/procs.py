"""Processes as /proc shows them: parents, open files, memory, CPU."""

from __future__ import annotations

import os
from pathlib import Path

PAGE = os.sysconf("SC_PAGE_SIZE")


def stat(pid: int) -> list[str] | None:
    """The fields of /proc/PID/stat from the state on (so index 0 is the state)."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return text.rpartition(")")[2].split()


def start_time(pid: int) -> str | None:
    """Tells a process from a later one with the same pid."""
    fields = stat(pid)
    return fields[19] if fields else None


def state(pid: int) -> str | None:
    """`R`, `S`, `Z`..., or None when there is no such process."""
    fields = stat(pid)
    return fields[0] if fields else None


def alive(pid: int) -> bool:
    """A zombie is not alive."""
    return state(pid) not in (None, "Z", "X")


def children(pid: int) -> list[int]:
    """Direct children, whichever thread made them."""
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            fields = stat(int(entry))
            if fields and int(fields[1]) == pid:
                found.append(int(entry))
    return sorted(found)


def descendants(pid: int) -> list[int]:
    """All processes below `pid`, zombies included."""
    parents: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            fields = stat(int(entry))
            if fields:
                parents.setdefault(int(fields[1]), []).append(int(entry))
    found: list[int] = []
    queue = [pid]
    while queue:
        below = parents.get(queue.pop(), [])
        found += below
        queue += below
    return sorted(found)


def open_files(pid: int) -> dict[int, str]:
    """What each descriptor of a process refers to."""
    files: dict[int, str] = {}
    try:
        names = os.listdir(f"/proc/{pid}/fd")
    except (FileNotFoundError, ProcessLookupError):
        return files
    for name in names:
        try:
            files[int(name)] = os.readlink(f"/proc/{pid}/fd/{name}")
        except OSError:
            continue
    return files


def is_directory(pid: int, fd: int) -> bool:
    """Whether a descriptor of a process is one of a directory."""
    try:
        return os.path.isdir(f"/proc/{pid}/fd/{fd}")
    except OSError:
        return False


def thread_names(pid: int) -> list[str]:
    """The names of its threads, of which the kernel keeps 15 characters."""
    names = []
    for entry in Path(f"/proc/{pid}/task").glob("*/comm"):
        try:
            names.append(entry.read_text().strip())
        except OSError:
            continue
    return names


def rss_bytes(pid: int) -> int:
    """Resident memory."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE


def cpu_ticks(pid: int) -> int:
    """User and system time of all threads, in clock ticks (10 ms)."""
    fields = stat(pid)
    assert fields, f"process {pid} is gone"
    return int(fields[11]) + int(fields[12])
