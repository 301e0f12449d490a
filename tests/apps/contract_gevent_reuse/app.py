"""Counts the greenlets that gevent makes for requests, and keeps those that it is told to keep."""

from __future__ import annotations

import operator
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "contract_support"))

import gevent
from contract_support import application_of
from greenloom.engines.gevent import RequestGreenlet

begun = 0
kept = []
ended = []


def count_and_run(entry):
    global begun
    begun += 1
    return operator.call(entry)


RequestGreenlet._run = staticmethod(count_and_run)


def nothing(request):
    return begun


def sleeps(request):
    gevent.sleep(0.002)
    return begun


def suspends(request):
    request.suspend()
    return begun


def fails_inside(request):
    try:
        with gevent.Timeout(0.002):
            gevent.sleep(5)
    except gevent.Timeout:
        return begun


def is_kept(request):
    gevent.sleep(0.002)
    kept.append(gevent.getcurrent())


def is_linked(request):
    """Nobody refers to it any more, but somebody is to hear of its end."""
    gevent.sleep(0.002)
    gevent.getcurrent().link(lambda greenlet: ended.append(greenlet.value))


def has_an_attribute(request):
    gevent.sleep(0.002)
    found = getattr(gevent.getcurrent(), "mine", None)
    gevent.getcurrent().mine = "left behind"
    return found


def has_locals(request):
    gevent.sleep(0.002)
    found = dict(gevent.getcurrent().spawn_tree_locals)
    gevent.getcurrent().spawn_tree_locals["mine"] = "left behind"
    return found


def what_is_kept(request):
    return [[greenlet.ready(), greenlet.successful(), greenlet.value] for greenlet in kept]


def what_has_ended(request):
    return ended


def joins_the_kept(request):
    gevent.joinall(kept)
    return len(kept)


HANDLERS = {
    "nothing": nothing,
    "sleeps": sleeps,
    "suspends": suspends,
    "fails_inside": fails_inside,
    "is_kept": is_kept,
    "is_linked": is_linked,
    "has_an_attribute": has_an_attribute,
    "has_locals": has_locals,
    "what_is_kept": what_is_kept,
    "what_has_ended": what_has_ended,
    "joins_the_kept": joins_the_kept,
}

application = application_of(HANDLERS)
