"""Signals of the SignalFramework under gevent: each handler has a greenlet of its own.

    greenloom --http-socket :9090 --gevent 10 --gevent-monkey-patch -w tests.ugevent

A timer whose handler takes longer than its interval, a handler that lets greenlets of its own do
the work, and a thread of the application; meanwhile requests are answered. None of them holds up
another: a handler that waits, in gevent's functions or in patched ones, is a greenlet that waits.

    /           what has happened so far, one event a line
    /raise      raises the signal SHARED, whose handler ends after /go
    /go         lets it go on
"""

import queue
import threading
import time

import gevent
import gevent.event
import uwsgi
from uwsgidecorators import postfork, signal, timer

SHARED = 17
TICKS = 3

events = []
ticked = []
questions = queue.Queue()
go = gevent.event.Event()


@timer(0.1)
def tick(number):
    """Sleeps until the next tick has come: two handlers of one signal at the same time."""
    mine = len(ticked) + 1
    if mine > TICKS:
        return
    ticked.append(gevent.getcurrent())
    events.append(f"tick {mine}")
    while len(ticked) < min(mine + 1, TICKS):
        gevent.sleep(0.01)
    events.append(
        f"tock {mine}, in a greenlet of its own: {ticked.count(gevent.getcurrent()) == 1}"
    )


@signal(SHARED)
def share(number):
    """Waits for its greenlets, which wait for a request."""
    events.append("share begins")
    parts = [gevent.spawn(part, name) for name in ("left", "right")]
    gevent.joinall(parts)
    # A patched sleep, and a thread that answers.
    time.sleep(0.01)
    answer = queue.Queue()
    questions.put(answer)
    events.append(f"share ends: {parts[0].value} {parts[1].value} {answer.get()}")


def part(name):
    go.wait()
    return name


def answering():
    while True:
        questions.get().put("thread")


@postfork
def start_thread():
    threading.Thread(target=answering, daemon=True).start()


def application(environ, start_response):
    match environ["PATH_INFO"]:
        case "/raise":
            uwsgi.signal(SHARED)
        case "/go":
            go.set()
    start_response("200 OK", [("Content-Type", "text/plain")])
    yield "".join(f"{event}\n" for event in events).encode()
