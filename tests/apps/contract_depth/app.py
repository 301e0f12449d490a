"""Suspensions in the middle of everything that calls back into Python.

Each case computes something with the help of a callback, and the callback is where the request is
suspended. A case runs twice: with a callback that only returns its argument, and with one that is
suspended first. Both must give the same. Cases of different requests have different sizes, so they
end in another order than they began.
"""

from __future__ import annotations

import bisect
import collections
import contextlib
import copy
import csv
import ctypes
import functools
import gc
import heapq
import importlib.abc
import importlib.machinery
import io
import itertools
import json
import pickle
import re
import sqlite3
import sys
import weakref
import xml.parsers.expat
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "contract_support"))

from contract_support import application_of

CASES = {}
UNCOUNTED = set()


def case(function):
    """A function of (pause, n, size): what it returns must not depend on what `pause` does."""
    CASES[function.__name__] = function
    return function


def uncounted(function):
    """One whose number of pauses is not the same each time, or not this request's own."""
    UNCOUNTED.add(function.__name__)
    return case(function)


# Plain Python.


@case
def plain_call(pause, n, size):
    return [pause(n + k) for k in range(size)]


@case
def deep_recursion(pause, n, size):
    def down(level):
        return pause(n) if level == 0 else down(level - 1) + pause(level)

    return down(50 + size)


@case
def comprehensions(pause, n, size):
    return [
        [pause(k) * n for k in range(size)],
        {str(pause(k)): pause(n) for k in range(size)},
        sorted({pause(k) * n for k in range(size)}),
        [[pause(j) for j in range(k)] for k in range(3)],
        sum(pause(k) for k in range(size)),
    ]


@case
def generators(pause, n, size):
    def leaf(k):
        yield pause(k)
        yield pause(k + n)

    def branch():
        for k in range(size):
            yield from leaf(k)
        return "returned"

    def root():
        result = yield from branch()
        yield result

    return list(root())


@case
def generator_send_and_throw(pause, n, size):
    def echo():
        got = []
        while True:
            try:
                got.append(pause((yield pause(len(got)))))
            except KeyError as error:
                got.append(pause(str(error)))
            except StopAsyncIteration:
                return got

    running = echo()
    next(running)
    for k in range(size):
        running.send(k * n)
        running.throw(KeyError(n))
    try:
        running.throw(StopAsyncIteration)
    except StopIteration as stop:
        return stop.value


@case
def generator_close(pause, n, size):
    seen = []

    def parts():
        try:
            while True:
                yield pause(n)
        finally:
            seen.append(pause(size))

    for _ in range(size):
        running = parts()
        seen.append(next(running))
        running.close()
    return seen


@case
def coroutines_by_hand(pause, n, size):
    class Wait:
        def __await__(self):
            yield pause(n)
            return pause(n + 1)

    async def numbers():
        for k in range(size):
            yield await Wait() + k

    async def work():
        return [number async for number in numbers()]

    coroutine = work()
    try:
        while True:
            coroutine.send(None)
    except StopIteration as stop:
        return stop.value


@case
def context_managers(pause, n, size):
    log = []

    class Manager:
        def __enter__(self):
            return pause(n)

        def __exit__(self, kind, value, trace):
            log.append(pause(str(value)))
            return True

    for k in range(size):
        with Manager() as got, Manager():
            log.append(got)
            raise ValueError(k + n)
    return log


@case
def context_manager_decorators(pause, n, size):
    log = []

    @contextlib.contextmanager
    def around(name):
        log.append(pause(f"enter {name}"))
        try:
            yield
        except LookupError as error:
            log.append(pause(f"caught {error}"))
        finally:
            log.append(pause(f"leave {name}"))

    @around(n)
    @around(n + 1)
    def work(k):
        log.append(pause(k))
        raise KeyError(k)

    for k in range(size):
        work(k)
    with contextlib.ExitStack() as stack:
        stack.callback(pause, 1)
        stack.enter_context(around("stack"))
    return log


@case
def except_and_finally(pause, n, size):
    log = []

    def work(k):
        try:
            try:
                raise ValueError(pause(n))
            except ValueError as error:
                log.append(pause(error.args[0]))
                raise KeyError(pause(k)) from error
            finally:
                log.append(pause("finally"))
        except KeyError as error:
            pause()
            return [error.args[0], error.__cause__.args[0], error.__context__.args[0]]
        finally:
            pause()

    return [work(k) for k in range(size)] + log


@case
def exception_groups(pause, n, size):
    seen = []
    for k in range(size):
        try:
            raise ExceptionGroup("both", [ValueError(n), KeyError(k)])
        except* ValueError as group:
            seen.append(pause(group.exceptions[0].args[0]))
        except* KeyError as group:
            seen.append(pause(group.exceptions[0].args[0]))
    return seen


@case
def decorators_and_defaults(pause, n, size):
    def add(amount):
        def wrap(function):
            pause()
            return lambda *args: function(*args) + pause(amount)

        return wrap

    total = 0
    for k in range(size):

        @add(n)
        @add(k)
        def work(value=pause(k)):  # noqa: B008 - where the suspension is
            return value

        total += work()
    return total


@case
def arguments(pause, n, size):
    def take(*args, **kwargs):
        return [list(args), sorted(kwargs.items())]

    return take(*(pause(k) for k in range(size)), **{pause(f"k{k}"): pause(n) for k in range(size)})


@case
def pattern_matching(pause, n, size):
    class Point:
        __match_args__ = ("x", "y")

        @property
        def x(self):
            return pause(n)

        @property
        def y(self):
            return pause(size)

    found = []
    for _ in range(size):
        match Point():
            case Point(0, 999):
                found.append("no")
            case Point(x, y):
                found.append([x, y])
    return found


@case
def exec_and_eval(pause, n, size):
    names = {"pause": pause, "n": n, "size": size}
    exec("found = [pause(k) + n for k in range(size)]", names)
    return [names["found"], eval("sum(pause(k) for k in range(size))", names)]


# Special methods.


@case
def comparisons(pause, n, size):
    class Number:
        def __init__(self, value):
            self.value = value

        def __eq__(self, other):
            return pause(self.value == other.value)

        def __lt__(self, other):
            return pause(self.value < other.value)

        def __hash__(self):
            return pause(self.value % 3)

    numbers = [Number((k * 7 + n) % (size + 1)) for k in range(size)]
    heap = []
    for number in numbers:
        heapq.heappush(heap, number)
    ordered = sorted(numbers)
    return [
        [number.value for number in ordered],
        [heapq.heappop(heap).value for _ in numbers],
        numbers.index(numbers[-1]),
        numbers.count(numbers[0]),
        [numbers[0] in numbers, [*numbers] == [*numbers]],
        [max(numbers).value, min(numbers).value],
        bisect.bisect(ordered, Number(size // 2)),
        len(set(numbers)),
        len(dict.fromkeys(numbers, 1) | dict.fromkeys(numbers, 2)),
    ]


@case
def attributes(pause, n, size):
    class Thing:
        def __getattr__(self, name):
            return pause(f"{name}{n}")

        def __setattr__(self, name, value):
            pause()
            object.__setattr__(self, name, value)

        def __delattr__(self, name):
            pause()
            object.__delattr__(self, name)

        @property
        def given(self):
            return pause(size)

        @functools.cached_property
        def once(self):
            return pause(n)

    class Strict:
        def __getattribute__(self, name):
            return pause(name)

    thing = Thing()
    thing.known = n
    found = [thing.given, thing.once, thing.once, thing.known, getattr(thing, "x", None)]
    del thing.known
    found += [hasattr(thing, "y"), thing.known, Strict().anything]
    return found + [getattr(thing, f"a{k}") for k in range(size)]


@case
def descriptors(pause, n, size):
    class Field:
        def __set_name__(self, owner, name):
            self.name = pause(name)

        def __get__(self, instance, owner):
            return pause(f"{self.name}{n}")

        def __set__(self, instance, value):
            pause()

    class Record:
        one = Field()
        two = Field()

    record = Record()
    for k in range(size):
        record.one = k
    return [record.one, record.two, Record.one]


@case
def iteration(pause, n, size):
    class Numbers:
        def __iter__(self):
            pause()
            self.at = 0
            return self

        def __next__(self):
            self.at += 1
            if pause(self.at) > size:
                raise StopIteration
            return self.at * n

    class Old:
        def __getitem__(self, k):
            if pause(k) >= size:
                raise IndexError
            return k + n

        def __len__(self):
            return pause(size)

    a, *rest = Old()
    return [
        list(Numbers()),
        tuple(Old()),
        list(reversed(Old())),
        [a, rest],
        list(zip(Numbers(), Old(), strict=True)),
        list(map(pause, Numbers())),
        list(filter(pause, Numbers())),
        list(enumerate(Numbers())),
        [any(Numbers()), all(Numbers()), sum(Numbers()), max(Numbers())],
        dict(zip(Old(), Numbers(), strict=True)) != {},
        "".join(str(number) for number in Numbers()),
        bytes(number % 200 for number in Numbers()).hex(),
        list(itertools.accumulate(Numbers(), lambda x, y: pause(x + y))),
        [[key, list(group)] for key, group in itertools.groupby(Numbers(), lambda x: pause(x % 2))],
        list(itertools.chain.from_iterable([Numbers(), Old()])),
        [list(part) for part in itertools.tee(Numbers())],
        list(itertools.takewhile(lambda x: pause(x) < n, Numbers())),
        collections.Counter(Numbers()).total(),
        list(collections.deque(Numbers(), maxlen=3)),
    ]


@case
def numbers_and_truth(pause, n, size):
    class Value:
        def __bool__(self):
            return pause(n % 2 == 0)

        def __len__(self):
            return pause(size)

        def __index__(self):
            return pause(n)

        def __int__(self):
            return pause(n + 1)

        def __float__(self):
            return pause(n + 0.5)

        def __add__(self, other):
            return pause(n + other)

        __radd__ = __add__

        def __neg__(self):
            return pause(-n)

        def __contains__(self, item):
            return pause(item == n)

        def __call__(self, k):
            return pause(k + n)

    value = Value()
    found = [len(value), int(value), float(value), -value, value + 1, sum([value], 2)]
    found += [hex(value), list(range(20))[value], "abcdefghijklm"[value], n in value]
    found += ["yes" if value else "no", not value, list(filter(None, [value])) == [value]]
    return found + [value(k) for k in range(size)]


@case
def texts(pause, n, size):
    class Word:
        def __format__(self, spec):
            return pause(f"{n}{spec}")

        def __str__(self):
            return pause(f"str{n}")

        def __repr__(self):
            return pause(f"repr{n}")

        def __bytes__(self):
            return pause(b"bytes")

    class Names(dict):
        def __missing__(self, key):
            return pause(f"{key}{n}")

    word = Word()
    table = collections.defaultdict(lambda: pause(n))
    found = [f"{word:a}{word!r}{word!s}", "{:b} {!r}".format(word, word), "%s %r" % (word, word)]  # noqa: UP031, UP032 - each takes another way
    found += [str([word, (word,), {word: word}]), bytes(word).decode(), ascii(word)]
    found += ["{x} {y}".format_map(Names()), "ab".translate(Names()), table["x"] + table["x"]]
    return found + [f"{word}{k}" for k in range(size)]


@case
def classes(pause, n, size):
    class Meta(type):
        def __new__(mcs, name, bases, names, **options):
            pause()
            return super().__new__(mcs, name, bases, names)

        def __call__(cls, *args):
            return [pause(n), super().__call__()]

        def __instancecheck__(cls, instance):
            return pause(instance == n)

        def __prepare__(name, bases, **options):
            return pause({"made": name})

        def __getattr__(cls, name):
            return pause(name)

    class Base:
        def __init_subclass__(cls, **options):
            pause()

        def __class_getitem__(cls, item):
            return pause(item)

        def __new__(cls):
            pause()
            return super().__new__(cls)

        def __init__(self):
            pause()

    found = []
    for k in range(size):
        made = Meta(f"Made{k}", (), {})

        class Child(Base, kind=k):
            pause(k)

        class Cooked(metaclass=Meta):
            inside = pause(n)

        found += [made()[0], isinstance(n, made), made.other, Cooked.made, Cooked.inside]
        found += [Base[k], type(Child()).__name__]
    return found


@case
def finalizers(pause, n, size):
    """`__del__` at the last reference."""
    seen = []

    class Thing:
        def __init__(self, k):
            self.k = k

        def __del__(self):
            seen.append(pause(self.k * n))

    for k in range(size):
        Thing(k)
    things = [Thing(k) for k in range(size)]
    del things[:]
    things = {k: Thing(k) for k in range(size)}
    things = None
    return [len(seen), sum(seen), things]


@uncounted
def finalizers_of_cycles(pause, n, size):
    """Found by the collector; other requests' cycles may be found by the same collection."""
    seen = []

    class Thing:
        def __init__(self, k):
            self.k = k
            self.itself = self

        def __del__(self):
            pause()
            seen.append(self.k + n)

    for k in range(size):
        Thing(k)
    for _ in range(1000):
        gc.collect()
        if len(seen) == size:
            break
        pause()
    return sorted(seen)


@case
def weak_references(pause, n, size):
    class Thing:
        pass

    seen = []
    for k in range(size):
        thing = Thing()
        kept = weakref.ref(thing, lambda ref, k=k: seen.append(pause(k + n)))
        weakref.finalize(thing, lambda k=k: seen.append(pause(-k)))
        table = weakref.WeakValueDictionary({k: thing})
        del thing
        assert kept() is None
        assert len(table) == 0
    return seen


# What C code calls.


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


# Imports.


class Source(importlib.abc.MetaPathFinder, importlib.abc.InspectLoader):
    """Modules `paused_N_...`, whose code is suspended while they are imported."""

    callbacks = {}  # noqa: RUF012 - on purpose one for all

    def find_spec(self, name, path=None, target=None):
        if not name.startswith("paused_"):
            return None
        return importlib.machinery.ModuleSpec(name, self)

    def get_source(self, name):
        _, n, k = name.split("_")
        pause = f"__import__({__name__!r}).Source.callbacks[{n}]"
        source = f"pause = {pause}\nbefore = pause({k})\nclass Inside:\n    within = pause({n})\n"
        if int(k):
            source += f"import paused_{n}_{int(k) - 1} as below\n"
        return source + f"after = pause({k})\n"


sys.meta_path.append(Source())


@case
def imports(pause, n, size):
    Source.callbacks[n] = pause
    module = __import__(f"paused_{n}_{size}")
    found = []
    while module is not None:
        found.append([module.before, module.Inside.within, module.after])
        del sys.modules[module.__name__]
        module = vars(module).get("below")
    return found


# The handlers.


def handler(name):
    function = CASES[name]

    def handle(request):
        n = request.number
        size = 3 + n * 5 % 8
        expected = function(lambda value=None: value, n, size)
        request.meet()

        def pause(value=None):
            request.suspend()
            return value

        found = function(pause, n, size)
        # Through JSON, as the test will compare: tuples and numbers look alike there.
        return {"same": json.dumps(found) == json.dumps(expected), "found": repr(found)[:2000]}

    return handle


def cases(request):
    return [[name, name not in UNCOUNTED] for name in CASES]


application = application_of({name: handler(name) for name in CASES} | {"cases": cases})
