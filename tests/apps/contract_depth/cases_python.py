"""Suspensions in statements, generators, coroutines and imports."""

from __future__ import annotations

import contextlib
import importlib.abc
import importlib.machinery
import sys

from cases import case


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
