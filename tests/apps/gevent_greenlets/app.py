"""What an application does with gevent itself. Each path is a function below; its answer is JSON.

What happens beside a request, or after it, is noted; /notes takes the notes.
"""

from __future__ import annotations

import contextvars
import json
import logging
import os
import signal
import subprocess
import threading
import time
from urllib.parse import parse_qs

import gevent
import gevent.event
import gevent.local
import gevent.monkey
import gevent.os
import gevent.pool
import gevent.queue
import gevent.socket
import uwsgi

logging.basicConfig(format="%(levelname)s %(name)s %(message)s", level=logging.INFO)
log = logging.getLogger("app")

notes = []
go = gevent.event.Event()
waits = []
of_greenlet = gevent.local.local()
of_thread = threading.local()
lock = threading.Lock()
of_context = contextvars.ContextVar("of_context", default=None)


def take_notes(query):
    taken, notes[:] = list(notes), []
    return taken


def hello(query):
    return "hello"


def own(query):
    """What a request runs on."""
    me = gevent.getcurrent()
    return {
        "greenlet": isinstance(me, gevent.Greenlet),
        "below the hub": me.parent is gevent.get_hub(),
        "started": me.started,
        "dead": me.dead,
        "thread": threading.current_thread() is threading.main_thread(),
    }


def wait(query):
    """Until /go; the test knows from /waiting that it has begun."""
    waits.append(gevent.getcurrent())
    try:
        go.wait()
    except BaseException as error:
        notes.append(f"{type(error).__name__} {getattr(error, 'reason', '')}".strip())
        raise
    finally:
        waits.remove(gevent.getcurrent())
    return "went on"


def locked(query):
    """One after the other, in a lock that the loading has made."""
    with lock:
        return wait(query)


def family(query):
    """Waits for a greenlet of its own, and takes it along when it is told to end."""

    def child():
        try:
            gevent.sleep(3600)
        except BaseException as error:
            notes.append(f"its greenlet: {type(error).__name__}")
            raise

    greenlets = [gevent.spawn(child)]
    waits.append(gevent.getcurrent())
    try:
        gevent.joinall(greenlets)
    finally:
        waits.remove(gevent.getcurrent())
        gevent.killall(greenlets, block=False)


def waiting(query):
    return len(waits)


def let_go(query):
    go.set()
    go.clear()
    return "gone"


def kill(query):
    """Another request kills the one that waits, and is told when it is dead."""
    (victim,) = waits
    victim.kill()
    return {"dead": victim.dead, "value": repr(victim.value), "ok": victim.successful()}


def kill_caught(query):
    me = gevent.getcurrent()
    gevent.spawn(me.kill, block=False)
    try:
        gevent.sleep(60)
    except gevent.GreenletExit:
        return "caught"


def throw(query):
    """Another request throws a timeout of its own into the one that waits."""
    (victim,) = waits
    gevent.kill(victim, gevent.Timeout(5))
    return "thrown"


def timeout(query):
    try:
        with gevent.Timeout(0.01):
            gevent.sleep(60)
    except gevent.Timeout:
        pass
    with gevent.Timeout(0.01, False):
        gevent.sleep(60)
    gevent.sleep(0.03)
    return "timed out"


def timeout_uncaught(query):
    with gevent.Timeout(0.01):
        gevent.sleep(60)


def links(query):
    """Others wait for the end of this request."""
    me = gevent.getcurrent()
    me.link(lambda greenlet: notes.append(["link", greenlet is me, greenlet.ready()]))

    def join():
        me.join()
        notes.append(["join", me.dead, repr(me.get())])

    gevent.spawn(join)
    gevent.sleep(0)
    notes.append("ends")
    return "ends"


def joins(query):
    """This request waits for others."""
    greenlets = [gevent.spawn(gevent.sleep, 0.01 * n) for n in range(3)]
    gevent.joinall(greenlets)
    pool = gevent.pool.Pool(2)
    mail = gevent.queue.Queue()
    gevent.spawn(mail.put, "mail")
    of_context.set("not inherited")
    failed = gevent.spawn(int, "no number")
    failed.join()
    return {
        "ready": [greenlet.ready() for greenlet in greenlets],
        "pool": pool.map(lambda n: n * n, range(5)),
        "mail": mail.get(),
        "context": gevent.spawn(of_context.get).get(),
        "failed": type(failed.exception).__name__,
    }


def left(query):
    """What an earlier request has left in what should be this one's own; then leaves its own."""
    me = gevent.getcurrent()
    found = [
        getattr(of_greenlet, "value", None),
        getattr(of_thread, "value", None),
        of_context.get(),
        getattr(me, "note", None),
        me.spawn_tree_locals.get("value") if me.spawn_tree_locals else None,
    ]
    value = query["value"]
    of_greenlet.value = of_thread.value = me.note = value
    of_context.set(value)
    if me.spawn_tree_locals is not None:
        me.spawn_tree_locals["value"] = value
    gevent.sleep(0)
    if query.get("child"):
        gevent.spawn(gevent.sleep, 0).join()
    kept = [of_greenlet.value, of_thread.value, of_context.get(), me.note]
    return {"found": found, "kept": kept == [value] * 4}


def background(query):
    """A greenlet that goes on after the response."""

    def work():
        notes.append("begun")
        gate = os.open(os.environ["GATE"], os.O_RDWR | os.O_NONBLOCK)
        try:
            gevent.os.nb_read(gate, 1)
        finally:
            os.close(gate)
        notes.append("over")
        log.info("background is over")

    gevent.spawn(work)
    gevent.sleep(0)
    return "left behind"


def background_api(query):
    """The functions of uwsgi that need a request, in a greenlet that is none."""

    def work():
        try:
            uwsgi.suspend()
        except RuntimeError as error:
            return type(error).__name__

    return gevent.spawn(work).get()


def ends_badly(query):
    """Greenlets that want to end the process, beside a request that goes on."""

    def end():
        raise {"exit": SystemExit, "interrupt": KeyboardInterrupt, "error": ValueError}[
            query["how"]
        ](f"on purpose: {query['how']}")

    greenlet = gevent.spawn(end)
    greenlet.join()
    gevent.sleep(0.01)
    return "goes on"


def api(query):
    """uwsgi's own waits, between gevent's."""
    reader, writer = os.pipe()
    try:
        gevent.spawn_later(0.01, os.write, writer, b"x")
        uwsgi.wait_fd_read(reader, 10)
        uwsgi.suspend()
        ready = uwsgi.ready_fd() == reader
        gevent.sleep(0.01)
        uwsgi.async_sleep(0.01)
        uwsgi.suspend()
        gevent.sleep(0)
        return [ready, uwsgi.ready_fd()]
    finally:
        os.close(reader)
        os.close(writer)


def interrupted(query):
    """Waits in gevent after an exception has ended one of uwsgi's waits."""
    with gevent.Timeout(0.02, False):
        uwsgi.async_sleep(3600)
        uwsgi.suspend()
    return wait(query)


def registered_before(query):
    """What was registered ends none of gevent's waits, and is waited for by the next of uwsgi's."""
    reader, writer = os.pipe()
    try:
        uwsgi.async_sleep(0.01)
        gevent.sleep(0.05)
        uwsgi.suspend()
        slept = uwsgi.ready_fd()
        uwsgi.wait_fd_read(reader, 10)
        os.write(writer, b"x")
        gevent.sleep(0.05)
        uwsgi.suspend()
        return [slept, uwsgi.ready_fd() == reader]
    finally:
        os.close(reader)
        os.close(writer)


def in_threads(query):
    """A thread of the system's, gevent's pool of them, and whatever `threading` gives."""
    found = {}
    native = gevent.monkey.get_original("_thread", "start_new_thread")
    real_sleep = gevent.monkey.get_original("time", "sleep")
    ident = gevent.monkey.get_original("_thread", "get_ident")
    here, there = ident(), []
    reader, writer = os.pipe()

    def in_native():
        real_sleep(0.01)
        there.append(ident())
        os.write(writer, b"x")

    native(in_native, ())
    gevent.socket.wait_read(reader)
    os.close(reader)
    os.close(writer)
    found["native"] = there[0] != here
    pool = gevent.get_hub().threadpool
    found["pool"] = pool.apply(lambda: (real_sleep(0.01), ident())[1]) != here
    idents = []
    thread = threading.Thread(target=lambda: (time.sleep(0.01), idents.append(ident())))
    thread.start()
    thread.join()
    found["threading"] = "a thread" if idents[0] != here else "a greenlet"
    try:
        pool.apply(int, ("no number",))
    except ValueError:
        found["error"] = "arrives"
    return found


def subprocesses(query):
    """Children, whose ends libev learns of by SIGCHLD, beside a handler of the signal module."""
    handled = []
    before = signal.signal(signal.SIGUSR1, lambda number, frame: handled.append(number))
    try:
        os.kill(os.getpid(), signal.SIGUSR1)
        done = subprocess.run(
            ["sh", "-c", "read line; echo got $line; exit 3"],
            input=b"mail\n",
            stdout=subprocess.PIPE,
        )
        children = [subprocess.Popen(["sh", "-c", f"exit {n}"]) for n in range(5)]
        codes = [child.wait() for child in children]
        gevent.sleep(0)
        return [done.returncode, done.stdout.decode(), codes, len(handled)]
    finally:
        signal.signal(signal.SIGUSR1, before)


def child_waits(query):
    """A child that ends when its pipe is closed, by another request."""
    child = subprocess.Popen(["cat"], stdin=subprocess.PIPE)
    waits.append(child)
    try:
        return child.wait()
    finally:
        waits.remove(child)


def end_child(query):
    waits[0].stdin.close()
    return "closed"


def logs(query):
    log.warning("from a request: %s", query["text"])
    gevent.spawn(log.warning, "from its greenlet: %s", query["text"]).join()
    print("printed:", query["text"], flush=True)
    return "logged"


def stream(query):
    for number in range(3):
        gevent.sleep(0.001)
        yield f"{query['name']} {number}\n".encode()


PATHS = {
    "/api": api,
    "/interrupted": interrupted,
    "/registered_before": registered_before,
    "/background": background,
    "/background_api": background_api,
    "/child_waits": child_waits,
    "/end_child": end_child,
    "/ends_badly": ends_badly,
    "/family": family,
    "/go": let_go,
    "/hello": hello,
    "/joins": joins,
    "/kill": kill,
    "/kill_caught": kill_caught,
    "/left": left,
    "/links": links,
    "/locked": locked,
    "/logs": logs,
    "/notes": take_notes,
    "/own": own,
    "/subprocesses": subprocesses,
    "/threads": in_threads,
    "/throw": throw,
    "/timeout": timeout,
    "/timeout_uncaught": timeout_uncaught,
    "/wait": wait,
    "/waiting": waiting,
}


def application(environ, start_response):
    query = {name: values[0] for name, values in parse_qs(environ["QUERY_STRING"]).items()}
    if environ["PATH_INFO"] == "/stream":
        start_response("200 OK", [("Content-Type", "text/plain")])
        return stream(query)
    answer = PATHS[environ["PATH_INFO"]](query)
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(answer).encode()]
