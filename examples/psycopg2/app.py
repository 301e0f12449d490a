"""Queries that wait for PostgreSQL without holding up anybody.

    /sleep?seconds=1        the database sleeps, the worker does not
    /activity               how many queries of this database are under way

Where the database is, libpq's own variables say: PGHOST, PGUSER, PGDATABASE and others.
"""

from urllib.parse import parse_qs

import psycopg2
from psycopg2_uwsgi import Pool, install

# PostgreSQL looks every second of a query whether its client is still there, so that the query of a
# request that was ended ends, too.
pool = Pool("application_name=greenloom options='-c client_connection_check_interval=1s'")
install()


def application(env, start_response):
    query = {name: values[-1] for name, values in parse_qs(env.get("QUERY_STRING", "")).items()}
    try:
        match env["PATH_INFO"]:
            case "/sleep":
                text = sleep(float(query.get("seconds", 1)))
            case "/activity":
                text = f"{activity()} under way\n"
            case _:
                text = __doc__
    except ValueError:
        start_response("400 Bad Request", [("Content-Type", "text/plain")])
        return [b"seconds is a number\n"]
    except psycopg2.Error as error:
        start_response("503 Service Unavailable", [("Content-Type", "text/plain")])
        return [f"{type(error).__name__}: {error}\n".encode()]
    start_response("200 OK", [("Content-Type", "text/plain; charset=utf-8")])
    return [text.encode()]


def sleep(seconds):
    with pool.connection() as connection, connection.cursor() as cursor:
        cursor.execute("SELECT pg_sleep(%s)", (seconds,))
    return f"slept {seconds} s\n"


def activity():
    with pool.connection() as connection, connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE state = 'active'"
            " AND datname = current_database() AND pid <> pg_backend_pid()"
        )
        return cursor.fetchone()[0]
