"""Suspensions in the middle of everything that calls back into Python.

The cases are in `cases_*.py`. Each runs twice: with a callback that only returns its argument, and
with one that is suspended first. Both must give the same.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "contract_support"))

import cases_c  # noqa: F401 - enters its cases
import cases_methods  # noqa: F401
import cases_python
import uwsgi
from cases import CASES, ENVIRONS, UNCOUNTED, File
from contract_support import application_of


def handler(name):
    function = CASES[name]

    def handle(request):
        n = request.number
        size = 3 + n * 5 % 8
        ENVIRONS[n] = request.environ
        expected = function(lambda value=None: value, n, size)
        request.meet()

        def pause(value=None):
            request.suspend()
            return value

        found = function(pause, n, size)
        # Through JSON, as the answer will be: tuples and lists look alike there.
        return {"same": json.dumps(found) == json.dumps(expected), "found": repr(found)[:2000]}

    return handle


def all_cases(request):
    return {name: name not in UNCOUNTED for name in CASES}


def one_module(request):
    """All import the same module, which is suspended while it is imported.

    They are one thread, and the locks of imports belong to threads: those who come later see it
    half-imported, and nobody waits for ever.
    """
    request.meet("begin")
    cases_python.Source.callbacks[1000] = request.pause
    module = __import__("paused_1000_0")
    complete = hasattr(module, "after")
    request.meet("end")
    assert module is __import__("paused_1000_0")
    found = [complete, module.after]
    request.meet("out")
    sys.modules.pop("paused_1000_0", None)
    return found


# Responses that the server takes apart, and is suspended while it does.


def wrapped(environ, start_response):
    """The server reads the file part by part, and closes it."""
    n = environ["QUERY_STRING"]
    start_response("200 OK", [("Content-Type", "text/plain")])
    file = File(suspended, [f"{n} {k}\n".encode() for k in range(20)])
    return environ["wsgi.file_wrapper"](file)


def sent(environ, start_response):
    """The server flushes the file, asks for its descriptor, and closes it."""
    start_response("200 OK", [("Content-Type", "text/plain")])
    with tempfile.TemporaryFile() as file:
        file.write(environ["QUERY_STRING"].encode() * 1000)
        file.flush()
        uwsgi.sendfile(File(suspended, [], os.dup(file.fileno())))
    return []


def suspended(value=None):
    uwsgi.suspend()
    return value


RESPONSES = {"/wrapped": wrapped, "/sent": sent}
answer = application_of(
    {name: handler(name) for name in CASES} | {"cases": all_cases, "one_module": one_module}
)


def application(environ, start_response):
    return RESPONSES.get(environ["PATH_INFO"], answer)(environ, start_response)
