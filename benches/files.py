"""Measure static files: without an application, and beside one on each engine, beside nginx.

One worker process each on CPU 0, the load on CPU 1. The servers take turns in every round; a ratio
is that of two servers in one round, and what is judged is the median over the rounds, printed with
the smallest and the largest. CPU is the server's own, user and system, in all its processes. Before
anything is measured, each server's answers are checked byte by byte.

All of them write a line for each request, in their own form, to a file on the same file system.
nginx has sendfile and tcp_nopush on, as Debian configures it, and no cache of open files, which
would keep it from seeing a file that is replaced. uWSGI keeps no connection open here, so it is
measured with a new connection for each request.

A download is read at a bounded rate by a process of its own. Its beginning is not in memory when it
is asked for: it has to be read from the disk, where there is one.

    make bench-files
    .venv/bin/python benches/files.py [--seconds 3] [--rounds 5] [--json result.json] [--strict]
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import random
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from answers import ask
from clients import latencies, open_one
from load import become_the_client
from rounds import (
    Arguments,
    Found,
    cpu_us,
    note,
    pairwise,
    print_settings,
    say_cpu,
    say_ratio,
    spread,
)
from servers import HOST, SERVER_CPU, Kind, Server, greenloom, plain, uwsgi
from verdicts import Verdicts

APP = "app:application"
CORES = "100"
ENGINES = {
    "async": ("--async", CORES),
    "ugreen": ("--async", CORES, "--ugreen"),
    "gevent": ("--gevent", CORES),
    "asyncio": ("--asyncio", CORES),
}
OURS = ("greenloom", *ENGINES)
FACTOR = 1.25

DOWNLOAD = "download.bin"
DOWNLOAD_BYTES = 1 << 30
RATE = 1_000_000
# What a round reads at the rate, and what the kernel holds for the client, is no hole in the file.
MARGIN = 32_000_000
GROWTH_KIB = 1024
SLOWER = 1.1

NGINX = """
daemon off;
master_process off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 1024; }}
http {{
    sendfile on;
    tcp_nopush on;
    types {{ text/plain txt; }}
    default_type application/octet-stream;
    access_log {log};
    keepalive_requests 1000000000;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    server {{ listen {host}:{port} backlog=1024; root {files}; }}
}}
"""


@dataclass(frozen=True)
class Load:
    """What is asked for over and over."""

    name: str
    file: str
    size: int
    keep_alive: bool


LOADS = [
    Load("1 KiB, keep-alive", "small.txt", 1 << 10, keep_alive=True),
    Load("1 MiB, keep-alive", "large.txt", 1 << 20, keep_alive=True),
    Load("1 KiB, new connections", "small.txt", 1 << 10, keep_alive=False),
    Load("1 MiB, new connections", "large.txt", 1 << 20, keep_alive=False),
]


def main() -> int:
    """Measure everything; 1 when a limit is broken and ``--strict`` asks for it."""
    args = Arguments.parse(__doc__)
    # A polite end must unwind the `with` blocks that own the servers.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    become_the_client()
    with tempfile.TemporaryDirectory(prefix="greenloom-files-") as name:
        folder = Path(name)
        log = folder / "requests.log"
        make_files(folder, args.seconds)
        kinds = kinds_of(folder, log)
        print_settings(kinds)
        print(f"nginx's configuration:{NGINX.format_map(Placeholders())}")
        check_answers(kinds, folder)
        verdicts, found = Verdicts(), Found()
        cpu_per_request(verdicts, found, kinds, log, args)
        downloads(verdicts, found, kinds, folder, args)
        return args.conclude(verdicts, found)


class Placeholders(dict[str, str]):
    """What stands for a value where a configuration is shown."""

    def __missing__(self, name: str) -> str:
        """Shout it."""
        return name.upper()


def make_files(folder: Path, seconds: int) -> None:
    """Write everything that will be asked for."""
    files = folder / "files"
    files.mkdir()
    (folder / "mime.types").write_text("text/plain txt\n")
    (files / "hello").write_bytes(b"ok\n")
    draw = random.Random(7)
    for file, size in {(load.file, load.size) for load in LOADS}:
        (files / file).write_bytes(draw.randbytes(size))
    with (files / DOWNLOAD).open("wb") as download:
        download.write(draw.randbytes(RATE * 2 * seconds + MARGIN))
        download.truncate(DOWNLOAD_BYTES)
        os.fsync(download.fileno())


def kinds_of(folder: Path, log: Path) -> list[Kind]:
    """The servers of these files."""
    types = ("--mimefile", str(folder / "mime.types"))
    options = ("--check-static", str(folder / "files"), *types)
    beside = {
        name: Kind(name, greenloom(APP, *engine, *options, log=log), keeps_alive=True)
        for name, engine in ENGINES.items()
    }
    return [
        Kind("greenloom", plain(*options, log=log), keeps_alive=True),
        *beside.values(),
        Kind("nginx", nginx(folder, log), keeps_alive=True),
        Kind("uwsgi", uwsgi(APP, *options, log=log), keeps_alive=False),
    ]


def nginx(folder: Path, log: Path) -> Callable[[str], list[str]]:
    """Make nginx's command; its configuration is written when it is asked for."""

    def command(port: str) -> list[str]:
        configuration = folder / "nginx.conf"
        text = NGINX.format(folder=folder, log=log, host=HOST, port=port, files=folder / "files")
        configuration.write_text(text)
        errors = str(folder / "error.log")
        return ["nginx", "-p", str(folder), "-e", errors, "-c", str(configuration)]

    return command


def check_answers(kinds: list[Kind], folder: Path) -> None:
    """Ask each server for whatever it will be asked for; a wrong answer ends the run."""
    for kind in kinds:
        with Server(kind, SERVER_CPU) as server:
            for load in LOADS:
                if load.keep_alive and not kind.keeps_alive:
                    continue
                body = (folder / "files" / load.file).read_bytes()
                answer = ask(HOST, server.port, f"/{load.file}", keep_alive=load.keep_alive)
                answer.check(body)
            fields = ", ".join(name for name, _ in answer.headers)
        print(f"  {kind.name:13} [{fields}]")
    print()


def cpu_per_request(
    verdicts: Verdicts, found: Found, kinds: list[Kind], log: Path, args: Arguments
) -> None:
    """What one request for a file costs the server."""
    for _ in range(args.rounds):
        for kind in kinds:
            with Server(kind, SERVER_CPU) as server:
                for load in LOADS:
                    if load.keep_alive and not kind.keeps_alive:
                        continue
                    path = f"/{load.file}"
                    used_us = cpu_us(server, path, args.seconds, keep_alive=load.keep_alive)
                    note(found, load.name, kind, used_us)
            log.unlink()
    for load in LOADS:
        print(f"{load.name}: CPU per request")
        say_cpu(verdicts, found[load.name])
        for name in OURS:
            # On new connections most of it is the connection's.
            limit = FACTOR if load.keep_alive else None
            say_ratio(verdicts, found[load.name], "nginx", limit, ours=name)
        if not load.keep_alive:
            say_ratio(verdicts, found[load.name], "uwsgi")


def downloads(
    verdicts: Verdicts, found: Found, kinds: list[Kind], folder: Path, args: Arguments
) -> None:
    """What a slow download costs: memory, and the patience of others."""
    seconds = args.seconds
    print(f"1 GiB to a client that reads {RATE:,} bytes/s, for {seconds} s; a small file beside it")
    growth, read = "download, growth of memory, KiB", "download, bytes per second"
    measures = {"p50": statistics.median, "p99": percentile_99, "max": max}
    for _ in range(args.rounds):
        for kind in kinds:
            if not kind.keeps_alive:
                continue
            evict(folder / "files" / DOWNLOAD)
            with Server(kind, SERVER_CPU) as server:
                waited = {"alone": latencies(server, seconds)}
                before = server.forget_peak()
                with download(server) as count:
                    begun, so_far = time.monotonic(), count()
                    waited["beside it"] = latencies(server, seconds)
                    rate = (count() - so_far) / (time.monotonic() - begun)
                    grown = server.peak_kib() - before
            note(found, growth, kind, grown)
            note(found, read, kind, rate)
            for when, figures in waited.items():
                for what, measure in measures.items():
                    note(found, f"{what} {when}, ms", kind, measure(figures))
    for name in found[growth]:
        ours = name in OURS
        grown_kib, rates = found[growth][name], found[read][name]
        kept = not ours or max(grown_kib) <= GROWTH_KIB
        limit = f"<= {GROWTH_KIB:,}" if ours else ""
        say = verdicts.say
        say(f"{name}, growth of memory, KiB", spread(grown_kib, ",.0f"), limit, kept=kept)
        say(f"{name}, bytes/s that the client read", spread(rates, ",.0f"))
        for when in ("alone", "beside it"):
            medians = (statistics.median(found[f"{what} {when}, ms"][name]) for what in measures)
            shown = " / ".join(f"{figure:.3f}" for figure in medians)
            say(f"{name}, p50 / p99 / max {when}, ms", shown)
        both = {when: found[f"p50 {when}, ms"][name] for when in ("alone", "beside it")}
        ratios = pairwise(both, "beside it", "alone", lambda beside, alone: beside / alone)
        kept = not ours or statistics.median(ratios) <= SLOWER
        limit = f"<= {SLOWER}" if ours else ""
        say(f"{name}, p50 beside it / alone", spread(ratios, ".3f"), limit, kept=kept)


def percentile_99(figures: list[float]) -> float:
    """What 99 of a hundred do not exceed."""
    return statistics.quantiles(figures, n=100)[98]


def evict(path: Path) -> None:
    """Let the kernel forget what it has in memory of a file."""
    with path.open("rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


@contextlib.contextmanager
def download(server: Server) -> Iterator[Callable[[], int]]:
    """Read the large file at the rate, meanwhile; how many bytes have come is told when asked."""
    context = multiprocessing.get_context("fork")
    stop, has_begun = context.Event(), context.Event()
    # Written by one process and read by one: without a lock that the reader would wait for.
    count = context.Value("q", 0, lock=False)

    def read() -> None:
        request = f"GET /{DOWNLOAD} HTTP/1.1\r\nHost: bench\r\n\r\n".encode()
        with open_one(server, request) as connection:
            begun = time.monotonic()
            while not stop.is_set():
                piece = len(connection.recv(RATE // 20))
                if piece == 0:
                    raise ConnectionError("the download has broken off")
                count.value += piece
                has_begun.set()
                stop.wait(max(0.0, count.value / RATE - (time.monotonic() - begun)))

    process = context.Process(target=read)
    process.start()
    try:
        if not has_begun.wait(10):
            raise RuntimeError(f"{server.kind.name}: no download")
        yield lambda: count.value
    finally:
        stop.set()
        process.join()
    if process.exitcode != 0:
        raise RuntimeError(f"{server.kind.name}: the download has failed")


if __name__ == "__main__":
    sys.exit(main())
