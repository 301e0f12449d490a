"""Threads beside requests: they run while the server waits, and while requests are suspended."""

from __future__ import annotations

import concurrent.futures
import ctypes
import mmap
import os
import queue
import struct
import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "contract_support"))

import uwsgi
from contract_support import PATIENCE_S, application_of

counter = mmap.mmap(os.open(os.environ["COUNTER"], os.O_RDWR), 8)
stop = threading.Event()
spinning = []

CALLS = {
    "suspend": lambda: uwsgi.suspend(),
    "async_sleep": lambda: uwsgi.async_sleep(1),
    "wait_fd_read": lambda: uwsgi.wait_fd_read(0, 1),
    "ready_fd": lambda: uwsgi.ready_fd(),
    "disconnect": lambda: uwsgi.disconnect(),
}


def reached(number):
    struct.pack_into("<Q", counter, 0, number)


def timer(request):
    """Fires once the request has ended and the server waits for the next one."""
    reached(0)
    threading.Timer(float(request.query["seconds"]), reached, [1]).start()
    return None


def ticker(request):
    """Ticks on while nothing else happens in the process."""
    reached(0)

    def tick():
        for number in range(1, 21):
            time.sleep(0.005)
            reached(number)

    threading.Thread(target=tick).start()
    return None


def pool(request):
    """A pool in a request: its results come while the worker waits for them, and only then."""
    with concurrent.futures.ThreadPoolExecutor(4) as executor:
        squares = executor.map(lambda k: (time.sleep(0.001), k * k + request.number)[1], range(20))
        return list(squares)


def pool_and_descriptor(request):
    """The request is suspended until its thread has written to its pipe."""
    n = request.number
    request.meet("begin")
    found = []
    with concurrent.futures.ThreadPoolExecutor(1) as executor:
        for k in range(2 + n % 3):
            reader, writer = os.pipe()

            def work(k=k, writer=writer):
                time.sleep(0.001 * (8 - n))
                try:
                    return sorted([n, k], key=lambda x: -x)
                finally:
                    os.write(writer, b"!")

            future = executor.submit(work)
            request.wait_read(reader)
            found.append(future.result(PATIENCE_S))
            os.close(reader)
            os.close(writer)
    request.meet("end")
    return found


def queues(request):
    """A thread takes from one queue and gives to another, while its request is suspended."""
    n = request.number
    there, back = queue.Queue(), queue.Queue()

    def work():
        while (item := there.get()) is not None:
            back.put(item * 2)

    thread = threading.Thread(target=work)
    thread.start()
    request.meet("begin")
    for k in range(5):
        there.put(k + n)
        request.suspend()
    there.put(None)
    thread.join(PATIENCE_S)
    request.meet("end")
    return [back.get_nowait() for _ in range(5)]


def refused(request):
    """Each call of the API in another thread, while this request runs."""
    found = {}

    def attempt():
        for name, call in CALLS.items():
            try:
                found[name] = f"returned {call()!r}"
            except Exception as error:
                found[name] = f"{type(error).__name__}: {error}"

    if "of" in request.query:
        request.meet("begin")
    thread = threading.Thread(target=attempt)
    thread.start()
    thread.join(PATIENCE_S)
    if "of" in request.query:
        request.suspend()
        request.meet("end")
    return found


def c_sort(request):
    """C code calls back in a thread of its own, while requests are switched here."""
    kind = ctypes.CFUNCTYPE(
        ctypes.c_int, ctypes.POINTER(ctypes.c_int), ctypes.POINTER(ctypes.c_int)
    )
    n = request.number
    found = []

    def work():
        values = (ctypes.c_int * 200)(*((k * 7 + n) % 211 for k in range(200)))
        qsort = ctypes.CDLL(None).qsort
        qsort.restype = None
        qsort(values, 200, ctypes.sizeof(ctypes.c_int), kind(lambda x, y: x[0] - y[0]))
        found.append(list(values) == sorted(values))

    request.meet("begin")
    thread = threading.Thread(target=work)
    thread.start()
    for _ in range(20):
        request.suspend()
    thread.join(PATIENCE_S)
    request.meet("end")
    return found


def identity(request):
    """All requests run on the one thread that they seem to run on."""
    before = threading.get_ident()
    request.meet("begin")
    request.suspend()
    assert threading.get_ident() == before
    assert threading.current_thread() is threading.main_thread()
    request.meet("end")
    return before


def spin(request):
    """Starts a thread that never waits."""
    stop.clear()

    def work():
        while not stop.is_set():
            sum(range(1000))

    spinning.append(threading.Thread(target=work))
    spinning[-1].start()
    return None


def end_spinning(request):
    stop.set()
    while spinning:
        spinning.pop().join(PATIENCE_S)
    return None


def small(request):
    return sorted(range(100), key=lambda k: -k)[0]


def switching(request):
    for _ in range(50):
        request.suspend()
    return request.number


application = application_of(
    {
        "timer": timer,
        "ticker": ticker,
        "pool": pool,
        "pool_and_descriptor": pool_and_descriptor,
        "queues": queues,
        "refused": refused,
        "c_sort": c_sort,
        "identity": identity,
        "spin": spin,
        "end_spinning": end_spinning,
        "small": small,
        "switching": switching,
    }
)
