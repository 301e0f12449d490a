"""What belongs to one request: exceptions, contexts, frames, trace functions, event loops."""

from __future__ import annotations

import asyncio
import contextvars
import decimal
import faulthandler
import gc
import sys
import tempfile
import threading
import traceback
import weakref
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "contract_support"))

from contract_support import application_of

variable = contextvars.ContextVar("variable", default="default")
of_thread = threading.local()


def args(error):
    """An exception as JSON."""
    return None if error is None else [type(error).__name__, *error.args]


def handled():
    return args(sys.exc_info()[1])


# Exceptions.


def exc_info(request):
    n = request.number
    found = [handled()]
    request.meet("begin")
    try:
        raise ValueError(n)
    except ValueError:
        for _ in range(1 + n % 4):
            request.suspend()
        found.append(handled())
        try:
            raise KeyError(n)
        except KeyError:
            for _ in range(1 + n % 3):
                request.suspend()
            found.append(handled())
        request.suspend()
        found.append(handled())
        found.append(list(part(request)))
    request.suspend()
    found.append(handled())
    request.meet("end")
    return found


def part(request):
    """A generator has a stack of handled exceptions of its own, on top of its caller's."""
    yield handled()
    try:
        raise LookupError(request.number)
    except LookupError:
        request.suspend()
        yield handled()
        request.suspend()
    yield handled()


def bare_raise(request):
    request.meet("begin")
    found = []
    for k in range(3 + request.number):
        try:
            try:
                raise ValueError(request.number, k)
            except ValueError:
                request.suspend()
                raise
        except ValueError as error:
            found.append(args(error))
    # With nothing to raise again, whatever the neighbours are handling.
    try:
        request.suspend()
        raise
    except RuntimeError as error:
        found.append(args(error))
    request.meet("end")
    return found


def contexts_of_exceptions(request):
    """`__context__` is what this request was handling, and never somebody else's."""
    n = request.number
    found = []
    request.meet("begin")
    try:
        raise ValueError("before any other", n)
    except ValueError as error:
        found.append(args(error.__context__))
    for _ in range(3):
        try:
            raise ValueError(n)
        except ValueError:
            request.suspend()
            try:
                raise KeyError(n)
            except KeyError as inner:
                request.suspend()
                found.append([args(inner.__context__), args(inner.__context__.__context__)])
        request.suspend()
        try:
            int(f"not a number {n}")
        except ValueError as error:
            found.append(args(error.__context__))
    request.meet("end")
    return found


def failing(request):
    """Ends by an exception, after a suspension in which others have raised and handled theirs."""
    request.meet("begin")
    try:
        raise ValueError("handled", request.number)
    except ValueError:
        request.suspend()
    request.meet("end")
    raise LookupError("left", request.number)


# Contexts.


def context_variable(request):
    n = request.number
    found = [variable.get()]
    token = variable.set(f"of {n}")
    request.meet("begin")
    for _ in range(1 + n % 4):
        request.suspend()
        found.append(variable.get())
    inner = contextvars.copy_context()

    def within():
        variable.set(f"within {n}")
        request.suspend()
        return variable.get()

    found += [inner.run(within), variable.get()]
    variable.reset(token)
    request.suspend()
    found.append(variable.get())
    variable.set(f"left by {n}")
    request.meet("end")
    return found


def decimal_context(request):
    n = request.number
    found = [decimal.getcontext().prec]
    decimal.getcontext().prec = 5 + n
    request.meet("begin")
    for _ in range(1 + n % 4):
        request.suspend()
        found.append(str(decimal.Decimal(1) / 7))
    with decimal.localcontext() as context:
        context.prec = 2 + n
        request.suspend()
        found.append(str(decimal.Decimal(1) / 7))
    found.append(str(decimal.Decimal(1) / 7))
    request.meet("end")
    return found


def thread_local(request):
    """Set by all, one after the other; then each reads what it finds."""
    before = getattr(of_thread, "value", None)
    of_thread.value = request.number
    request.meet("set")
    found = of_thread.value
    request.meet("read")
    return {"before": before, "found": found, "main": threading.current_thread().name}


def leave_things(request):
    """Spoils what the next request on this core must not see."""
    variable.set("left behind")
    decimal.getcontext().prec = 3
    of_thread.left = "left behind"
    request.suspend()
    return None


def leave_an_exception(request):
    """Ends while a generator of its own still handles one."""

    def handling():
        try:
            raise ValueError("left behind")
        except ValueError:
            yield

    running = handling()
    next(running)
    request.suspend()
    request.environ["left"] = running
    return None


def look(request):
    def seen():
        try:
            raise KeyError("new")
        except KeyError as error:
            context = args(error.__context__)
        return {
            "variable": variable.get(),
            "prec": decimal.getcontext().prec,
            "handled": handled(),
            "context": context,
            "trace": sys.gettrace() is not None,
            "left": getattr(of_thread, "left", None),
        }

    before = seen()
    request.suspend()
    assert seen() == before
    return before


# Frames.


def frames(request):
    """From here down to the first frame of this request; then the interpreter's own view."""
    request.meet("begin")

    def deeper(level):
        if level:
            return deeper(level - 1)
        request.suspend()
        frame = sys._getframe()
        found = []
        while frame is not None:
            found.append([Path(frame.f_code.co_filename).name, frame.f_code.co_name])
            frame = frame.f_back
        stack = [entry.name for entry in traceback.extract_stack()]
        return [found, stack]

    result = deeper(request.number)
    request.meet("end")
    return result


def traces(request):
    """The traceback of an exception that has passed suspensions on its way."""
    request.meet("begin")

    def deeper(level):
        try:
            if level:
                return deeper(level - 1)
            raise ValueError(request.number)
        finally:
            request.suspend()

    try:
        deeper(request.number)
    except ValueError as error:
        found = [
            [Path(entry.filename).name, entry.name]
            for entry in traceback.extract_tb(error.__traceback__)
        ]
    request.meet("end")
    return found


def dump(request):
    """What faulthandler writes of this process while all are suspended but the last one."""
    marks = [recognised_0, recognised_1, recognised_2, recognised_3]
    return marks[request.number](request)


def recognised_0(request):
    return wait_and_dump(request)


def recognised_1(request):
    return wait_and_dump(request)


def recognised_2(request):
    return wait_and_dump(request)


def recognised_3(request):
    return wait_and_dump(request)


def wait_and_dump(request):
    request.meet("begin")
    with tempfile.TemporaryFile() as file:
        faulthandler.dump_traceback(file, all_threads=True)
        file.seek(0)
        text = file.read().decode()
    request.meet("end")
    return text


def settrace(request):
    """Request 0 traces itself; the others run the same function beside it."""
    seen = []

    def tracer(frame, event, arg):
        if frame.f_code.co_name == "traced" and event == "call":
            seen.append(frame.f_locals["who"])
        return None

    def traced(who):
        request.suspend()
        return who

    request.meet("begin")
    if request.number == 0:
        sys.settrace(tracer)
    request.meet("set")
    for _ in range(4):
        traced(request.number)
    state = sys.gettrace() is not None
    request.meet("done")
    sys.settrace(None)
    return {"seen": sorted(set(seen)), "tracing": state}


# The collector.


class Node:
    def __init__(self, value):
        self.value = value
        self.itself = self


def cycles(request):
    """Frames with cycles and weak references in them, under collections by the neighbours."""
    request.meet("begin")
    n = request.number

    def deeper(level):
        node = Node([n, level])
        reference = weakref.ref(node)
        garbage = weakref.ref(Node(None))
        numbers = (Node(k) for k in range(3))
        if level:
            below = deeper(level - 1)
        else:
            below = 0
            for _ in range(1 + n % 4):
                request.suspend()
                gc.collect()
        assert reference() is node
        assert node.itself.value == [n, level]
        assert garbage() is None or garbage().value is None
        assert [number.value for number in numbers] == [0, 1, 2]
        return below + 1

    count = deeper(30 + n)
    request.meet("end")
    gc.collect()
    return count


# Event loops.


def event_loop(request):
    """asyncio.run() in a core; the task itself is suspended in the middle."""
    n = request.number

    async def child():
        request.suspend()
        await asyncio.sleep(0.001)
        return n

    async def main():
        mine = asyncio.get_running_loop()
        request.suspend()
        assert asyncio.get_running_loop() is mine
        task = asyncio.current_task()
        await asyncio.sleep(0.001)
        found = await asyncio.gather(child(), child())
        request.suspend()
        assert asyncio.current_task() is task
        return sum(found)

    request.meet("begin")
    coroutine = main()
    try:
        result = asyncio.run(coroutine)
    except RuntimeError as error:
        coroutine.close()
        result = str(error)
    request.meet("end")
    # All have ended, so no loop may be left.
    try:
        asyncio.get_running_loop()
        left = True
    except RuntimeError:
        left = False
    return {"result": result, "left": left}


HANDLERS = {
    "exc_info": exc_info,
    "bare_raise": bare_raise,
    "contexts_of_exceptions": contexts_of_exceptions,
    "failing": failing,
    "context_variable": context_variable,
    "decimal_context": decimal_context,
    "thread_local": thread_local,
    "leave_things": leave_things,
    "leave_an_exception": leave_an_exception,
    "look": look,
    "frames": frames,
    "traces": traces,
    "dump": dump,
    "settrace": settrace,
    "cycles": cycles,
    "event_loop": event_loop,
}

application = application_of(HANDLERS)
