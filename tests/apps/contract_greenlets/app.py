"""Applications that use greenlets of their own, or switch between those of requests.

`parent.switch()` gives control to the server as `uwsgi.suspend()` does, if a wait was registered
before. A greenlet of a request that is kept can be switched to, thrown into, and outlive it.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "contract_support"))

import greenlet
import uwsgi
from contract_support import PATIENCE_S, application_of

requests = {}
"""Greenlets of requests by name."""
pipes = {}


def keep(request):
    requests[request.query["name"]] = greenlet.getcurrent()


def to_server():
    return greenlet.getcurrent().parent.switch()


# Greenlets of the application, on top of a request.


def own(request):
    """Between suspensions, and left suspended across them."""
    n = request.number
    request.meet("begin")
    found = []
    mine = greenlet.getcurrent()

    def echo(value):
        while True:
            value = mine.switch(value * n)
            if value is None:
                return "ended"

    across = greenlet.greenlet(echo)
    found.append(across.switch(1))
    for k in range(2 + n % 4):
        request.suspend()
        between = greenlet.greenlet(lambda k=k: greenlet.getcurrent().parent.switch(k + n) * 2)
        found.append(between.switch())
        found.append(between.switch(k))
        found.append(across.switch(k))
    request.suspend()
    found.append(across.switch(None))
    assert across.dead
    request.meet("end")
    return found


def own_exceptions(request):
    """They come up in the request that has switched, and suspensions do not mix them up."""
    n = request.number
    request.meet("begin")
    found = []

    def fail():
        try:
            mine.switch()
        except KeyError:
            raise ValueError(n) from None

    mine = greenlet.getcurrent()
    for _ in range(3):
        failing = greenlet.greenlet(fail)
        failing.switch()
        request.suspend()
        try:
            failing.throw(KeyError("thrown"))
        except ValueError as error:
            request.suspend()
            found.append(error.args[0])
    request.meet("end")
    return found


def suspend_in_own(request):
    """Refused in a greenlet on top of the request; the request itself is as good as before."""
    found = []

    def attempt():
        for _ in range(2):
            try:
                uwsgi.suspend()
            except RuntimeError as error:
                found.append(str(error))

    request.meet("begin")
    greenlet.greenlet(attempt).switch()
    request.suspend()
    greenlet.greenlet(attempt).switch()
    request.meet("end")
    return found


def left_alone(request):
    """Ends while a greenlet of its own is still suspended; that one ends with its last name."""
    ended = []

    def stay():
        try:
            mine.switch()
        finally:
            ended.append(request.number)

    mine = greenlet.getcurrent()
    for _ in range(3):
        staying = greenlet.greenlet(stay)
        staying.switch()
        request.suspend()
        del staying
    return ended


# Between the requests' greenlets and the server's.


def to_the_server_for_a_descriptor(request):
    """A registered wait, and `parent.switch()` instead of a suspension."""
    n = request.number
    reader, writer = os.pipe()
    try:
        request.meet("begin")
        pipes[n] = writer
        uwsgi.wait_fd_read(reader, PATIENCE_S)
        if n == int(request.query["of"]) - 1:
            # In the order of the numbers backwards, and the last one before it waits itself.
            for number in sorted(pipes, reverse=True):
                os.write(pipes.pop(number), b"!")
        to_server()
        request.suspends += 1
        found = uwsgi.ready_fd() == reader
        # A suspension of the other kind after it.
        uwsgi.async_sleep(0.001)
        request.suspend()
        return [found, uwsgi.ready_fd()]
    finally:
        os.close(reader)
        os.close(writer)


def to_the_server_for_a_time(request):
    for _ in range(3):
        uwsgi.async_sleep(0.01)
        to_server()
        request.suspends += 1
    return uwsgi.ready_fd()


def stay_away(request):
    """Goes to the server with no wait at all: only another request can wake it."""
    keep(request)
    got = to_server()
    del requests[request.query["name"]]
    return got


def stay_suspended(request):
    """Waits for a pipe of its own."""
    keep(request)
    reader, writer = os.pipe()
    name = request.query["name"]
    pipes[name] = writer
    try:
        uwsgi.wait_fd_read(reader, PATIENCE_S)
        request.suspend()
        return "ready" if uwsgi.ready_fd() == reader else "woken by somebody else"
    except ValueError as error:
        # Thrown in; after it waits are as ever.
        uwsgi.async_sleep(0.05)
        request.suspend()
        return f"{error} {uwsgi.ready_fd()}"
    finally:
        del pipes[name]
        requests.pop(name, None)
        os.close(reader)
        os.close(writer)


def here(request):
    """Which requests can be switched to."""
    return sorted(requests)


def poke(request):
    os.write(pipes[request.query["name"]], b"!")


def switch_into(request):
    """Straight into another request's greenlet; what brings this one back is its own wait."""
    other = requests[request.query["name"]]
    uwsgi.async_sleep(0.05)
    got = other.switch("from another request")
    return [repr(got), uwsgi.ready_fd()]


def throw_into(request):
    other = requests[request.query["name"]]
    uwsgi.async_sleep(0.05)
    kind = {"ValueError": ValueError, "GreenletExit": greenlet.GreenletExit}[request.query["kind"]]
    other.throw(kind("thrown"))
    return uwsgi.ready_fd()


def end_and_be_kept(request):
    keep(request)
    request.suspend()
    return None


def switch_into_the_ended(request):
    """A dead greenlet passes control on to its parent, the server."""
    other = requests.pop(request.query["name"])
    dead = other.dead
    uwsgi.async_sleep(0.05)
    other.switch()
    return [dead, uwsgi.ready_fd()]


def distinct(request):
    """Each request has a greenlet of its own, whose parent is the server's."""
    requests[request.number] = mine = greenlet.getcurrent()
    request.meet("begin")
    others = {id(other) for other in requests.values()}
    parents = {id(other.parent) for other in requests.values()}
    request.meet("end")
    del requests[request.number]
    return [len(others), len(parents), mine.parent.parent is None]


HANDLERS = {
    "own": own,
    "own_exceptions": own_exceptions,
    "suspend_in_own": suspend_in_own,
    "left_alone": left_alone,
    "to_the_server_for_a_descriptor": to_the_server_for_a_descriptor,
    "to_the_server_for_a_time": to_the_server_for_a_time,
    "stay_away": stay_away,
    "stay_suspended": stay_suspended,
    "here": here,
    "poke": poke,
    "switch_into": switch_into,
    "throw_into": throw_into,
    "end_and_be_kept": end_and_be_kept,
    "switch_into_the_ended": switch_into_the_ended,
    "distinct": distinct,
}

application = application_of(HANDLERS)
