"""Recursion without an end, in as many ways as there are through Python and C.

`python app.py CASE` runs one in the main thread of an interpreter: what happens there is what must
happen in a core.
"""

from __future__ import annotations

import ctypes
import json
import re
import sys
from urllib.parse import parse_qs

DEEP = 100_000


def plain():
    def down():
        return down()

    down()


def with_arguments():
    def down(*args, **kwargs):
        return [down(*args, **kwargs) for _ in range(2)]

    down(1, 2, three=3)


def generator():
    def down():
        yield from down()

    next(down())


def call_method():
    class Thing:
        def __call__(self):
            return self()

    Thing()()


def missing_attribute():
    class Thing:
        def __getattr__(self, name):
            return getattr(self, name + "x")

    return Thing().a


def representation():
    class Thing:
        def __repr__(self):
            return str([self])

    repr(Thing())


def substitution():
    def down(match):
        return re.sub("a", down, "a")

    re.sub("a", down, "a")


def json_lists():
    json.loads("[" * DEEP)


def json_hook():
    def down(found):
        return json.loads('{"a": 1}', object_hook=down)

    down(None)


def equal_lists():
    def nested():
        found = []
        for _ in range(DEEP):
            found = [found]
        return found

    return nested() == nested()


def sort_key():
    def down(value):
        return sorted([1, 2], key=down)

    down(None)


def source_text():
    compile("-" * 20_000 + "1", "text", "eval")


def c_sort():
    """ctypes calls back through a C library that cannot stop; what it cannot raise, it reports."""
    kind = ctypes.CFUNCTYPE(
        ctypes.c_int, ctypes.POINTER(ctypes.c_int), ctypes.POINTER(ctypes.c_int)
    )
    qsort = ctypes.CDLL(None).qsort
    qsort.restype = None
    seen, reported = [], []

    def down(x, y):
        try:
            values = (ctypes.c_int * 2)(2, 1)
            qsort(values, 2, ctypes.sizeof(ctypes.c_int), compare)
        except RecursionError as error:
            seen.append(error)
        return 0

    compare = kind(down)
    before = sys.unraisablehook
    # No Python function: it would be called where the recursion has ended.
    sys.unraisablehook = reported.append
    try:
        down(None, None)
    finally:
        sys.unraisablehook = before
    raise (seen + [report.exc_value for report in reported])[0]


CASES = {
    name: function
    for name, function in list(globals().items())
    if callable(function) and getattr(function, "__module__", None) == __name__
    if name not in ("parse_qs",)
}


def outcome(name):
    """The type of what is raised; each call begins as near to the first frame as the last one."""
    try:
        CASES[name]()
    except (RecursionError, MemoryError, SyntaxError) as error:
        return type(error).__name__
    return "nothing"


def suspended_in_the_depth(pause):
    """Nearly at the limit, in C code and in Python: others may go as deep meanwhile."""
    limit = sys.getrecursionlimit()

    def down(level):
        if level == 0:
            pause()
            return 0
        below = []
        sorted([level], key=lambda x: below.append(down(x - 1)) or 0)
        return below[0] + 1

    depth = 0
    while depth + 50 < limit // 3:
        try:
            down(depth + 50)
        except RecursionError:
            break
        depth += 50
    found = down(depth - 50) == depth - 50
    try:
        down(limit)
    except RecursionError:
        pause()
        return [found, depth > 0, "RecursionError"]
    return [found, depth > 0, "nothing"]


def overrun():
    """Goes down in C code that CPython does not guard; the end of the stack comes first."""

    def run_over_the_end(nested):
        return hash(nested)

    nested = ()
    for _ in range(20 * DEEP):
        nested = (nested,)
    run_over_the_end(nested)


def application(environ, start_response):
    import uwsgi

    query = parse_qs(environ["QUERY_STRING"])
    name = environ["PATH_INFO"][1:]
    if name == "json":
        try:
            found = str(json.loads(environ["wsgi.input"].read()))
        except RecursionError as error:
            found = type(error).__name__
    elif name == "overrun":
        overrun()
    elif name == "deep":
        found = json.dumps(suspended_in_the_depth(uwsgi.suspend))
    elif name == "after":
        for _ in range(3):
            uwsgi.suspend()
        found = outcome(query["case"][0])
        uwsgi.suspend()
    elif name == "held":
        start_response("200 OK", [("Content-Type", "text/plain")])
        return held()
    else:
        found = "hello" if name == "" else outcome(name)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [found.encode()]


def held():
    """Waits while the stack of another core is overrun."""
    import uwsgi

    yield b"held\n"
    uwsgi.async_sleep(30)
    yield b""
    yield b"ended"


if __name__ == "__main__":
    print(outcome(sys.argv[1]))
