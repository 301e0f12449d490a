"""The fixtures of every test: `serve` starts servers and looks around when the test is over."""

from __future__ import annotations

import importlib.util
import itertools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from tests.harness import autobahn as fuzzing_client
from tests.harness import chromium as browser
from tests.harness import redis as redis_server
from tests.harness.gate import Counter, Gate
from tests.harness.look_around import check_log, look_around, look_at_running
from tests.harness.needed import missing
from tests.harness.nginx import Nginx
from tests.harness.postgres import Postgres, programs
from tests.harness.server import Server, native_command

Serve = Callable[..., Server]

MODES = {"sync": [], "async": ["--async", "4"]}
"""Options that must not change what an application does."""


@pytest.fixture(params=MODES)
def modes(request: pytest.FixtureRequest) -> list[str]:
    """Options of one mode; a test that takes this runs once in each."""
    return MODES[request.param]


@pytest.fixture
def fresh(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Serve]:
    """`fresh(app, *options, allow=[pattern, ...], **how)` starts a server for this test alone.

    `allow` are the log lines that the test expects beyond the harmless ones.
    """
    running: list[tuple[Server, list[str]]] = []

    def start(app: str | None, *options: str, allow: tuple[str, ...] | list[str] = (), **how):
        server = Server(tmp_path / f"server-{len(running)}.log", app, options, **how)
        running.append((server, list(allow)))
        return server.wait_ready()

    yield start
    try:
        for server, allowed in running:
            if not has_failed(request):
                look_around(server, allowed)
    finally:
        for server, _ in running:
            finish(server)


class Pool:
    """Running servers of one test module, so that each test need not start its own."""

    LIMIT = 6

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.started = 0
        self.servers: dict[tuple, Server] = {}

    def take(self, app: str | None, options: tuple[str, ...], how: dict[str, object]) -> Server:
        """A server with just these options, running already or started now."""
        key = (app, options, repr(sorted(how.items())))
        server = self.servers.pop(key, None)
        if server is None:
            while len(self.servers) >= self.LIMIT:
                self.stop(next(iter(self.servers)))
            self.started += 1
            server = Server(self.folder / f"{self.started}.log", app, options, **how)
            try:
                server.wait_ready()
            except BaseException:
                finish(server)
                raise
        self.servers[key] = server
        server.begin()
        return server

    def drop(self, server: Server) -> None:
        """For servers that a failed test may have damaged."""
        self.servers = {k: s for k, s in self.servers.items() if s is not server}
        finish(server)

    def stop(self, key: tuple) -> None:
        server = self.servers.pop(key)
        server.begin()
        try:
            look_around(server, [])
        finally:
            finish(server)


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pool]:
    """Stops what its module's tests have left running."""
    made = Pool(tmp_path_factory.mktemp("servers"))
    yield made
    try:
        while made.servers:
            made.stop(next(iter(made.servers)))
    finally:
        for server in list(made.servers.values()):
            made.drop(server)


@pytest.fixture
def serve(fresh: Serve, pool: Pool, request: pytest.FixtureRequest) -> Iterator[Serve]:
    """Like `fresh`, but the server may have served earlier tests of the module.

    Its log begins with the call. What belongs to one test alone gets a fresh server.
    """
    used: list[tuple[Server, list[str]]] = []

    def start(app: str | None, *options: str, allow: tuple[str, ...] | list[str] = (), **how):
        if not reusable(options, how):
            return fresh(app, *options, allow=allow, **how)
        server = pool.take(app, options, how)
        used.append((server, list(allow)))
        return server

    yield start
    try:
        for server, allowed in used:
            if not has_failed(request):
                look_at_running(server)
                check_log(server, allowed)
    except BaseException:
        request.node.failed = True
        raise
    finally:
        if has_failed(request):
            for server, _ in used:
                pool.drop(server)


@pytest.fixture
def native(serve: Serve) -> Serve:
    """`native(*options, allow=[...], **how)`: `serve` with the executable without an interpreter.

    Such a server has files and scripts, no application, and so no probe.
    """

    def start(*options: str, **how):
        return serve(None, *options, program=native_command(), probe=False, **how)

    return start


@pytest.fixture
def fresh_native(fresh: Serve) -> Serve:
    """Like `native`, for this test alone."""

    def start(*options: str, **how):
        return fresh(None, *options, program=native_command(), probe=False, **how)

    return start


def reusable(options: tuple[str, ...], how: dict[str, object]) -> bool:
    """False when something belongs to one test: its folder, or an address of its own."""
    own_address = str(how.get("uwsgi", "")).startswith("/")
    own_folder = any("/test_" in option for option in options)
    shared = {"uwsgi", "probe", "env", "program"}
    return set(how) <= shared and not own_address and not own_folder


def has_failed(request: pytest.FixtureRequest) -> bool:
    return getattr(request.node, "failed", False)


def finish(server: Server) -> None:
    """Kills what is left and shows the log: pytest drops it unless something failed."""
    server.close_clients()
    server.kill()
    try:
        text = server.log_text()
    except AssertionError as error:
        text = str(error)
    print(f"--- {' '.join(server.arguments)}\n{text}")


@pytest.fixture(scope="module")
def module_gate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gate]:
    """One path for a module, so that its servers can be used again."""
    made = Gate(tmp_path_factory.mktemp("gate") / "gate")
    yield made
    made.close()


@pytest.fixture
def gate(module_gate: Gate) -> Iterator[Gate]:
    """A closed gate; pass `env=gate.env` to the server."""
    yield module_gate
    module_gate.shut()


@pytest.fixture(scope="module")
def module_counter(tmp_path_factory: pytest.TempPathFactory) -> Counter:
    return Counter(tmp_path_factory.mktemp("counter") / "counter")


@pytest.fixture
def counter(module_counter: Counter) -> Counter:
    """Tells how far a generator got; pass `env=counter.env` to the server."""
    return module_counter


@pytest.fixture
def nginx(tmp_path: Path) -> Iterator[Callable[..., Nginx]]:
    """`nginx(server)` puts an nginx with `uwsgi_pass` in front of a server's uwsgi listener.

    With `proxy=True` it is one with `proxy_pass`, in front of the HTTP listener.
    """
    running: list[Nginx] = []

    def start(server: Server, *directives: str, proxy: bool = False) -> Nginx:
        address = server.http_address if proxy else server.uwsgi_address
        folder = tmp_path / f"nginx-{len(running)}"
        front = Nginx(folder, address, directives, proxy=proxy)
        running.append(front)
        front.start()
        return front

    yield start
    for front in running:
        front.stop()


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A running PostgreSQL; pass `env=postgres.env` to the server. CI must have one."""
    if importlib.util.find_spec("psycopg2") is None:
        missing("psycopg2 is not installed (pip install psycopg2-binary)")
    found = programs()
    if found is None:
        missing("PostgreSQL is not installed (Debian: apt-get install postgresql)")
    running = Postgres(found)
    try:
        running.start()
        yield running
    finally:
        running.stop()


@pytest.fixture(scope="session")
def redis() -> Iterator[redis_server.Redis]:
    """A running Redis; pass `env=redis.env` to the server. CI must have one."""
    if importlib.util.find_spec("redis") is None:
        missing("redis is not installed (pip install redis)")
    found = redis_server.program()
    if found is None:
        missing("Redis is not installed (Debian: apt-get install redis-tools)")
    running = redis_server.Redis(found)
    try:
        running.start()
        yield running
    finally:
        running.stop()


@pytest.fixture(scope="session")
def chromium_process() -> Iterator[browser.Chromium]:
    """One browser for the session. CI must have one."""
    found = browser.program()
    if found is None:
        missing("Chromium is not installed (Debian: apt-get install chromium-headless-shell)")
    running = browser.Chromium(found)
    try:
        running.start()
        yield running
    finally:
        running.stop()


@pytest.fixture
def chromium(
    chromium_process: browser.Chromium, request: pytest.FixtureRequest
) -> Iterator[browser.Chromium]:
    """A browser: `chromium.open(url)` opens a window, which is closed after the test.

    A test in which a page complained fails, unless `window.forgive()` says that it had to.
    """
    yield chromium_process
    complaints = chromium_process.close_windows()
    assert has_failed(request) or not complaints, complaints


@pytest.fixture
def autobahn(tmp_path: Path) -> Callable[..., dict[str, fuzzing_client.Case]]:
    """`autobahn(url, cases)` runs the fuzzing client (harness/autobahn.py). CI must have it."""
    if fuzzing_client.program() is None:
        missing(fuzzing_client.MISSING)
    runs = itertools.count()

    def run(url: str, cases: Sequence[str], **how) -> dict[str, fuzzing_client.Case]:
        return fuzzing_client.run(url, cases, tmp_path / f"autobahn-{next(runs)}", **how)

    return run
