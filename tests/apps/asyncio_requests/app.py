"""Requests that use the event loop which serves them: asyncio's own, uvloop, or Tornado's."""

import asyncio
import contextvars
import json
import os
import sys
import threading
from urllib.parse import parse_qs

import greenlet
import uwsgi
from greenloom import aio

notes = []
waits = []
kept = []
of_context = contextvars.ContextVar("of_context", default=None)


class Go:
    """What requests and coroutines wait for until /go."""

    event = None

    @classmethod
    def get(cls):
        if cls.event is None:
            cls.event = asyncio.Event()
        return cls.event


def take_notes(query):
    taken, notes[:] = list(notes), []
    return taken


def hello(query):
    return "hello"


def own(query):
    loop = asyncio.get_running_loop()
    me = greenlet.getcurrent()
    return {
        "same loop": asyncio.get_event_loop() is loop,
        "class": f"{type(loop).__module__}.{type(loop).__name__}",
        "runs": loop.is_running(),
        "below the first greenlet": me.parent.parent is None,
        "task": asyncio.current_task() is None,
        "name": uwsgi.loop.decode(),
    }


def wait(query):
    try:
        aio.wait(noting_its_end())
    except BaseException as error:
        notes.append(f"{type(error).__name__} {getattr(error, 'reason', '')}".strip())
        raise
    return "went on"


async def noting_its_end():
    waits.append(asyncio.current_task())
    try:
        await Go.get().wait()
    except asyncio.CancelledError:
        notes.append("the coroutine: CancelledError")
        raise
    finally:
        waits.remove(asyncio.current_task())


def switch_away(query):
    """In a switch of its own that nobody ends."""
    waits.append(greenlet.getcurrent())
    try:
        greenlet.getcurrent().parent.switch()
    except BaseException as error:
        notes.append(f"{type(error).__name__} {getattr(error, 'reason', '')}".strip())
        raise
    finally:
        waits.remove(greenlet.getcurrent())


def waiting(query):
    return len(waits)


def let_go(query):
    Go.get().set()
    Go.get().clear()
    return "gone"


def outcomes(query):
    async def gives(value):
        await asyncio.sleep(0)
        return value

    async def fails():
        await asyncio.sleep(0)
        raise KeyError("on purpose")

    found = [aio.wait(gives(1)), aio.wait(asyncio.gather(gives(2), gives(3)))]
    future = asyncio.get_running_loop().create_future()
    future.set_result(4)
    found.append(aio.wait(future))
    try:
        aio.wait(fails())
    except KeyError as error:
        found.append(str(error))
    try:
        aio.wait(noting_its_end(), timeout=0.02)
    except TimeoutError as error:
        found.append(str(error))
    found.append(aio.wait(gives(5), timeout=10))
    try:
        aio.wait(17)
    except TypeError:
        found.append("TypeError")
    return found


def refused(query):
    """Where nobody could wait."""
    found = []

    async def inside():
        try:
            aio.wait(asyncio.sleep(0))
        except RuntimeError as error:
            found.append(str(error))

    aio.wait(inside())
    me = greenlet.getcurrent()

    def callback():
        try:
            aio.wait(asyncio.sleep(0))
        except RuntimeError as error:
            found.append(str(error))
        me.switch()

    asyncio.get_running_loop().call_soon(callback)
    me.parent.switch()

    def on_top():
        try:
            aio.wait(asyncio.sleep(0))
        except RuntimeError as error:
            found.append(str(error))

    greenlet.greenlet(on_top).switch()
    return found


def eager(query):
    """Tasks that begin where they are made, from Python 3.12 on."""
    if not hasattr(asyncio, "eager_task_factory"):
        return None
    loop = asyncio.get_running_loop()
    loop.set_task_factory(asyncio.eager_task_factory)
    try:

        async def outer():
            await asyncio.sleep(0.01)
            return "waited"

        async def waits_inside():
            try:
                aio.wait(asyncio.sleep(0))
            except RuntimeError as error:
                return str(error)

        # Not by the factory: uvloop 0.23 hands it an argument that it does not know (CPython 3.13).
        inside = asyncio.Task(waits_inside(), loop=loop, eager_start=True)
        return [aio.wait(outer()), aio.wait(inside)]
    finally:
        loop.set_task_factory(None)


def threads(query):
    loop = asyncio.get_running_loop()
    me = greenlet.getcurrent()
    first = aio.wait(loop.run_in_executor(None, threading.get_native_id))
    threading.Thread(target=loop.call_soon_threadsafe, args=(me.switch, "from a thread")).start()
    found = me.parent.switch()
    return [first != threading.get_native_id(), found]


def subprocesses(query):
    async def run():
        program = [sys.executable, "-c", "print('child', end='')"]
        child = await asyncio.create_subprocess_exec(*program, stdout=asyncio.subprocess.PIPE)
        return (await child.communicate())[0].decode()

    return aio.wait(run())


def fork_in_callback(query):
    """The exit status of a child that leaves by SystemExit where the loop is."""
    me = greenlet.getcurrent()

    def callback():
        pid = os.fork()
        if pid == 0:
            sys.exit(0)
        me.switch(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))

    asyncio.get_running_loop().call_soon(callback)
    return me.parent.switch()


def other_loop(query):
    """Python lets one loop run in a thread."""
    found = []
    coroutine = asyncio.sleep(0)
    other = asyncio.new_event_loop()
    for run in (asyncio.run, other.run_until_complete):
        try:
            run(coroutine)
        except RuntimeError as error:
            found.append(str(error))
    coroutine.close()
    other.close()
    return found


def current_task(query):
    """A coroutine that switches to the request stays the task that runs until it is done."""
    me = greenlet.getcurrent()
    seen = []

    async def switches():
        before = asyncio.current_task()
        me.switch()
        seen.append(asyncio.current_task() is before)
        await asyncio.sleep(0)
        seen.append(asyncio.current_task() is before)

    async def other():
        return asyncio.current_task().get_name()

    task = asyncio.get_running_loop().create_task(switches())
    me.parent.switch()
    # Suspends inside of the coroutine's step, which goes on then.
    uwsgi.suspend()
    name = aio.wait(asyncio.get_running_loop().create_task(other(), name="other"))
    aio.wait(task)
    return [seen, name, asyncio.current_task() is None]


def keep_a_switch(query):
    """Ends before its callback comes."""
    kept.append(greenlet.getcurrent())
    asyncio.get_running_loop().call_later(0.05, stray, greenlet.getcurrent())
    return "ended"


def stray(of_an_earlier_request):
    of_an_earlier_request.switch("stray")
    notes.append("stray")


def undisturbed(query):
    """What a stray switch must not end."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    uwsgi.async_sleep(0.2)
    uwsgi.suspend()
    return loop.time() - began >= 0.19


def switched_into(query):
    """Woken before its time by another callback: waits on."""
    loop = asyncio.get_running_loop()
    loop.call_later(0.01, greenlet.getcurrent().switch)
    return [undisturbed(query), aio.wait(stayed(greenlet.getcurrent()))]


async def stayed(me):
    asyncio.get_running_loop().call_later(0.01, me.switch)
    await asyncio.sleep(0.05)
    return "stayed"


def api(query):
    """uwsgi's own waits between asyncio's."""
    loop = asyncio.get_running_loop()
    reader, writer = os.pipe()
    try:
        loop.call_later(0.01, os.write, writer, b"x")
        uwsgi.wait_fd_read(reader, 10)
        uwsgi.suspend()
        ready = uwsgi.ready_fd() == reader
        aio.wait(asyncio.sleep(0.01))
        # Registered, and waited for by nothing of asyncio's.
        uwsgi.async_sleep(0.01)
        aio.wait(asyncio.sleep(0.05))
        loop.call_later(0.05, greenlet.getcurrent().switch, "callback")
        found = greenlet.getcurrent().parent.switch()
        uwsgi.suspend()
        return [ready, found, uwsgi.ready_fd()]
    finally:
        os.close(reader)
        os.close(writer)


def context(query):
    """Its tasks see what it has set, and nobody else does."""
    before = of_context.get()
    of_context.set(query["value"])

    async def look():
        await asyncio.sleep(0.01)
        return of_context.get()

    return [before, aio.wait(look()), of_context.get()]


def bad_callback(query):
    error = {
        "exit": SystemExit("on purpose"),
        "interrupt": KeyboardInterrupt("on purpose"),
        "error": ValueError("on purpose"),
    }[query["how"]]

    def callback():
        raise error

    async def coroutine():
        raise error

    loop = asyncio.get_running_loop()
    loop.call_soon(callback)
    kept.append(loop.create_task(coroutine()))
    return "begun"


def stop_loop(query):
    asyncio.get_running_loop().stop()
    return "stopped"


def leave_behind(query):
    """A task and an asynchronous generator that end with the worker."""

    async def task():
        try:
            await asyncio.sleep(3600)
        finally:
            await asyncio.sleep(0)
            print("the task ends in order", flush=True)

    async def numbers():
        try:
            while True:
                yield 1
        finally:
            await asyncio.sleep(0)
            print("the generator ends in order", flush=True)

    generator = numbers()
    kept.extend([asyncio.get_running_loop().create_task(task()), generator])
    return aio.wait(anext(generator))


def stream(query):
    loop = asyncio.get_running_loop()
    for n in range(int(query["parts"])):
        loop.call_later(0.005, greenlet.getcurrent().switch)
        greenlet.getcurrent().parent.switch()
        yield f"{query['name']}{n}\n".encode()


PATHS = {
    "/api": api,
    "/bad_callback": bad_callback,
    "/context": context,
    "/current_task": current_task,
    "/eager": eager,
    "/fork_in_callback": fork_in_callback,
    "/go": let_go,
    "/hello": hello,
    "/keep_a_switch": keep_a_switch,
    "/leave_behind": leave_behind,
    "/notes": take_notes,
    "/other_loop": other_loop,
    "/outcomes": outcomes,
    "/own": own,
    "/refused": refused,
    "/stop_loop": stop_loop,
    "/subprocesses": subprocesses,
    "/switch_away": switch_away,
    "/switched_into": switched_into,
    "/threads": threads,
    "/undisturbed": undisturbed,
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
