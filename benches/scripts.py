"""Measure CGI scripts: how many in a second, many at once, and memory while one writes much.

One worker process each on CPU 0, and the scripts it starts there, too; clients on CPU 1; request
logs off. The servers take turns in every round; a ratio is that of two servers in one round, and
what is judged is the median over the rounds, printed with the smallest and the largest.

Of a quick script's time much is its own: the kernel loads it, its language starts and ends. That
is `bare`: a loop on the same CPU starts the script by posix_spawn and reads what it prints. The C
library alone may take most of it (in a virtual machine each CPUID instruction of its start does),
so there is one script without it, `tiny`. That one is judged, as it shows the servers; how much
faster than uWSGI a server of no cost would be is printed as the ratio of `bare`. CPU is that of the
server and of its scripts together.

Without an application, greenloom is measured against uWSGI's build for scripts, which has cgi and
no Python; and `gevent`, beside a Python application, against uWSGI with cgi beside the same one.

    make bench-scripts
    .venv/bin/python benches/scripts.py [--rounds 5] [--json result.json] [--strict]
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from answers import ask
from clients import open_one
from load import become_the_client, load_new_connections
from rounds import Arguments, Found, note, print_settings, say_ratio, spread
from servers import HOST, SERVER_CPU, Kind, Server, greenloom, peer, plain
from verdicts import Verdicts

APP = "app:application"
SCRIPTS = 1_000
WARM_UP = 50
MOST_S = 60
CLIENTS = (1, 8)
FASTER = 2.0
OURS = ("greenloom", "gevent")
# Like against like: without an application, and beside one.
PAIRS = (("greenloom", "uwsgi"), ("gevent", "uwsgi python"))

SLEEPERS = 20
SLEEP_S = 1
SLEPT_LIMIT_S = 1.3

OUTPUT = 100_000_000
GROWTH_KIB = 5 * 1024
PAUSE_S = 1.0

HEAD = "Content-Type: text/plain\\r\\n\\r\\n"
TINY = "tiny"
TINY_C = f"""
static const char answer[] = "{HEAD}ok\\n";

#if defined(__x86_64__)
enum {{ WRITE = 1, EXIT = 231 }};
static long call(long number, long first, const void *second, long third) {{
    long result;
    __asm__ volatile("syscall" : "=a"(result)
                     : "a"(number), "D"(first), "S"(second), "d"(third) : "rcx", "r11", "memory");
    return result;
}}
#elif defined(__aarch64__)
enum {{ WRITE = 64, EXIT = 94 }};
static long call(long number, long first, const void *second, long third) {{
    register long x8 __asm__("x8") = number, x0 __asm__("x0") = first, x2 __asm__("x2") = third;
    register const void *x1 __asm__("x1") = second;
    __asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2) : "memory");
    return x0;
}}
#endif

void _start(void) {{
    call(WRITE, 1, answer, sizeof answer - 1);
    call(EXIT, 0, 0, 0);
    for (;;) {{}}
}}
"""
QUICK_C = f'#include <stdio.h>\nint main(void) {{ fputs("{HEAD}ok\\n", stdout); return 0; }}\n'
QUICK_SH = f"#!/bin/sh\nprintf '{HEAD}ok\\n'\n"
# How each script in C is built.
IN_C = {
    TINY: (TINY_C, ("-static", "-nostdlib", "-fno-stack-protector")),
    "quick": (QUICK_C, ()),
}
SLEEP_SH = f"#!/bin/sh\nsleep {SLEEP_S}\nprintf '{HEAD}ok\\n'\n"
LARGE_SH = f"#!/bin/sh\nprintf '{HEAD}'\nexec head -c {OUTPUT} /dev/zero\n"


def main() -> int:
    """Measure everything; 1 when a limit is broken and ``--strict`` asks for it."""
    args = Arguments.parse(__doc__)
    # A polite end must unwind the `with` blocks that own the servers.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    become_the_client()
    with tempfile.TemporaryDirectory(prefix="greenloom-scripts-") as name:
        scripts = Path(name)
        quick = make_scripts(scripts)
        beside = ("--module", APP, "--need-app")
        ours = [
            Kind("greenloom", plain("--cgi", name), keeps_alive=True),
            Kind("gevent", greenloom(APP, "--gevent", "100", *_as_scripts(name)), keeps_alive=True),
        ]
        peers = [
            Kind("uwsgi", uwsgi(".venv-cgi", 1, *_as_scripts(name)), keeps_alive=False),
            Kind("uwsgi python", uwsgi(".venv", 1, *beside, *_as_scripts(name)), keeps_alive=False),
        ]
        eight = Kind(
            "uwsgi, 8 workers", uwsgi(".venv-cgi", 8, *_as_scripts(name)), keeps_alive=False
        )
        print_settings([*ours, *peers, eight])
        check_answers([*ours, *peers, eight], quick)
        verdicts, found = Verdicts(), Found()
        for script in quick:
            rates(verdicts, found, [*ours, *peers], eight, scripts / script, args.rounds)
        asleep(verdicts, found, ours, args.rounds)
        large(verdicts, found, [*ours, *peers], args.rounds)
        return args.conclude(verdicts, found)


def make_scripts(folder: Path) -> list[str]:
    """Make them all; the names of the quick ones."""
    quick = []
    for name, text in (("quick.sh", QUICK_SH), ("sleep.sh", SLEEP_SH), ("large.sh", LARGE_SH)):
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    for name, (text, options) in IN_C.items():
        source = folder / f"{name}.c"
        source.write_text(text)
        command = ["cc", "-O2", *options, "-o", str(folder / name), str(source)]
        if shutil.which("cc") and subprocess.run(command, check=False).returncode == 0:
            quick.append(name)
        else:
            print(f"the script {name} IS LEFT OUT: no cc that can build it\n")
    return [*quick, "quick.sh"]


def _as_scripts(folder: str) -> tuple[str, ...]:
    """Options: every request is one for a script."""
    return "--http-socket-modifier1", "9", "--cgi", folder


def uwsgi(venv: str, workers: int, *more: str) -> Callable[[str], list[str]]:
    """Make the command of one build of uWSGI."""

    def command(port: str) -> list[str]:
        return [
            *(peer("uwsgi", venv), "--http-socket", f"{HOST}:{port}", *more),
            *("--processes", str(workers), "--listen", "1024", "--disable-logging"),
            *("--die-on-term", *(("--master",) if workers > 1 else ())),
        ]

    return command


def check_answers(kinds: list[Kind], quick: list[str]) -> None:
    """Ask each server for the quick scripts; a wrong answer ends the run."""
    for kind in kinds:
        with Server(kind, SERVER_CPU) as server:
            for script in quick:
                ask(HOST, server.port, f"/{script}", keep_alive=kind.keeps_alive).check(b"ok\n")


def rates(
    verdicts: Verdicts, found: Found, kinds: list[Kind], eight: Kind, script: Path, rounds: int
) -> None:
    """A thousand quick scripts: one after the other, and for eight clients at once."""
    name = script.name
    bare_rate = f"{name}, per second"
    for _ in range(rounds):
        found.setdefault(bare_rate, {}).setdefault("bare", []).append(bare(script))
        for kind in (*kinds, eight):
            with Server(kind, SERVER_CPU) as server:
                for clients in CLIENTS if kind is not eight else CLIENTS[1:]:
                    rate, cpu = names_of(name, clients)
                    rate_of_scripts(found, server, name, clients, rate, cpu)
    for clients in CLIENTS:
        how = "one after the other" if clients == 1 else f"{clients} at a time"
        print(f"{SCRIPTS:,} times {name}, {how}, a new connection for each")
        rate, cpu = (found[what] for what in names_of(name, clients))
        for kind_name, figures in (found[bare_rate] | rate).items():
            verdicts.say(f"{kind_name}, per second", spread(figures, ",.0f"))
        for kind_name, figures in cpu.items():
            verdicts.say(f"{kind_name}, CPU of each, us", spread(figures, ",.0f"))
        for ours, theirs in PAIRS:
            limit = FASTER if name == TINY and clients == 1 else None
            say_ratio(verdicts, rate, theirs, limit, at_least=True, ours=ours)
            say_ratio(verdicts, cpu, theirs, ours=ours, what="CPU: ")
            if clients == 1:
                say_ratio(verdicts, found[bare_rate] | rate, theirs, ours="bare")
        if clients > 1:
            say_ratio(verdicts, rate, eight.name)


def names_of(script: str, clients: int) -> tuple[str, str]:
    """Under which names the figures of a script are kept."""
    return f"{script}, {clients} at a time, per second", f"{script}, {clients} at a time, CPU"


def rate_of_scripts(
    found: Found, server: Server, script: str, clients: int, rate: str, cpu: str
) -> None:
    """Note how many scripts are run in a second, and what each of them costs."""
    url = f"http://{HOST}:{server.port}/{script}"
    load_new_connections(url, MOST_S, clients, WARM_UP)
    before = server.cpu_seconds(reaped=True)
    report = load_new_connections(url, MOST_S, clients, SCRIPTS)
    if report.errors or report.requests != SCRIPTS:
        raise RuntimeError(f"{server.kind.name}, {script}: {report}")
    note(found, rate, server.kind, report.requests_per_s)
    used_s = server.cpu_seconds(reaped=True) - before
    note(found, cpu, server.kind, used_s * 1e6 / SCRIPTS)


def bare(script: Path) -> float:
    """How many times a second the script runs on the server's CPU, without any server."""
    here = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {SERVER_CPU})
    try:
        begun = time.monotonic()
        for _ in range(SCRIPTS):
            reads, writes = os.pipe()
            # The other descriptors of this process end at exec.
            actions = [(os.POSIX_SPAWN_DUP2, writes, 1)]
            pid = os.posix_spawn(script, [str(script)], {}, file_actions=actions)
            os.close(writes)
            while os.read(reads, 4096):
                pass
            os.close(reads)
            os.waitpid(pid, 0)
        return SCRIPTS / (time.monotonic() - begun)
    finally:
        os.sched_setaffinity(0, here)


def asleep(verdicts: Verdicts, found: Found, ours: list[Kind], rounds: int) -> None:
    """Scripts that sleep, all at once, in one process."""
    print(f"{SLEEPERS} scripts at once that sleep for {SLEEP_S} s, one worker")
    what = f"{SLEEPERS} scripts asleep, seconds"
    request = b"GET /sleep.sh HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n"
    for _ in range(rounds):
        for kind in ours:
            with Server(kind, SERVER_CPU) as server, contextlib.ExitStack() as stack:
                begun = time.monotonic()
                asked = [stack.enter_context(open_one(server, request)) for _ in range(SLEEPERS)]
                for connection in asked:
                    answer = read_all(connection)
                    if b" 200 OK\r\n" not in answer or b"ok\n" not in answer:
                        raise RuntimeError(f"{kind.name}: {answer!r}")
                note(found, what, kind, time.monotonic() - begun)
    for name, figures in found[what].items():
        kept = statistics.median(figures) <= SLEPT_LIMIT_S
        limit = f"<= {SLEPT_LIMIT_S} s"
        verdicts.say(f"{name}, s until the last answer", spread(figures, ".3f"), limit, kept=kept)


def read_all(connection: socket.socket) -> bytes:
    """Everything until the server closes."""
    data = b""
    while piece := connection.recv(65_536):
        data += piece
    return data


def large(verdicts: Verdicts, found: Found, kinds: list[Kind], rounds: int) -> None:
    """What a script's output takes in memory: the client reads at once, or only after a while."""
    print(f"{OUTPUT:,} bytes of output")
    for _ in range(rounds):
        for kind in kinds:
            with Server(kind, SERVER_CPU) as server:
                ask(HOST, server.port, "/quick.sh", keep_alive=False)
                for how, pause_s in (("read at once", 0.0), ("read late", PAUSE_S)):
                    before = server.forget_peak()
                    begun = time.monotonic()
                    read_output(server, pause_s)
                    note(found, f"output {how}, s", kind, time.monotonic() - begun)
                    grown_kib = server.peak_kib() - before
                    note(found, f"output {how}, growth of memory, KiB", kind, grown_kib)
    for name in (kind.name for kind in kinds):
        ours = name in OURS
        for how in ("read at once", "read late"):
            grown = found[f"output {how}, growth of memory, KiB"][name]
            kept = not ours or max(grown) < GROWTH_KIB
            limit = f"< {GROWTH_KIB:,}" if ours else ""
            what = f"{name}, {how}, growth of memory, KiB"
            verdicts.say(what, spread(grown, ",.0f"), limit, kept=kept)
        verdicts.say(
            f"{name}, read at once, s", spread(found["output read at once, s"][name], ".3f")
        )


def read_output(server: Server, pause_s: float) -> None:
    """Read the large output; after the first bytes, a pause."""
    request = b"GET /large.sh HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n"
    with open_one(server, request) as connection:
        count = len(connection.recv(1))
        time.sleep(pause_s)
        room = bytearray(1 << 18)
        while piece := connection.recv_into(room):
            count += piece
    # With its head, and with chunks or without.
    if not OUTPUT < count < OUTPUT * 1.01:
        raise RuntimeError(f"{server.kind.name}: {count:,} bytes")


if __name__ == "__main__":
    sys.exit(main())
