"""Statements for PostgreSQL, each on a connection of its own, waiting as examples/psycopg2 does.

/run?QUERY-STRING       one statement; a row's first field is the answer
/ended                  which requests were ended from outside, and whether psycopg2 closed
/threads                a statement in a thread of the application
"""

from __future__ import annotations

import sys
import threading
from contextlib import closing
from pathlib import Path
from urllib.parse import unquote

import psycopg2
import uwsgi

# Behind everything else: that folder has an app.py, too.
sys.path.append(str(Path(__file__).resolve().parents[3] / "examples" / "psycopg2"))

import psycopg2_uwsgi

psycopg2_uwsgi.install()

ended = []


def ask(statement):
    connection = psycopg2.connect("options='-c client_connection_check_interval=100ms'")
    with closing(connection), connection.cursor() as cursor:
        try:
            cursor.execute(statement)
            connection.commit()
        except uwsgi.Cancelled as cancelled:
            ended.append(f"{cancelled.reason}, closed: {connection.closed != 0}")
            raise
        return cursor.fetchone()[0]


def in_thread(statement):
    answers = []
    thread = threading.Thread(target=lambda: answers.append(ask(statement)))
    thread.start()
    thread.join()
    return answers[0]


def application(environ, start_response):
    statement = unquote(environ["QUERY_STRING"])
    try:
        match environ["PATH_INFO"]:
            case "/ended":
                answer = "\n".join(ended)
            case "/threads":
                answer = in_thread(statement)
            case _:
                answer = ask(statement)
    except psycopg2.Error as error:
        start_response("500 Internal Server Error", [("Content-Type", "text/plain")])
        return [f"{type(error).__name__}: {error}".encode()]
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(answer).encode()]
