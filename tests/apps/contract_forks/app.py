"""Requests that fork. A child that ends by itself is fine; one that comes back must end at once."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
from pathlib import Path
from urllib.parse import parse_qs

sys.path.insert(0, str(Path(__file__).parent.parent / "contract_support"))

import uwsgi
from contract_support import application_of

TEXT = [("Content-Type", "text/plain")]


def ending_of(pid):
    """How a child has ended, as JSON."""
    _, status = os.waitpid(pid, 0)
    if os.WIFSIGNALED(status):
        return f"signal {os.WTERMSIG(status)}"
    return os.waitstatus_to_exitcode(status)


def in_turn(request, work):
    """Between two suspensions where there is an engine, all at once."""
    if "of" not in request.query:
        return work(request.number)
    request.meet("begin")
    found = work(request.number)
    request.suspend()
    request.meet("end")
    return found


def fork_and_exit(request):
    """The child works and leaves by os._exit."""

    def work(n):
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.write(writer, f"child {sorted([n, 1])}".encode())
            os._exit(7)
        os.close(writer)
        with open(reader) as pipe:
            said = pipe.read()
        return [said, ending_of(pid)]

    return in_turn(request, work)


def fork_and_exec(request):
    def work(n):
        pid = os.fork()
        if pid == 0:
            os.execv(sys.executable, [sys.executable, "-c", f"raise SystemExit({n + 10})"])
        return ending_of(pid)

    return in_turn(request, work)


def with_subprocess(request):
    """Python code runs in the child, before exec."""

    def work(n):
        reader, writer = os.pipe()

        def prepare():
            os.write(writer, f"prepared {n}".encode())

        ran = subprocess.run(
            ["cat"], input=f"{n}", capture_output=True, text=True, check=True, preexec_fn=prepare
        )
        os.close(writer)
        with open(reader) as pipe:
            return [pipe.read(), ran.stdout]

    return in_turn(request, work)


def compute(n, queue):
    queue.send([sum(range(n * 1000)), os.getpid()])
    queue.close()
    if n == 3:
        raise SystemExit(3)


def with_multiprocessing(request):
    """A process with the state of this one."""

    def work(n):
        near, far = multiprocessing.Pipe(duplex=False)
        process = multiprocessing.get_context("fork").Process(target=compute, args=(n, far))
        process.start()
        far.close()
        total, pid = near.recv()
        near.close()
        process.join()
        found = [total, pid not in (os.getpid(), 0), process.exitcode]
        process.close()
        return found

    return in_turn(request, work)


application_of_handlers = application_of(
    {
        "fork_and_exit": fork_and_exit,
        "fork_and_exec": fork_and_exec,
        "with_subprocess": with_subprocess,
        "with_multiprocessing": with_multiprocessing,
    }
)


# Children that come back into the server.


def returns(start_response):
    pid = os.fork()
    start_response("200 OK", TEXT)
    return [b"child" if pid == 0 else str(ending_of(pid)).encode()]


def raises(start_response):
    pid = os.fork()
    if pid == 0:
        raise ValueError("in the child")
    start_response("200 OK", TEXT)
    return [str(ending_of(pid)).encode()]


def exits(start_response):
    """sys.exit() only raises; it ends no process by itself."""
    pid = os.fork()
    if pid == 0:
        sys.exit(0)
    start_response("200 OK", TEXT)
    return [str(ending_of(pid)).encode()]


def yields(start_response):
    start_response("200 OK", TEXT)
    yield b"begin "
    pid = os.fork()
    if pid == 0:
        yield b"child"
    yield str(ending_of(pid)).encode()


def ends(start_response):
    """The child comes back by the end of the iterable."""
    start_response("200 OK", TEXT)
    yield b"begin "
    pid = os.fork()
    if pid:
        yield str(ending_of(pid)).encode()


def waits(start_response):
    start_response("200 OK", TEXT)
    pid = os.fork()
    if pid == 0:
        uwsgi.async_sleep(0.01)
        yield b""
        os._exit(1)
    yield str(ending_of(pid)).encode()


def suspends(start_response):
    pid = os.fork()
    if pid == 0:
        uwsgi.suspend()
        os._exit(1)
    start_response("200 OK", TEXT)
    return [str(ending_of(pid)).encode()]


def suspends_in_the_depth(start_response):
    """Behind C code, where no exception would reach the server."""
    pid = os.fork()
    if pid == 0:
        try:
            sorted([1], key=lambda x: uwsgi.suspend())
        finally:
            os._exit(1)
    start_response("200 OK", TEXT)
    return [str(ending_of(pid)).encode()]


def keeps_on(start_response):
    """A child that forks again and comes back: both are children of the server."""
    pid = os.fork()
    if pid == 0:
        inner = os.fork()
        if inner:
            os._exit(ending_of(inner))
    start_response("200 OK", TEXT)
    return [str(ending_of(pid)).encode() if pid else b"grandchild"]


COMING_BACK = {
    "returns": returns,
    "raises": raises,
    "exits": exits,
    "yields": yields,
    "ends": ends,
    "waits": waits,
    "suspends": suspends,
    "suspends_in_the_depth": suspends_in_the_depth,
    "keeps_on": keeps_on,
}


def held(environ, start_response):
    """A neighbour whose wait and whose connection every child inherits."""
    start_response("200 OK", TEXT)
    yield b"held\n"
    seconds = float(parse_qs(environ["QUERY_STRING"])["seconds"][0])
    uwsgi.async_sleep(seconds)
    yield b""
    yield b"ended"


def application(environ, start_response):
    name = environ["PATH_INFO"][1:]
    if name == "held":
        return held(environ, start_response)
    if name in COMING_BACK:
        return COMING_BACK[name](start_response)
    return application_of_handlers(environ, start_response)
