"""What is patched when the application is loaded, and when it serves; PATCH has it patch by itself.

/patched        what was patched at both times, and the names that the loading has imported
/meet?N         waits, in the `sleep` that the loading has imported, until N requests are here
"""

from __future__ import annotations

import json
import os
from time import sleep

from gevent import monkey

MODULES = ("socket", "ssl", "subprocess", "threading", "time")
PATIENCE = 100


def patched():
    return [name for name in MODULES if monkey.is_module_patched(name)]


AT_LOAD = patched()
SLEEP = sleep.__module__
getattr(monkey, os.environ.get("PATCH", "is_anything_patched"))()
here = []


def meet(number):
    here.append(None)
    for _ in range(PATIENCE):
        if len(here) >= number:
            return "met"
        sleep(0.01)
    return "alone"


def application(environ, start_response):
    if environ["PATH_INFO"] == "/meet":
        answer = meet(int(environ["QUERY_STRING"]))
    else:
        answer = {"at load": AT_LOAD, "sleep": SLEEP, "now": patched()}
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(answer).encode()]
