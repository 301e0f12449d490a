"""Runs signals, and says so in the log; raises them for clients, in whatever instance they name."""

import sys

import uwsgi


def run(number):
    sys.stderr.write(f"worker {uwsgi.worker_id()} runs signal {number}\n")


uwsgi.register_signal(17, "", run)
uwsgi.register_signal(18, "workers", run)


def application(environ, start_response):
    try:
        uwsgi.signal(17, environ["QUERY_STRING"])
        answer = "raised"
    except (OSError, ValueError) as error:
        answer = f"{type(error).__name__}: {error}"
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [answer.encode()]
