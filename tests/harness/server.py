"""greenloom as a process: started, watched and stopped; its log is the source of what it did."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.harness import procs, request_log
from tests.harness.http import Client, Response
from tests.harness.uwsgi import PacketClient
from tests.harness.waiting import DEADLINE_S, until

ROOT = Path(__file__).resolve().parents[2]
APPS = ROOT / "tests" / "apps"
PROBE = APPS / "probe" / "probe.py"
START_DEADLINE_S = 20.0
STOP_DEADLINE_S = 20.0
LOG_LIMIT = 64 << 20
"""No test makes a server say so much; reading more of it would cost the machine its memory."""

BOUND = re.compile(
    r"greenloom socket (?P<number>\d+) bound to (?P<kind>\w+) address (?P<address>\S+) fd \d+"
)
SPAWNED = re.compile(
    # With --log-date there is a date in front.
    r"^(?:.* - )?(?:Res|s)pawned greenloom worker .*\((?:new )?pid: (?P<pid>\d+)",
    re.MULTILINE,
)
READY = re.compile(r"greenloom is ready \(generation \d+, (?P<workers>\d+) workers?\)")


def command() -> list[str]:
    """The console script beside the running interpreter, or what GREENLOOM names."""
    named = os.environ.get("GREENLOOM")
    if named:
        return [named]
    for folder in (Path(sys.executable).parent, ROOT / ".venv" / "bin"):
        if (folder / "greenloom").exists():
            return [str(folder / "greenloom")]
    raise AssertionError("no greenloom command: build it with `make test` or set GREENLOOM")


def native_command() -> list[str]:
    """The executable without an interpreter, or what GREENLOOM_NATIVE names."""
    named = os.environ.get("GREENLOOM_NATIVE")
    program = Path(named) if named else ROOT / "target" / "release" / "greenloom"
    assert program.exists(), (
        f"there is no {program}: cargo build --release -p greenloom-cli --bin greenloom"
    )
    return [str(program)]


def environment(changes: dict[str, str] | None = None) -> dict[str, str]:
    """The caller's environment without what would configure a server."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(("UWSGI_", "GREENLOOM"))}
    env["PYTHONDONTWRITEBYTECODE"] = "1"
    env.update(changes or {})
    return env


def run(
    *arguments: str, cwd: Path | None = None, env: dict[str, str] | None = None, stdin: str = ""
):
    """Runs greenloom to its end: for what prints or refuses instead of serving."""
    return subprocess.run(
        [*command(), *arguments],
        cwd=cwd,
        env=environment(env),
        input=stdin,
        capture_output=True,
        text=True,
        timeout=START_DEADLINE_S,
        check=False,
    )


OTHER_LINES = {
    "--disable-logging",
    "--log-format",
    "--log-json",
    "--log-micros",
    "--memory-report",
}
"""Options with which requests have no line, or one that `request_log` does not read."""


@dataclass(frozen=True)
class Listener:
    """A bound socket as the log announced it."""

    kind: str
    address: tuple[str, int] | str


class Server:
    """One running server."""

    def __init__(
        self,
        log: Path,
        app: str | None,
        options: Sequence[str] = (),
        *,
        http: str | None = "127.0.0.1:0",
        uwsgi: str | None = None,
        probe: bool = True,
        env: dict[str, str] | None = None,
        cwd: Path | None = None,
        logto: Path | None = None,
        program: Sequence[str] | None = None,
        prefix: Sequence[str] = (),
        pass_fds: Sequence[int] = (),
    ) -> None:
        """`program` runs instead of the usual command, `prefix` is a launcher in front of it."""
        self.log_path = logto or log
        self.options = list(options)
        self.probed = probe
        self.logs_requests = not OTHER_LINES & set(self.options)
        self.http_number, self.uwsgi_number = None, None
        arguments: list[str] = []
        number = 0
        if http is not None:
            arguments += ["--http-socket", http]
            self.http_number, number = number, number + 1
        if uwsgi is not None:
            arguments += ["--uwsgi-socket", uwsgi]
            self.uwsgi_number = number
        if app is not None:
            arguments += ["--chdir", str(APPS / app), "--module", "app"]
        if probe:
            # The callable is named: `--callable` is for all apps that name none.
            arguments += ["--mount", f"/__probe={PROBE}:application"]
        if logto is not None:
            arguments += ["--logto", str(logto)]
        self.arguments = [*prefix, *(program or command()), *arguments, *self.options]
        with log.open("wb") as out:
            self.process = subprocess.Popen(
                self.arguments,
                cwd=cwd or ROOT,
                env=environment(env),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                pass_fds=pass_fds,
            )
        self.mark = 0
        self.probed_from: int | None = None
        self.clients: list[Client] = []
        self.seen: dict[int, str] = {}
        self.baseline: dict[int, dict[int, str]] = {}
        self.more_directories = 0
        """Directories with files that clients name (DOCUMENT_ROOT), not options."""

    # Start.

    def wait_ready(self) -> Server:
        """Returns once the ready line is there, with the listeners read from the log."""

        def ready() -> re.Match[str] | None:
            found = READY.search(self.log_text())
            if found is None and self.process.poll() is not None:
                raise AssertionError(
                    f"ended with {self.process.returncode} instead of starting:\n{self.log_text()}"
                )
            return found

        try:
            found = until(ready, "the ready line", START_DEADLINE_S)
        except AssertionError as error:
            shown = " ".join(self.arguments)
            raise AssertionError(f"{error}\n{shown}\n{self.log_text()}") from None
        count = int(found["workers"])
        until(lambda: len(self.workers()) == count, f"{count} worker processes")
        bound = sorted(BOUND.finditer(self.log_text()), key=lambda m: int(m["number"]))
        self.listeners = [self._listener(m) for m in bound]
        self.baseline = {pid: procs.open_files(pid) for pid in self.workers()}
        return self

    def _listener(self, match: re.Match[str]) -> Listener:
        address = match["address"]
        if match["kind"] == "UNIX":
            return Listener("UNIX", address)
        host, _, port = address.rpartition(":")
        return Listener(match["kind"], (host.strip("[]"), int(port)))

    # Processes.

    @property
    def pid(self) -> int:
        """The process that was started (the master, unless there is none)."""
        return self.process.pid

    def remember(self) -> list[int]:
        """All processes below the started one; kept, to find what is left after the stop."""
        found = procs.descendants(self.pid)
        for pid in found:
            started = procs.start_time(pid)
            if started:
                self.seen[pid] = started
        return found

    def workers(self) -> list[int]:
        """The living worker processes, as the log announced them."""
        self.remember()
        text = self.log_path.read_bytes().decode("utf-8", "replace")
        announced = {int(match["pid"]) for match in SPAWNED.finditer(text)}
        return sorted(pid for pid in announced if procs.alive(pid))

    def worker(self) -> int:
        """The only worker."""
        (pid,) = self.workers()
        return pid

    # Log.

    def begin(self) -> None:
        """From here on only what is new counts as the log."""
        self.mark = self.log_path.stat().st_size
        self.probed_from = None

    def begin_probes(self) -> None:
        """From here on the log tells of the look around, too."""
        self.probed_from = len(self.log_lines()) - 1

    def log_text(self) -> str:
        if not self.log_path.exists():
            return ""
        with self.log_path.open("rb") as log:
            log.seek(self.mark)
            found = log.read(LOG_LIMIT + 1)
        text = found.decode("utf-8", "surrogateescape")
        assert len(found) <= LOG_LIMIT, f"the log is flooded; it begins:\n{text[:2000]}"
        return text

    def log_lines(self) -> list[str]:
        """Lines as a reader of the file sees them: ended by a newline and nothing else."""
        return self.log_text().split("\n")

    def lines_after_ready(self) -> list[str]:
        """What the server said since it was ready, or since `begin`."""
        lines = self.log_lines()
        ready = next((i for i, line in enumerate(lines) if READY.search(line)), -1)
        return [line for line in lines[ready + 1 :] if line]

    def wait_for_lines(self, count: int) -> list[str]:
        """At least `count` lines since the server was ready."""
        until(lambda: len(self.lines_after_ready()) >= count, f"{count} lines after the start")
        return self.lines_after_ready()

    def wait_for_log(self, pattern: str, deadline_s: float = DEADLINE_S) -> re.Match[str]:
        compiled = re.compile(pattern, re.MULTILINE)
        try:
            return until(
                lambda: compiled.search(self.log_text()), f"log line {pattern!r}", deadline_s
            )
        except AssertionError as error:
            raise AssertionError(f"{error}; the log:\n{self.log_text()}") from None

    def count_log(self, pattern: str) -> int:
        return len(re.findall(pattern, self.log_text(), re.MULTILINE))

    def expect_log(self, pattern: str, count: int = 1) -> None:
        """So many lines of the log match, soon: an answer may be here before its line is."""
        until(lambda: self.count_log(pattern) >= count, f"{count} log lines {pattern!r}")
        assert self.count_log(pattern) == count

    def log_requests(self, probes: bool = False) -> list[request_log.LoggedRequest]:
        """The request lines in the order of the log, without those of the probe."""
        found = filter(None, map(request_log.parse, self.log_lines()))
        return [r for r in found if probes or not r.uri.startswith("/__probe")]

    def wait_requests(self, count: int) -> list[request_log.LoggedRequest]:
        """At least `count` request lines: they are written after the response has left."""
        try:
            until(lambda: len(self.log_requests()) >= count, f"{count} request lines")
        except AssertionError as error:
            raise AssertionError(f"{error}; the log:\n{self.log_text()}") from None
        return self.log_requests()

    # Clients.

    @property
    def http_address(self) -> tuple[str, int] | str:
        assert self.http_number is not None
        return self.listeners[self.http_number].address

    @property
    def uwsgi_address(self) -> tuple[str, int] | str:
        assert self.uwsgi_number is not None
        return self.listeners[self.uwsgi_number].address

    def http(self, **options) -> Client:
        """A new HTTP connection; closed by the look around at the latest."""
        client = Client(self.http_address, **options)
        self.clients.append(client)
        return client

    def packets(self, **options) -> PacketClient:
        """A new connection to the uwsgi listener."""
        client = PacketClient(self.uwsgi_address, **options)
        self.clients.append(client)
        return client

    def request(self, method: str = "GET", target: str = "/", headers=(), body=None) -> Response:
        """One request on a connection of its own."""
        with Client(self.http_address) as client:
            return client.request(method, target, [("Connection", "close"), *headers], body)

    def get(self, target: str = "/", **headers: str) -> Response:
        pairs = [(k.replace("_", "-"), v) for k, v in headers.items()]
        return self.request("GET", target, pairs)

    def close_clients(self) -> None:
        for client in self.clients:
            client.close()
        self.clients.clear()

    # Stop.

    def signal(self, number: signal.Signals, pid: int | None = None) -> None:
        self.remember()
        os.kill(pid or self.pid, number)

    def reload(self) -> None:
        """SIGHUP: returns once the next generation serves."""
        count = self.count_log(READY.pattern)
        self.signal(signal.SIGHUP)
        until(lambda: self.count_log(READY.pattern) > count, "the next generation", 20)

    def wait_exit(self, deadline_s: float = STOP_DEADLINE_S) -> int:
        try:
            return self.process.wait(deadline_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"no exit within {deadline_s} s:\n{self.log_text()}") from None

    def leftovers(self) -> list[int]:
        """Processes of this server that still live."""
        return [
            pid
            for pid, started in self.seen.items()
            if procs.alive(pid) and procs.start_time(pid) == started
        ]

    def kill(self) -> None:
        """Leaves nothing behind, whatever state the server is in."""
        self.remember()
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        for pid in self.leftovers():
            os.kill(pid, signal.SIGKILL)
