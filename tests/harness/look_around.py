"""What must be true after every test: nothing lost, nothing left, nothing said unexpectedly."""

from __future__ import annotations

import re
import signal
import socket
from collections.abc import Sequence

from tests.harness import procs, request_log
from tests.harness.http import Client
from tests.harness.server import Server
from tests.harness.waiting import until

SUSPICIOUS = re.compile(r"Traceback|panic|\berrors?\b|DANGER|Exception ignored", re.IGNORECASE)
ALWAYS_ALLOWED = (
    # The start-up line of the plain async engine.
    r"\*\*\* DANGER \*\*\* async mode without coroutine/greenthread engine loaded !!!",
)
# Requests of the test may still be ending when the probes ask for every core.
ALLOWED_WHILE_PROBING = re.compile(r"\[DANGER\] async queue is full !!!$")


def cores(server: Server) -> int:
    """The number of cores the command line asked for."""
    options = server.options
    for position, option in enumerate(options):
        name, _, value = option.partition("=")
        if name in ("--async", "--gevent", "--asyncio", "--tornado"):
            return int(value or options[position + 1])
    return 1


def unexpected_lines(server: Server, allowed: Sequence[str]) -> list[str]:
    """Suspicious lines that no pattern allows; request lines quote clients and are left out."""
    patterns = [re.compile(p) for p in (*ALWAYS_ALLOWED, *allowed)]
    probing = server.probed_from
    return [
        line
        for number, line in enumerate(server.log_lines())
        if SUSPICIOUS.search(line)
        and request_log.parse(line) is None
        and not any(p.search(line) for p in patterns)
        and not (probing is not None and number >= probing and ALLOWED_WHILE_PROBING.search(line))
    ]


def check_cores(server: Server) -> None:
    """As many requests at once as there are cores, each waiting for all the others."""
    number = cores(server)
    server.begin_probes()
    lines = len(server.log_requests(probes=True)) - len(server.log_requests())
    clients = [Client(server.http_address) for _ in range(number)]
    for client in clients:
        client.send_request("GET", f"/__probe?cores={number}", [("Connection", "close")])
    answers = [client.read_response() for client in clients]
    for client in clients:
        client.close()
    assert [a.body for a in answers] == [b"free"] * number, "a core is lost"
    if server.logs_requests:
        # Lines come in the order of ending: what ended before the probes is logged by now.
        until(
            lambda: (
                len(server.log_requests(probes=True)) - len(server.log_requests()) >= lines + number
            ),
            "the probes' request lines",
        )


# Options that name directories, which a worker keeps open from the first look into them on.
DIRECTORIES = re.compile(r"--(static-map2?|check-static|x-sendfile|x-accel-redirect|cgi)(=|$)")


def staying(server: Server, pid: int) -> list[str]:
    """Descriptors that come with use, and stay: of directories, and of the bell of the helpers."""
    directories = sum(1 for option in server.options if DIRECTORIES.match(option))
    # A rule of one file keeps the directory that it is in.
    left = {"directory": 2 * directories + server.more_directories}
    left["bell"] = 1 if "greenloom-helpe" in procs.thread_names(pid) else 0
    before = server.baseline[pid]
    found = []
    for fd, what in procs.open_files(pid).items():
        kind = "bell" if what == "anon_inode:[eventfd]" else "directory"
        is_one = kind == "bell" or procs.is_directory(pid, fd)
        if before.get(fd) != what and is_one and left[kind]:
            left[kind] -= 1
            found.append(what)
    return found


def fd_growth(server: Server) -> dict[int, list[str]]:
    """Descriptors that were not there right after the start, by worker."""
    growth = {}
    for pid, before in server.baseline.items():
        if not procs.alive(pid):
            continue
        now = procs.open_files(pid)
        if len(now) > len(before) + len(staying(server, pid)):
            growth[pid] = [f"{fd}: {what}" for fd, what in now.items() if before.get(fd) != what]
    return growth


def check_running(server: Server) -> None:
    """What can only be seen while the server runs."""
    server.close_clients()
    # A busy or a parked request may still be ending: conditions, not instants.
    if server.probed and len(server.workers()) == 1 and server.http_number is not None:
        check_cores(server)
    until(lambda: not fd_growth(server), "descriptors back to those after the start")
    zombies = [pid for pid in server.remember() if procs.state(pid) == "Z"]
    if zombies:
        until(
            lambda: not [pid for pid in zombies if procs.state(pid) == "Z"],
            f"children {zombies} reaped",
        )


def refused(address: tuple[str, int] | str) -> bool:
    family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.settimeout(5)
        return probe.connect_ex(address) != 0


def stop(server: Server) -> None:
    """SIGTERM: exit 0, ports closed, no process left."""
    if server.process.poll() is None:
        server.signal(signal.SIGTERM)
    code = server.wait_exit()
    assert code == 0, f"exit status {code}"
    until(lambda: not server.leftovers(), "no process left after the stop")
    for listener in server.listeners:
        assert refused(listener.address), f"{listener.address} still answers"


def look_around(server: Server, allowed: Sequence[str]) -> None:
    """After a test on a server of its own: all of the above, and the stop."""
    if server.process.poll() is None:
        look_at_running(server)
    stop(server)
    check_log(server, allowed)


def look_at_running(server: Server) -> None:
    try:
        check_running(server)
    except AssertionError as error:
        raise AssertionError(f"{error}; {fd_growth(server) or ''}") from error


def check_log(server: Server, allowed: Sequence[str]) -> None:
    lines = unexpected_lines(server, allowed)
    assert not lines, "unexpected log lines:\n" + "\n".join(lines)
