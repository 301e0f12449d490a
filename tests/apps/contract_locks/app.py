"""User locks: requests that hold one while they wait, threads, and holders that die."""

from __future__ import annotations

import os
import signal
import threading
import time
from urllib.parse import parse_qs

import uwsgi
from uwsgidecorators import lock

HELD_S = 0.02
inside = []
most = [0]


def enter(where):
    inside.append(where)
    most[0] = max(most[0], len(inside))


def pause(seconds):
    uwsgi.async_sleep(seconds)
    uwsgi.suspend()


def hold(query):
    """Holds the lock for a while, suspended or blocked."""
    number, seconds = int(query.get("lock", 0)), float(query.get("s", HELD_S))
    uwsgi.lock(number)
    try:
        enter(number)
        (time.sleep if "blocking" in query else pause)(seconds)
        inside.remove(number)
    finally:
        uwsgi.unlock(number)
    return f"{uwsgi.worker_id()} {most[0]}"


def hold_until(query):
    """Holds a lock until a file is there."""
    uwsgi.lock(1)
    uwsgi.log("a request holds the lock")
    while not os.path.exists(query["file"]):
        (time.sleep if "blocking" in query else pause)(0.01)
    uwsgi.unlock(1)
    return "held"


def turns(query):
    """Counts in a file under the lock: what gets lost when two are inside."""
    for _ in range(int(query["turns"])):
        uwsgi.lock()
        with open(query["file"], "r+") as file:
            count = int(file.read() or 0)
            (time.sleep if "blocking" in query else pause)(0)
            file.seek(0)
            file.write(str(count + 1))
        uwsgi.unlock()
    return "counted"


def keep(query):
    """Ends with the lock."""
    uwsgi.lock()
    return str(uwsgi.worker_id())


def give_back(query):
    uwsgi.unlock()
    return "unlocked"


def give_back_later(query):
    """A thread unlocks while others wait."""

    def later():
        time.sleep(float(query.get("s", 0.05)))
        uwsgi.unlock()

    threading.Thread(target=later).start()
    return "later"


def in_thread(query):
    """A thread takes the lock and gives it back."""
    found = []

    def take():
        uwsgi.lock()
        found.append(uwsgi.is_locked())
        uwsgi.unlock()

    thread = threading.Thread(target=take)
    thread.start()
    thread.join()
    return f"{found} {uwsgi.is_locked()}"


def die(query):
    uwsgi.lock()
    os.kill(os.getpid(), signal.SIGKILL)


def again(query):
    """Takes the lock that this worker has."""
    try:
        uwsgi.lock()
    except RuntimeError as error:
        return str(error)
    return "locked"


@lock
def alone(seconds):
    enter("decorated")
    pause(seconds)
    inside.remove("decorated")
    return most[0]


def register(query):
    try:
        uwsgi.register_signal(1, "", print)
    except ValueError as error:
        return f"ValueError: {error}"
    return "registered"


def calls(query):
    said = []
    for call in (uwsgi.lock, uwsgi.unlock, uwsgi.is_locked):
        for number in (-1, 1, 1 << 40):
            try:
                said.append(repr(call(number)))
            except ValueError as error:
                said.append(str(error).partition(":")[0])
    return str(set(said))


CALLS = {
    "/hold": hold,
    "/hold_until": hold_until,
    "/turns": turns,
    "/keep": keep,
    "/unlock": give_back,
    "/unlock_later": give_back_later,
    "/locked": lambda query: str(uwsgi.is_locked(int(query.get("lock", 0)))),
    "/thread": in_thread,
    "/die": die,
    "/again": again,
    "/alone": lambda query: str(alone(HELD_S)),
    "/hello": lambda query: "hello",
    "/register": register,
    "/calls": calls,
}

# While it is loaded, as a migration might.
uwsgi.lock()
assert uwsgi.is_locked()
uwsgi.unlock()


def application(environ, start_response):
    query = {k: v[0] for k, v in parse_qs(environ["QUERY_STRING"]).items()}
    answer = CALLS[environ["PATH_INFO"]](query)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [answer.encode()]
