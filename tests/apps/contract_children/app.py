"""Forks wherever code of an application can run; the children use the server as the parent does."""

from __future__ import annotations

import os
import time

import uwsgi

CHILDREN: list[int] = []
AFTERWARDS: list[str] = []


class Forks:
    """Forks in its finalizer, where nothing of the application follows."""

    def __del__(self):
        fork()


def fork():
    pid = os.fork()
    if pid:
        CHILDREN.append(pid)
    return pid


def after_request():
    if AFTERWARDS:
        AFTERWARDS.clear()
        fork()


uwsgi.after_req_hook = after_request


def statuses():
    """Exit statuses of the children; one that lives on is killed."""
    ended = []
    deadline = time.monotonic() + 5
    while CHILDREN:
        pid, status = os.waitpid(CHILDREN[0], os.WNOHANG)
        if pid:
            ended.append(os.waitstatus_to_exitcode(status))
            CHILDREN.pop(0)
        elif time.monotonic() > deadline:
            os.kill(CHILDREN[0], 9)
        else:
            time.sleep(0.005)
    return " ".join(map(str, ended))


def in_child(environ, start_response, what):
    """The child does `what` and would leave by itself after that."""
    if what == "write":
        write = start_response("200 OK", [("Content-Type", "text/plain")])
        if fork() == 0:
            write(b"the child's")
            os._exit(0)
        return [b"the parent's"]
    if fork() == 0:
        if what == "send":
            uwsgi.send(b"the child's")
        elif what == "disconnect":
            uwsgi.disconnect()
        elif what == "wait":
            uwsgi.wait_fd_read(os.pipe()[0], 5)
        elif what == "read":
            environ["wsgi.input"].read(5)
        os._exit(0)
    # The child is done before the response begins.
    status = statuses()
    rest = environ["wsgi.input"].read()
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [status.encode() + rest]


def application(environ, start_response):
    what = environ["PATH_INFO"].strip("/")
    if what in ("write", "send", "disconnect", "wait", "read"):
        return in_child(environ, start_response, what)
    start_response("200 OK", [("Content-Type", "text/plain")])
    if what == "statuses":
        return [statuses().encode()]
    if what == "hook":
        AFTERWARDS.append(what)
    elif what == "finalizer":
        environ["test.forks"] = Forks()
    return [b"the parent's"]
