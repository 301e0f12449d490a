"""Handlers of posix signals in a busy request, in a sleeping one, and while nobody asks."""

from __future__ import annotations

import mmap
import os
import signal
import struct
import sys
import time
from pathlib import Path
from urllib.parse import parse_qs

sys.path.insert(0, str(Path(__file__).parent.parent / "contract_support"))

import uwsgi
from contract_support import PATIENCE_S, application_of

counter = mmap.mmap(os.open(os.environ["COUNTER"], os.O_RDWR), 8)
SOON_S = 0.02
LONG_S = 5
handled = []


class Alarm(Exception):
    """What a handler raises."""


def reached(number):
    struct.pack_into("<Q", counter, 0, number)


def note(number, frame):
    """A handler: which function it has interrupted, and when."""
    names = []
    while frame is not None:
        names.append(frame.f_code.co_name)
        frame = frame.f_back
    handled.append([names, time.monotonic()])
    reached(len(handled))


def fail(number, frame):
    raise Alarm(number)


def call_the_api(number, frame):
    """Where no request is."""
    try:
        uwsgi.async_sleep(1)
    except RuntimeError as error:
        uwsgi.log(f"refused: {error}")
    note(number, frame)


def install(handler):
    del handled[:]
    signal.signal(signal.SIGALRM, handler)


def spin(ready, alarm_s=None):
    """Computes and never calls anything that waits. An alarm that it sets itself comes in here."""
    end = time.monotonic() + LONG_S
    if alarm_s is not None:
        signal.setitimer(signal.ITIMER_REAL, alarm_s)
    while time.monotonic() < end:
        if ready():
            return True
    return False


def neighbours_wait(request):
    """With `of`: the others are suspended while request 0 is busy."""
    if "of" in request.query:
        request.meet("begin")
        if request.number:
            request.meet("end")
            return True
    return False


def leave(request):
    signal.setitimer(signal.ITIMER_REAL, 0)
    if "of" in request.query:
        request.meet("end")


def busy(request):
    """The handler runs in the middle of the computation."""
    if neighbours_wait(request):
        return None
    install(note)
    came = spin(lambda: handled, SOON_S)
    leave(request)
    return {"came": came, "in": handled[0][0]}


def busy_again(request):
    """Twenty in a row, with a switch in between where there is an engine."""
    install(note)
    came = []
    for _ in range(20):
        del handled[:]
        signal.setitimer(signal.ITIMER_REAL, 0.002)
        came.append(spin(lambda: handled))
        if "suspend" in request.query:
            request.suspend()
    leave(request)
    return came


def sleeping(request):
    """time.sleep() lets the handler run at its time and then sleeps on."""
    if neighbours_wait(request):
        return None
    install(note)
    before = time.monotonic()
    signal.setitimer(signal.ITIMER_REAL, SOON_S)
    time.sleep(0.4)
    after = time.monotonic()
    leave(request)
    (names, when) = handled[0]
    return {"in": names, "in time": before < when < after, "slept": after - before >= 0.4}


def busy_failure(request):
    """What the handler raises comes up in the request that was busy."""
    if neighbours_wait(request):
        return None
    install(fail)
    before = time.monotonic()
    try:
        found = f"nothing: {spin(lambda: False, SOON_S)}"
    except Alarm as alarm:
        found = f"alarm {alarm.args[0]} {time.monotonic() - before < LONG_S}"
    leave(request)
    return found


def sleeping_failure(request):
    if neighbours_wait(request):
        return None
    install(fail)
    before = time.monotonic()
    try:
        signal.setitimer(signal.ITIMER_REAL, SOON_S)
        time.sleep(LONG_S)
        found = "nothing"
    except Alarm as alarm:
        found = f"alarm {alarm.args[0]} {time.monotonic() - before < LONG_S}"
    leave(request)
    return found


def suspended_by_handler(request):
    """The handler itself suspends the request that it interrupts."""

    def pause(number, frame):
        for _ in range(3):
            request.suspend()
        handled.append(request.number)

    install(pause)
    signal.setitimer(signal.ITIMER_REAL, SOON_S)
    came = spin(lambda: handled)
    leave(request)
    return [came, handled]


def raise_in_wait(request):
    """The process is told at once, while this request is suspended: handled before it goes on."""
    install(note)
    reader, writer = os.pipe()
    try:
        uwsgi.wait_fd_read(reader, PATIENCE_S)
        os.kill(os.getpid(), signal.SIGALRM)
        os.write(writer, b"!")
        request.suspend()
        return len(handled)
    finally:
        os.close(reader)
        os.close(writer)


def arm(request):
    """The signals to come find nobody who is busy."""
    install({"note": note, "fail": fail, "api": call_the_api}[request.query["handler"]])
    reached(0)
    if "seconds" in request.query:
        signal.setitimer(signal.ITIMER_REAL, float(request.query["seconds"]))
    return os.getpid()


def hold(environ, start_response):
    """Waits for a time, and so does the process."""
    start_response("200 OK", [("Content-Type", "text/plain")])
    yield b"held\n"
    uwsgi.async_sleep(float(parse_qs(environ["QUERY_STRING"])["seconds"][0]))
    yield b""
    yield b"ended"


HANDLERS = {
    "busy": busy,
    "busy_again": busy_again,
    "sleeping": sleeping,
    "busy_failure": busy_failure,
    "sleeping_failure": sleeping_failure,
    "suspended_by_handler": suspended_by_handler,
    "raise_in_wait": raise_in_wait,
    "arm": arm,
}


answer = application_of(HANDLERS)


def application(environ, start_response):
    serve = hold if environ["PATH_INFO"] == "/hold" else answer
    return serve(environ, start_response)
