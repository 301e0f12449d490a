"""Which process answers: its pid, its worker id, and where the module was loaded."""

import json
import os

import uwsgi

loaded_in = os.getpid()


def application(environ, start_response):
    found = {
        "pid": os.getpid(),
        "loaded_in": loaded_in,
        "worker": uwsgi.worker_id(),
        "master": uwsgi.masterpid(),
        "cwd": os.getcwd(),
        "variable": os.environ.get("FROM_OPTION"),
        "multiprocess": environ["wsgi.multiprocess"],
    }
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(found).encode()]
