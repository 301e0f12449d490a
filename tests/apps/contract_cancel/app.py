"""Suspends for ever, each path somewhere else, and notes what happens when it is cancelled.

`.../PLACE?name=N` (`&mid=1`: after the first part) writes lines `N: NOTE` to the log.
"""

import contextlib
import ctypes
import sqlite3
import threading
from urllib.parse import parse_qs

import uwsgi

TEXT = [("Content-Type", "text/plain")]
lock = threading.Lock()


def wait():
    uwsgi.async_sleep(3600)
    uwsgi.suspend()


class Noted:
    def __init__(self, note):
        self.note = note

    def __enter__(self):
        return self

    def __exit__(self, kind, error, traceback):
        self.note(f"exit with {kind.__name__}: {error.reason}")


def plain(note):
    wait()


def in_with(note):
    with Noted(note):
        wait()


def nested(note):
    try:
        try:
            try:
                wait()
            finally:
                note("inner")
        except Exception:
            note("not an Exception, so not here")
        finally:
            note("middle")
    finally:
        note("outer")


def waiting_generator(note):
    try:
        yield 1
        wait()
        yield 2
    finally:
        note("generator")


def in_generator(note):
    for _ in (number for number in waiting_generator(note)):
        pass


def delegating(note):
    try:
        yield from waiting_generator(note)
    finally:
        note("delegating")


def in_yield_from(note):
    list(delegating(note))


@contextlib.contextmanager
def managed(note):
    try:
        yield
    except uwsgi.Cancelled as error:
        note(f"thrown into: {error.reason}")
        raise
    finally:
        note("managed")


def in_context_manager(note):
    with contextlib.ExitStack() as stack:
        stack.callback(note, "callback")
        stack.enter_context(managed(note))
        wait()


def in_except(note):
    try:
        raise KeyError("seen before")
    except KeyError:
        try:
            wait()
        except uwsgi.Cancelled as error:
            note(f"context {type(error.__context__).__name__}")
            raise


def in_finally(note):
    try:
        raise KeyError("replaced")
    finally:
        try:
            wait()
        finally:
            note("finally of finally")


def in_sorted(note):
    def key(number):
        note(f"key {number}")
        wait()

    try:
        sorted([1, 2, 3], key=key)
    finally:
        note("sorted")


def in_sqlite(note):
    """SQLite swallows what its callbacks raise; the next suspension raises again."""
    connection = sqlite3.connect(":memory:")
    connection.create_function("wait", 0, wait)
    try:
        connection.execute("SELECT wait()")
    except sqlite3.OperationalError:
        note("OperationalError")
    finally:
        connection.close()
    try:
        wait()
    except uwsgi.Cancelled:
        note("raised again")
        raise


def in_ctypes(note):
    """ctypes prints what its callbacks raise, and goes on."""
    numbers = (ctypes.c_int * 2)(2, 1)
    compare = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)

    def comparison(a, b):
        wait()

    ctypes.CDLL(None).qsort(numbers, 2, ctypes.sizeof(ctypes.c_int), compare(comparison))
    note("sorted")
    try:
        wait()
    finally:
        note("raised again")


class Finalised:
    def __init__(self, note):
        self.note = note

    def __del__(self):
        self.note("in __del__")
        wait()


def in_del(note):
    """Python prints what `__del__` raises, and goes on."""
    kept = Finalised(note)
    del kept
    note("deleted")
    try:
        wait()
    finally:
        note("raised again")


def with_a_lock(note):
    with lock:
        note("locked")
        wait()


def lock_is_free(note):
    note(f"lock is {'taken' if lock.locked() else 'free'}")


def catches_exception(note):
    while True:
        try:
            wait()
        except Exception:
            note("caught")


def waits_in_finally(note):
    try:
        wait()
    finally:
        try:
            wait()
        except uwsgi.Cancelled as error:
            note(f"raised again: {error.reason}")
            raise


def swallows_once(note):
    try:
        wait()
    except uwsgi.Cancelled as error:
        note(f"swallowed: {error.reason}")


def swallows_some(note):
    for number in range(7):
        try:
            wait()
        except uwsgi.Cancelled:
            note(f"swallowed {number + 1}")
    note("enough")


def swallows_for_ever(note):
    number = 0
    while True:
        try:
            wait()
        except BaseException:
            number += 1
            note(f"swallowed {number}")


def swallows_bare(note):
    """As above, with a suspension that waits for nothing."""
    number = 0
    uwsgi.async_sleep(3600)
    while True:
        try:
            uwsgi.suspend()
        except BaseException:
            number += 1
            note(f"swallowed {number}")


def application(environ, start_response):
    place = environ["PATH_INFO"].rpartition("/")[2]
    query = {key: value[0] for key, value in parse_qs(environ["QUERY_STRING"]).items()}
    write = start_response("200 OK", TEXT)
    if place == "hello":
        return [b"hello\n"]
    name = query["name"]

    def note(text):
        uwsgi.log(f"{name}: {text}")

    if "mid" in query:
        write(b"part\n")
    note("began")
    globals()[place](note)
    note("returned")
    return [b"answered\n"]
