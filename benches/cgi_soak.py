"""Let very many scripts run, with clients that leave at any moment, and see that nothing is left.

Twenty requests at a time; each has a plan drawn by chance (quick, large, slow, redirected, echoing
a body, no response at all) and may be left at a random point: before it is sent whole, before an
answer, within the head or the body, by FIN or RST. What was answered is compared byte by byte. In
the end there must be no process, no zombie, no descriptor and no memory that was not there before.

    .venv/bin/python benches/cgi_soak.py [--runs 10000] [--at-once 20] [--seed 1]
    .venv/bin/python benches/cgi_soak.py --output-mb 100    # memory while so much is sent
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import re
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PROGRAM = os.environ.get("GREENLOOM_PLAIN", str(ROOT / "target" / "release" / "greenloom"))
# Without what would configure the server.
ENVIRONMENT = {k: v for k, v in os.environ.items() if not k.startswith(("UWSGI_", "GREENLOOM"))}
BOUND = re.compile(r"bound to TCP address 127\.0\.0\.1:(\d+)")
WORKER = re.compile(r"spawned greenloom worker 1 \(pid: (\d+)")
READY = "greenloom is ready"
COMPLAINTS = ("panicked", "cannot ")
DEADLINE_S = 60.0
RSS_LIMIT_KIB = 4096
LEAVERS = 0.4
WARM_UP = 0.1
# Each script has this in its environment: whoever has it was started by this run.
MARK = "GREENLOOM_CGI_SOAK"

SCRIPT = r"""#!/bin/sh
say() { printf 'Content-Type: text/plain\nX-Token: %s\n\n' "$TOKEN"; }
IFS='&'; for pair in $QUERY_STRING; do eval "${pair%%=*}=${pair#*=}"; done; unset IFS
case $kind in
quick) say; printf '%s' "$TOKEN" ;;
large) say; head -c $size /dev/zero | tr '\0' x ;;
slow) say; for i in 1 2 3 4; do printf '%s\n' $i; sleep 0.02; done ;;
late) sleep 0.1; say; printf late ;;
echo) say; exec cat ;;
deaf) say; printf deaf ;;
family) say; sleep 0.3 & printf family; wait ;;
stubborn) trap : TERM; say; printf stubborn; sleep 0.05 ;;
moved) printf 'Location: /cgi-bin/run?kind=quick&TOKEN=%s\n\n' "$TOKEN" ;;
bad) printf 'no head' ;;
none) ;;
esac
"""
KINDS = (
    ("quick", 8), ("large", 3), ("slow", 2), ("late", 2), ("echo", 3), ("deaf", 2), ("family", 1),
    ("stubborn", 1), ("moved", 2), ("bad", 1), ("none", 1),
)  # fmt: skip


@dataclass
class Tally:
    """What the clients have seen."""

    answers: int = 0
    departures: int = 0
    bytes: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    mismatches: list[str] = field(default_factory=list)


class Plan:
    """One request, and what has to come back."""

    def __init__(self, draw: random.Random, token: str) -> None:
        """Draw it."""
        names, weights = zip(*KINDS, strict=True)
        self.kind = draw.choices(names, weights)[0]
        self.status, self.body, sent = 200, token.encode(), b""
        size = draw.choice((100, 5_000, 70_000, 1_000_000))
        if self.kind in ("echo", "deaf"):
            sent = draw.randbytes(draw.choice((1, 3_000, 100_000, 400_000)))
        if self.kind == "echo":
            self.body = sent
        elif self.kind == "large":
            self.body = b"x" * size
        elif self.kind == "slow":
            self.body = b"1\n2\n3\n4\n"
        elif self.kind in ("late", "deaf", "family", "stubborn"):
            self.body = self.kind.encode()
        elif self.kind in ("bad", "none"):
            self.status = 502
        method = "POST" if sent else "GET"
        length = f"Content-Length: {len(sent)}\r\n" if sent else ""
        query = f"kind={self.kind}&size={size}&TOKEN={token}"
        head = f"{method} /cgi-bin/run?{query} HTTP/1.1\r\nHost: a\r\n{length}\r\n"
        self.token, self.request = token, head.encode() + sent
        # Where the client leaves: a share of its own request, or so many bytes of the answer.
        self.leaves = draw.random() < LEAVERS
        self.sends = len(self.request)
        if self.leaves and draw.random() < 0.15:
            self.sends = draw.randrange(len(self.request))
        self.reads = draw.choice((0, 0, 1, 60, 200, 5_000, 300_000))
        self.waits_s = draw.choice((0, 0, 0.002, 0.02, 0.1))
        self.resets = draw.random() < 0.5


class Server:
    """The executable without an interpreter, one worker."""

    def __init__(self, folder: Path, *options: str) -> None:
        """Start it."""
        scripts = folder / "scripts"
        scripts.mkdir()
        script = scripts / "run"
        script.write_text(SCRIPT)
        script.chmod(0o755)
        self.log = folder / "log"
        with self.log.open("wb") as out:
            self.process = subprocess.Popen(
                [
                    PROGRAM, "--http-socket", "127.0.0.1:0", "--cgi", f"/cgi-bin={scripts}",
                    "--cgi-env", f"{MARK}={os.getpid()}", "--disable-logging", *options,
                ],
                stdin=subprocess.DEVNULL, stdout=out, stderr=out, cwd=folder, env=ENVIRONMENT,
            )  # fmt: skip
        wait(lambda: READY in self.log.read_text(errors="replace"), "the ready line")
        text = self.log.read_text(errors="replace")
        self.port = int(BOUND.findall(text)[0])
        self.worker = int(WORKER.findall(text)[0])

    def connect(self) -> socket.socket:
        """Connect to it."""
        return socket.create_connection(("127.0.0.1", self.port), DEADLINE_S)

    def children(self) -> list[str]:
        """States of the worker's children: Z is a zombie."""
        found = []
        for task in Path(f"/proc/{self.worker}/task").iterdir():
            for pid in (task / "children").read_text().split():
                with contextlib.suppress(OSError):
                    found.append(
                        Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
                    )
        return found

    def look(self) -> dict[str, int]:
        """Descriptors and memory."""
        status = Path(f"/proc/{self.worker}/status").read_text()
        return {
            "fds": len(os.listdir(f"/proc/{self.worker}/fd")),
            "rss_kib": int(re.findall(r"VmRSS:\s+(\d+)", status)[0]),
            "peak_kib": int(re.findall(r"VmHWM:\s+(\d+)", status)[0]),
        }

    def stop(self) -> int:
        """Stop it."""
        self.process.terminate()
        try:
            return self.process.wait(DEADLINE_S)
        finally:
            self.process.kill()


def main() -> int:
    """Run it all; 1 when anything was not as it should be."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=10_000, help="(default 10000)")
    parser.add_argument("--at-once", type=int, default=20, help="(default 20)")
    parser.add_argument("--seed", type=int, default=time.time_ns() % 1_000_000_000)
    parser.add_argument("--output-mb", type=int, default=0, help="measure one large answer instead")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if args.output_mb:
            return measure_output(Server(Path(folder)), args.output_mb)
        return soak(Server(Path(folder), "--post-buffering", "64k"), args)


def soak(server: Server, args: argparse.Namespace) -> int:
    """Many runs."""
    print(f"cgi_soak: seed {args.seed}", flush=True)
    tally = Tally()
    warm = max(1, int(args.runs * WARM_UP))
    load(server, args, warm, "warm", tally)
    settle(server)
    before = server.look()
    begun = time.monotonic()
    load(server, args, args.runs - warm, "run", tally)
    seconds = time.monotonic() - begun
    children = settle(server)
    after = server.look()
    left = ours()
    code = server.stop()
    wrong = tally.mismatches[:5]
    zombies = children.count("Z")
    if zombies or children or left:
        wrong.append(f"processes are left: {children}, {left}")
    if after["fds"] > before["fds"]:
        wrong.append("descriptors were lost")
    if after["rss_kib"] - before["rss_kib"] > RSS_LIMIT_KIB:
        wrong.append(f"memory has grown by more than {RSS_LIMIT_KIB} KiB")
    log = server.log.read_text(errors="replace")
    complaints = [line for line in log.splitlines() if any(word in line for word in COMPLAINTS)]
    if code or complaints:
        wrong.append(f"exit status {code}, log: {complaints[:5]}")
    print(
        f"cgi_soak: {args.runs:,} runs ({tally.answers:,} answers, "
        f"{tally.departures:,} departures), {len(tally.mismatches)} mismatches, "
        f"{(args.runs - warm) / seconds:,.0f} runs/s, "
        f"{tally.bytes / 1e6:,.0f} MB, zombies {zombies}, "
        f"processes left {len(children) + len(left)}, "
        f"descriptors {before['fds']} -> {after['fds']}, "
        f"RSS {before['rss_kib']:,} -> {after['rss_kib']:,} KiB: "
        + ("; ".join(wrong) if wrong else "all is well"),
        flush=True,
    )
    return 1 if wrong else 0


def load(server: Server, args: argparse.Namespace, count: int, name: str, tally: Tally) -> None:
    """Have ``count`` requests made by so many threads at once."""
    draw = random.Random(f"{args.seed}.{name}")
    plans = iter([Plan(draw, f"{name}{number}") for number in range(count)])
    lock = threading.Lock()

    def client() -> None:
        connection = None
        while True:
            with lock:
                plan = next(plans, None)
            if plan is None:
                break
            connection = make(server, plan, connection, tally, lock)
        if connection is not None:
            connection.close()

    threads = [threading.Thread(target=client) for _ in range(args.at_once)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def make(
    server: Server, plan: Plan, connection: socket.socket | None, tally: Tally, lock: threading.Lock
) -> socket.socket | None:
    """Make one request; the connection comes back if it can be used again."""
    if connection is None:
        connection = server.connect()
    if plan.leaves:
        with contextlib.suppress(OSError):
            connection.sendall(plan.request[: plan.sends])
            if plan.waits_s:
                time.sleep(plan.waits_s)
            got = 0
            if plan.sends == len(plan.request):
                while got < plan.reads and (part := connection.recv(min(65_536, plan.reads - got))):
                    got += len(part)
                    if got >= len(plan.body):
                        break
        if plan.resets:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()
        with lock:
            tally.departures += 1
        return None
    problem, body = None, b""
    try:
        connection.sendall(plan.request)
        status, token, body = read_response(connection)
        if status != plan.status:
            problem = f"status {status}"
        elif status == 200 and (token != plan.token or body != plan.body):
            problem = f"token {token}, {len(body)} bytes instead of {len(plan.body)}"
    except (OSError, ValueError) as error:
        problem = repr(error)
    with lock:
        tally.answers += 1
        tally.bytes += len(body)
        tally.kinds[plan.kind] += 1
        if problem:
            tally.mismatches.append(f"{plan.kind} {plan.token}: {problem}")
    if problem:
        connection.close()
        return None
    return connection


def read_response(connection: socket.socket) -> tuple[int, str, bytes]:
    """Status, token and body of a response, which is chunked or has a length."""
    stream = connection.makefile("rb")
    status = int(stream.readline().split()[1])
    headers = {}
    while (line := stream.readline().strip()) != b"":
        name, _, value = line.partition(b":")
        if name.lower() in headers:
            raise ValueError(f"{name!r} is repeated")
        headers[name.lower()] = value.strip().decode()
    if b"content-length" in headers:
        body = stream.read(int(headers[b"content-length"]))
        return status, headers.get(b"x-token", ""), body
    parts = []
    while size := int(stream.readline(), 16):
        parts.append(stream.read(size))
        stream.readline()
    stream.readline()
    return status, headers.get(b"x-token", ""), b"".join(parts)


def settle(server: Server) -> list[str]:
    """Wait until nothing runs any more; what does not end is returned."""
    with contextlib.suppress(AssertionError):
        wait(lambda: not server.children() and not ours(), "the end of all scripts", 20)
    return server.children()


def ours() -> list[int]:
    """Processes of scripts, whoever their parent is by now."""
    found = []
    mark = f"{MARK}={os.getpid()}".encode()
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(OSError):  # It may have ended.
                if mark in Path(f"/proc/{entry}/environ").read_bytes().split(b"\0"):
                    found.append(int(entry))
    return found


def measure_output(server: Server, megabytes: int) -> int:
    """One answer of so many megabytes; the worker's memory before, and its peak."""
    for _ in range(20):
        one = Plan(random.Random(1), "warm")
        connection = make(server, one, None, Tally(), threading.Lock())
        if connection is not None:
            connection.close()
    Path(f"/proc/{server.worker}/clear_refs").write_text("5")
    before = server.look()
    begun, total = time.monotonic(), 0
    with server.connect() as connection:
        query = f"kind=large&size={megabytes << 20}&TOKEN=x"
        request = f"GET /cgi-bin/run?{query} HTTP/1.0\r\nHost: a\r\n\r\n"
        connection.sendall(request.encode())
        while part := connection.recv(1 << 20):
            total += len(part)
    seconds = time.monotonic() - begun
    after = server.look()
    server.stop()
    grown = after["peak_kib"] - before["rss_kib"]
    fits = total > megabytes << 20 and grown < 5 * 1024
    print(
        f"cgi_soak: {total / 1e6:,.0f} MB of output in {seconds:.2f} s, "
        f"RSS {before['rss_kib']:,} KiB before, peak {after['peak_kib']:,} KiB (+ {grown:,} KiB): "
        + ("all is well" if fits else "too much memory, or too few bytes")
    )
    return 0 if fits else 1


def wait(condition: object, what: str, deadline_s: float = DEADLINE_S) -> None:
    """Poll until the condition gives something true."""
    end = time.monotonic() + deadline_s
    while not condition():
        if time.monotonic() > end:
            raise AssertionError(f"not in time: {what}")
        time.sleep(0.02)


if __name__ == "__main__":
    sys.exit(main())
