"""Suspensions in callbacks of C code: CPython's own, of libraries, and of the server."""

from __future__ import annotations

import copy
import csv
import ctypes
import functools
import io
import json
import pickle
import re
import sqlite3
import xml.parsers.expat

from cases import ENVIRONS, File, case


@case
def sorting(pause, n, size):
    numbers = [(k * 7 + n) % (size + 3) for k in range(size)]
    numbers.sort(key=lambda x: pause(-x))
    by_pairs = sorted(numbers, key=functools.cmp_to_key(lambda x, y: pause(x - y)))
    nested = sorted(
        numbers, key=lambda x: sorted([x, n, pause(3)], key=lambda y: sorted([pause(y)])[0])
    )
    return [numbers, by_pairs, nested, max(numbers, key=pause), min(numbers, key=pause)]


@case
def function_tools(pause, n, size):
    @functools.lru_cache(maxsize=4)
    def cached(k):
        return pause(k * n)

    @functools.singledispatch
    def described(value):
        return pause("object")

    @described.register
    def _(value: int):
        return pause("int")

    return [
        functools.reduce(lambda x, y: pause(x * 3 + y), range(size), n),
        functools.partial(functools.partial(pause), n)(),
        [cached(k % 3) for k in range(size)],
        [described(1), described("")],
    ]


@case
def regular_expressions(pause, n, size):
    text = "-".join(str(k * n) for k in range(size))
    once = re.sub(r"\d+", lambda match: pause(str(int(match[0]) + 1)), text)
    inner = re.sub(
        r"\d+", lambda match: re.sub(r"\d", lambda one: pause(f"<{one[0]}>"), match[0]), text
    )
    scanner = re.Scanner([(r"\d+", lambda _, token: pause(int(token))), (r"-", None)])
    return [once, inner, scanner.scan(text)]


@case
def json_hooks(pause, n, size):
    class Odd:
        pass

    text = json.dumps([{"k": k, "n": {"n": n}} for k in range(size)])
    return [
        json.loads(text, object_hook=lambda found: pause(sorted(found))),
        json.loads(text, object_pairs_hook=lambda found: pause(len(found))),
        json.loads("[1.5, 2.5, 3]", parse_float=lambda digits: pause(n), parse_int=pause),
        json.dumps([Odd() for _ in range(size)], default=lambda odd: pause({"odd": n})),
        json.dumps({"a": [Odd()]}, default=lambda odd: pause(n), indent=1),
    ]


class Pickled:
    """Module level, as pickle wants it; the callback travels in a table."""

    callbacks = {}  # noqa: RUF012 - on purpose one for all

    def __init__(self, owner, k):
        self.owner = owner
        self.k = k

    def __reduce__(self):
        Pickled.callbacks[self.owner]()
        return (made_again, (self.owner, self.k), {"state": self.k})

    def __setstate__(self, state):
        Pickled.callbacks[self.owner]()
        self.state = state["state"]

    def __deepcopy__(self, memo):
        Pickled.callbacks[self.owner]()
        return Pickled(self.owner, self.k + 1)


def made_again(owner, k):
    Pickled.callbacks[owner]()
    return Pickled(owner, k)


@case
def pickling(pause, n, size):
    Pickled.callbacks[n] = pause
    things = [Pickled(n, k * n) for k in range(size)]

    class Pickler(pickle.Pickler):
        def persistent_id(self, thing):
            return pause(thing.k) if isinstance(thing, Pickled) else None

    class Unpickler(pickle.Unpickler):
        def persistent_load(self, found):
            return pause(found)

        def find_class(self, module, name):
            pause()
            return super().find_class(module, name)

    stream = io.BytesIO()
    Pickler(stream).dump(things)
    stream.seek(0)
    again = Unpickler(io.BytesIO(pickle.dumps(things))).load()
    return [
        [thing.state for thing in again],
        Unpickler(stream).load(),
        [thing.k for thing in copy.deepcopy(things)],
    ]


@case
def files_of_python(pause, n, size):
    """Buffers and text layers in C over a file in Python."""

    class Raw(io.RawIOBase):
        def __init__(self):
            self.left = [f"line {n} {k}\n".encode() for k in range(size)]
            self.written = []

        def readable(self):
            return True

        def writable(self):
            return True

        def readinto(self, buffer):
            data = pause(self.left.pop(0) if self.left else b"")
            buffer[: len(data)] = data
            return len(data)

        def write(self, data):
            self.written.append(pause(bytes(data)))
            return len(data)

    lines = list(io.TextIOWrapper(io.BufferedReader(Raw(), 16)))
    raw = Raw()
    writer = io.TextIOWrapper(io.BufferedWriter(raw, 16), write_through=True)
    for k in range(size):
        print(n, k, file=writer, flush=True)
    return [lines, b"".join(raw.written).decode()]


@case
def csv_and_xml(pause, n, size):
    rows = list(csv.reader(pause(f"{n},{k}") for k in range(size)))

    class File:
        def __init__(self):
            self.got = []

        def write(self, text):
            self.got.append(pause(text))

    file = File()
    csv.writer(file).writerows(rows)
    seen = []
    parser = xml.parsers.expat.ParserCreate()
    parser.StartElementHandler = lambda name, attributes: seen.append(pause([name, attributes]))
    parser.CharacterDataHandler = lambda text: seen.append(pause(text))
    parser.Parse("<a>" + f"<b k='{n}'>x</b>" * size + "</a>", True)
    return [rows, file.got, seen]


@case
def databases(pause, n, size):
    """sqlite3 calls back in the middle of its virtual machine."""

    class Total:
        def __init__(self):
            self.total = pause(0)

        def step(self, value):
            self.total += pause(value)

        def finalize(self):
            return pause(self.total)

    connection = sqlite3.connect(":memory:")
    try:
        connection.create_function("half", 1, lambda value: pause(value // 2))
        connection.create_aggregate("total_of", 1, Total)
        connection.create_collation("backwards", lambda x, y: pause((x < y) - (x > y)))
        connection.execute("create table t (k integer, name text)")
        connection.executemany(
            "insert into t values (?, ?)",
            ((pause(k * n), f"{(k * 7) % size:03}") for k in range(size)),
        )
        connection.set_trace_callback(lambda statement: pause())
        found = [
            connection.execute("select half(k) from t order by k").fetchall(),
            connection.execute("select total_of(k) from t").fetchall(),
            connection.execute("select name from t order by name collate backwards").fetchall(),
        ]
        connection.set_trace_callback(None)
        connection.row_factory = lambda cursor, row: pause(row[0])
        found.append(connection.execute("select k from t order by k").fetchall())
        connection.text_factory = lambda raw: pause(raw.decode())
        found.append(connection.execute("select name from t order by name").fetchall())
        return found
    finally:
        connection.close()


@case
def database_progress(pause, n, size):
    calls = []

    def progress():
        if len(calls) < size:
            calls.append(pause(n))
        return 0

    connection = sqlite3.connect(":memory:")
    try:
        connection.set_progress_handler(progress, 50)
        rows = connection.execute(
            "with recursive c(x) as (select 1 union all select x + 1 from c where x < 2000) "
            "select sum(x) from c"
        ).fetchone()
        return [rows[0], calls]
    finally:
        connection.close()


COMPARE = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_int), ctypes.POINTER(ctypes.c_int))


@case
def c_sort(pause, n, size):
    """A C library that knows nothing of Python: ctypes lets go of the lock and takes it back."""
    values = (ctypes.c_int * size)(*((k * 7 + n) % (size + 3) for k in range(size)))

    @COMPARE
    def compare(x, y):
        return pause(x[0] - y[0])

    qsort = ctypes.CDLL(None).qsort
    qsort.restype = None
    qsort.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t, COMPARE]
    qsort(values, size, ctypes.sizeof(ctypes.c_int), compare)
    return list(values)


@case
def c_sort_with_the_lock(pause, n, size):
    """The same through PyDLL, which keeps the lock."""
    kind = ctypes.PYFUNCTYPE(
        ctypes.c_int, ctypes.POINTER(ctypes.c_int), ctypes.POINTER(ctypes.c_int)
    )
    values = (ctypes.c_int * size)(*((k * 5 + n) % (size + 3) for k in range(size)))

    @kind
    def compare(x, y):
        return pause(x[0] - y[0])

    qsort = ctypes.PyDLL(None).qsort
    qsort.restype = None
    qsort.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t, kind]
    qsort(values, size, ctypes.sizeof(ctypes.c_int), compare)
    return list(values)


@case
def c_sort_in_c_sort(pause, n, size):
    """Both ways of calling, on top of each other."""

    def sort(library, kind, numbers, key):
        values = (ctypes.c_int * len(numbers))(*numbers)
        compare = kind(lambda x, y: key(x[0]) - key(y[0]))
        qsort = library(None).qsort
        qsort.restype = None
        qsort.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t, kind]
        qsort(values, len(numbers), ctypes.sizeof(ctypes.c_int), compare)
        return list(values)

    holds = ctypes.PYFUNCTYPE(
        ctypes.c_int, ctypes.POINTER(ctypes.c_int), ctypes.POINTER(ctypes.c_int)
    )

    def key(number):
        inner = sort(ctypes.PyDLL, holds, [number, n, 3], lambda x: sorted([x], key=pause)[0])
        return inner[0]

    return sort(ctypes.CDLL, COMPARE, [(k * 7 + n) % (size + 3) for k in range(size)], key)


@case
def c_calls_python(pause, n, size):
    """CPython's own C API, called through ctypes."""
    call = ctypes.pythonapi.PyObject_CallOneArg
    call.restype = ctypes.py_object
    call.argtypes = [ctypes.py_object, ctypes.py_object]
    return [call(pause, k + n) for k in range(size)]


@case
def c_takes_the_lock(pause, n, size):
    """PyGILState_Ensure on a thread that has the lock, and a suspension in between."""
    ensure = ctypes.pythonapi.PyGILState_Ensure
    release = ctypes.pythonapi.PyGILState_Release
    check = ctypes.pythonapi.PyGILState_Check
    found = []
    for k in range(size):
        state = ensure()
        found.append([pause(k + n), check()])
        release(state)
    return found


@case
def file_wrapper(pause, n, size):
    """Iterated here as the server would: its `read` and `close` are ours again."""
    wrapper = ENVIRONS[n]["wsgi.file_wrapper"](
        File(pause, [b"%d %d" % (n, k) for k in range(size)])
    )
    found = [part.decode() for part in wrapper]
    wrapper.close()
    return found
