"""psycopg2 waits through uwsgi, as examples/psycopg2 does, on a real PostgreSQL and each engine."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from urllib.parse import quote

import pytest

from tests.harness.waiting import until

LOCK = 1
WAITS = f"/run?{quote(f'SELECT 7 FROM pg_advisory_lock_shared({LOCK})')}"
"""Waits as long as the test holds the lock."""


def sleeps(seconds: float) -> str:
    return f"/run?{quote(f'SELECT 7 FROM pg_sleep({seconds})')}"


@pytest.fixture(params=["--ugreen", "--greenlet"])
def options(request: pytest.FixtureRequest) -> list[str]:
    if request.param == "--greenlet":
        pytest.importorskip("greenlet")
    return ["--async", "12", request.param]


@pytest.fixture
def server(serve, postgres, options):
    return serve("postgres", *options, env=postgres.env)


@pytest.fixture
def sql(postgres):
    """A connection of the test's own: `sql(statement, ...)` returns the first row."""
    import psycopg2

    env = postgres.env
    with closing(
        psycopg2.connect(host=env["PGHOST"], user=env["PGUSER"], dbname=env["PGDATABASE"])
    ) as connection:
        connection.autocommit = True

        def run(statement: str, *values: object):
            with connection.cursor() as cursor:
                cursor.execute(statement, values)
                return cursor.fetchone()

        yield run


@contextmanager
def locked(sql) -> Iterator[None]:
    sql("SELECT pg_advisory_lock(%s)", LOCK)
    try:
        yield
    finally:
        sql("SELECT pg_advisory_unlock(%s)", LOCK)


def waiting(sql) -> list[int]:
    """The backends that wait for the lock."""
    (found,) = sql(
        "SELECT coalesce(array_agg(pid), '{}') FROM pg_stat_activity"
        " WHERE wait_event_type = 'Lock' AND query LIKE '%%pg_advisory_lock_shared%%'"
    )
    return found


def test_ten_queries_are_under_way_at_once(server, sql):
    clients = [server.http() for _ in range(10)]
    with locked(sql):
        for client in clients:
            client.send_request(target=WAITS)
        until(lambda: len(waiting(sql)) == 10, "ten backends wait for the lock")
        assert server.get("/run?SELECT%2042").body == b"42", "others are served meanwhile"
    assert [client.read_response().body for client in clients] == [b"7"] * 10
    lines = [line for line in server.wait_requests(11) if line.uri == WAITS]
    assert len({line.core for line in lines}) == 10
    # Connecting, the statement, commit: each waits at least once.
    assert all(line.switches >= 3 for line in lines)


def test_ten_sleeps_take_about_as_long_as_one(server):
    clients = [server.http() for _ in range(10)]
    begin = time.monotonic()
    for client in clients:
        client.send_request(target=sleeps(1))
    assert {client.read_response().body for client in clients} == {b"7"}
    # Ten seconds one after the other; ten backends have to be started, too.
    assert time.monotonic() - begin < 6


def test_errors_of_statements_reach_the_application(server):
    response = server.get(f"/run?{quote('SELECT 1 / 0')}")
    assert response.status == 500
    assert response.body.startswith(b"DivisionByZero: division by zero")
    assert server.get("/run?SELECT%201").body == b"1"


def test_statement_timeout(server):
    statement = "SET LOCAL statement_timeout = 50; SELECT pg_sleep(60)"
    response = server.get(f"/run?{quote(statement)}")
    assert response.body.startswith(b"QueryCanceled: canceling statement due to statement timeout")


def test_killed_backend_is_an_operational_error(server, sql):
    client = server.http()
    with locked(sql):
        client.send_request(target=WAITS)
        (backend,) = until(lambda: waiting(sql), "the backend waits for the lock")
        assert sql("SELECT pg_terminate_backend(%s)", backend) == (True,)
        response = client.read_response()
    assert response.status == 500
    # AdminShutdown, a kind of it, when the backend's last words are read before its end is seen.
    assert response.body.partition(b":")[0] in (b"OperationalError", b"AdminShutdown")
    assert client.get("/run?SELECT%201").body == b"1"


def test_client_leaves_while_its_query_runs(fresh, postgres, options, sql):
    server = fresh("postgres", *options, env=postgres.env)
    client = server.http()
    with locked(sql):
        client.send_request(target=WAITS)
        until(lambda: waiting(sql), "the backend waits for the lock")
        client.reset()
        (line,) = server.wait_requests(1)
        assert (line.cancelled, line.abandoned) == ("client gone", False)
        assert server.get("/ended").body == b"client gone, closed: True"
        until(lambda: not waiting(sql), "PostgreSQL gives up the query, too")
    # That all cores are free again, the look around finds out.


def test_request_timeout_on_a_query(fresh, postgres, options, sql):
    # Long enough to connect in: it is the query that is to be ended.
    server = fresh("postgres", *options, "--request-timeout", "2", env=postgres.env)
    client = server.http()
    with locked(sql):
        client.send_request(target=WAITS)
        assert client.read_response().status == 504
        assert client.get("/ended").body == b"deadline, closed: True"
        until(lambda: not waiting(sql), "PostgreSQL gives up the query, too")
    assert server.wait_requests(2)[0].cancelled == "deadline"


def test_thread_of_the_application_waits_for_itself(server):
    assert server.get("/threads?SELECT%207").body == b"7"


def test_without_a_suspend_engine(fresh, postgres):
    """The reason stands in the log; no query pretends to have waited."""
    server = fresh("postgres", "--async", "2", env=postgres.env, allow=["Traceback", "Error"])
    assert server.get("/run?SELECT%201").status == 500
    server.wait_for_log(r"RuntimeError: uwsgi\.suspend\(\) needs a suspend engine")
