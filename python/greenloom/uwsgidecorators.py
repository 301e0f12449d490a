"""Decorators over the calls of the ``uwsgi`` module, inside the server also ``uwsgidecorators``.

The names are those of uWSGI's module of the same name, so that ``from uwsgidecorators import *``
goes on working. What needs a part that greenloom does not have (mules, spooler, RPC) says so: when
it is called, or where it decorates something that would never run.

Importing does no work. Signals need a master; registering one without a master raises ValueError.
"""

from __future__ import annotations

import functools
import threading
import traceback
from collections.abc import Callable
from typing import NoReturn, ParamSpec, TypeVar, overload

from greenloom import api as uwsgi

__all__ = [
    "cron",
    "farm",
    "filemon",
    "get_free_signal",
    "harakiri",
    "lock",
    "mule",
    "mulefunc",
    "muleloop",
    "mulemsg",
    "postfork",
    "postfork_chain",
    "rbtimer",
    "rpc",
    "signal",
    "spool",
    "spoolforever",
    "spoolraw",
    "thread",
    "timer",
]

P = ParamSpec("P")
R = TypeVar("R")
Handler = TypeVar("Handler", bound=Callable[[int], object])
Hook = TypeVar("Hook", bound=Callable[[], object])

SIGNALS = 256
"""How many signals there are."""

postfork_chain: list[Callable[[], object]] = []
"""What runs in every worker when it starts, in this order."""


# ---- signals


def get_free_signal() -> int:
    """Return the lowest signal without a handler in this process."""
    for number in range(SIGNALS):
        if not uwsgi.signal_registered(number):
            return number
    raise Exception("No free uwsgi signal available")


def _registered(handler: Handler, signum: int | None, target: str) -> int:
    number = get_free_signal() if signum is None else signum
    uwsgi.register_signal(number, target, handler)
    return number


def signal(num: int, target: str = "") -> Callable[[Handler], Handler]:
    """Make the function the handler of a signal.

    ``target`` says who runs it: any worker (nothing), ``workers``, ``worker1``...
    """

    def register(handler: Handler) -> Handler:
        _registered(handler, num, target)
        return handler

    return register


def timer(secs: float, signum: int | None = None, target: str = "") -> Callable[[Handler], Handler]:
    """Call the function every so many seconds; fractions count."""

    def register(handler: Handler) -> Handler:
        uwsgi.add_timer(_registered(handler, signum, target), secs)
        return handler

    return register


def rbtimer(
    secs: float, signum: int | None = None, target: str = "", iterations: int = 0
) -> Callable[[Handler], Handler]:
    """Call the function every so many seconds, ``iterations`` times; 0 is for ever."""

    def register(handler: Handler) -> Handler:
        uwsgi.add_rb_timer(_registered(handler, signum, target), secs, iterations)
        return handler

    return register


def cron(
    minute: int,
    hour: int,
    day: int,
    month: int,
    dayweek: int,
    signum: int | None = None,
    target: str = "",
) -> Callable[[Handler], Handler]:
    """Call the function at these times; -1 is any, -n every n."""

    def register(handler: Handler) -> Handler:
        number = _registered(handler, signum, target)
        uwsgi.add_cron(number, minute, hour, day, month, dayweek)
        return handler

    return register


def filemon(
    fsobj: str | bytes, signum: int | None = None, target: str = ""
) -> Callable[[Handler], Handler]:
    """Call the function when the file or directory changes."""

    def register(handler: Handler) -> Handler:
        uwsgi.add_file_monitor(_registered(handler, signum, target), fsobj)
        return handler

    return register


# ---- workers


@overload
def postfork(f: Hook) -> Hook: ...
@overload
def postfork(f: int) -> Callable[[Hook], Hook]: ...
def postfork(f: Callable[[], object] | int) -> object:
    """Run the function in every worker when it starts; ``@postfork(2)``: in worker 2 only."""
    if callable(f):
        _add_postfork(f)
        return f

    def add(function: Hook) -> Hook:
        def in_one_worker() -> object:
            return function() if uwsgi.worker_id() == f else None

        _add_postfork(in_one_worker)
        return function

    return add


def _add_postfork(function: Callable[[], object]) -> None:
    hook = getattr(uwsgi, "post_fork_hook", None)
    if hook is not _run_postfork_chain:
        if hook is not None:
            # The application has set one by itself: it stays the first.
            postfork_chain.insert(0, hook)
        uwsgi.post_fork_hook = _run_postfork_chain
    postfork_chain.append(function)


def _run_postfork_chain() -> None:
    for function in postfork_chain:
        try:
            function()
        except Exception:
            # The others are to run all the same.
            uwsgi.log(f"exception in a function of @postfork:\n{traceback.format_exc()}")


# ---- calls


def thread(f: Callable[P, object]) -> Callable[P, threading.Thread]:
    """Run the function in a thread of its own: a call starts it and returns the thread."""

    @functools.wraps(f)
    def start(*args: P.args, **kwargs: P.kwargs) -> threading.Thread:
        started = threading.Thread(target=f, args=args, kwargs=kwargs, daemon=True)
        started.start()
        return started

    return start


def lock(f: Callable[P, R]) -> Callable[P, R]:
    """Let one call of all functions with this decorator run at a time, in the whole instance."""

    @functools.wraps(f)
    def locked(*args: P.args, **kwargs: P.kwargs) -> R:
        uwsgi.lock()
        try:
            return f(*args, **kwargs)
        finally:
            uwsgi.unlock()

    return locked


def harakiri(seconds: int) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Give each call of the function a deadline: ``uwsgi.set_user_harakiri``."""

    def limit(f: Callable[P, R]) -> Callable[P, R]:
        @functools.wraps(f)
        def limited(*args: P.args, **kwargs: P.kwargs) -> R:
            uwsgi.set_user_harakiri(seconds)
            try:
                return f(*args, **kwargs)
            finally:
                uwsgi.set_user_harakiri(0)

        return limited

    return limit


# ---- what greenloom does not have


def _absent(what: str, remedy: str) -> NoReturn:
    raise NotImplementedError(f"uwsgidecorators.{what} is not available in greenloom: {remedy}")


_NO_MULES = (
    "it has no mules; run background work in a process of its own, with a task queue such as "
    "Celery or RQ, or in a handler of @timer or @signal"
)
_NO_SPOOLER = "it has no spooler; use a task queue such as Celery or RQ"


def mulefunc(f: object) -> Callable[..., object]:
    """Decorate what a mule should run; the call says that there are none."""
    if callable(f):

        @functools.wraps(f)
        def refuse(*_args: object, **_kwargs: object) -> NoReturn:
            _absent("mulefunc", _NO_MULES)

        return refuse
    return mulefunc


def rpc(name: str) -> NoReturn:
    """Say that there is no RPC: nobody could call the function."""
    _absent("rpc", "it has no RPC; call the other service over HTTP, or the function itself")


def mule(num: int) -> NoReturn:
    """Say that there are no mules: the function would never run."""
    _absent("mule", _NO_MULES)


def muleloop(num: int) -> NoReturn:
    """Say that there are no mules: the function would never run."""
    _absent("muleloop", _NO_MULES)


def mulemsg(num: int) -> NoReturn:
    """Say that there are no mules: the function would never run."""
    _absent("mulemsg", _NO_MULES)


def farm(name: str) -> NoReturn:
    """Say that there are no farms of mules: the function would never run."""
    _absent("farm", _NO_MULES)


class _Spooled:
    """A task of a spooler that is not there: calling it or ``spool`` says so."""

    def __init__(self, name: str, f: Callable[..., object]) -> None:
        functools.update_wrapper(self, f)
        self._name = name

    def __call__(self, *_args: object, **_kwargs: object) -> NoReturn:
        _absent(self._name, _NO_SPOOLER)

    spool = __call__


def _spooled(name: str, f: Callable[..., object] | None) -> Callable[..., object]:
    if f is None:
        return lambda function: _Spooled(name, function)
    return _Spooled(name, f)


def spool(
    f: Callable[..., object] | None = None, pass_arguments: bool = False
) -> Callable[..., object]:
    """Decorate a task of the spooler; queueing it says that there is none."""
    return _spooled("spool", f)


def spoolforever(
    f: Callable[..., object] | None = None, pass_arguments: bool = False
) -> Callable[..., object]:
    """Decorate a task of the spooler; queueing it says that there is none."""
    return _spooled("spoolforever", f)


def spoolraw(
    f: Callable[..., object] | None = None, pass_arguments: bool = False
) -> Callable[..., object]:
    """Decorate a task of the spooler; queueing it says that there is none."""
    return _spooled("spoolraw", f)
