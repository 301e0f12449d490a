"""What belongs to one request: context variables, its task and the task's name."""

import asyncio
import contextvars
import sys
import threading
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "asgi_support"))

from asgi_support import application_of, at_gate, for_go, notes

loaded = contextvars.ContextVar("loaded", default=None)
loaded.set("at load")
own = contextvars.ContextVar("own", default=None)
seen = []
names = set()
inside = 0


async def context(request):
    """Its own from the first line to the last, for its tasks and threads, too."""
    found = {"loaded": loaded.get(), "before": own.get()}
    own.set(request.name)
    for _ in range(20):
        await asyncio.sleep(0)
        assert own.get() == request.name

    async def child():
        await asyncio.sleep(0)
        return own.get()

    found["child"] = await asyncio.create_task(child())
    found["thread"] = await asyncio.to_thread(own.get)
    found["after"] = own.get()
    await request.json(found)


async def task(request):
    me = asyncio.current_task()
    name = me.get_name()
    names.add(name)
    found = {
        "a task": isinstance(me, asyncio.Task),
        "of the loop": me.get_loop() is asyncio.get_running_loop(),
        "named": bool(name),
        "not cancelling": me.cancelling() == 0,
        "main thread": threading.current_thread() is threading.main_thread(),
    }
    await asyncio.sleep(0)
    found["the same later"] = asyncio.current_task() is me
    found["among all tasks"] = me in asyncio.all_tasks()
    me.set_name(f"renamed {request.name}")
    await asyncio.sleep(0)
    found["renamed"] = asyncio.current_task().get_name() == f"renamed {request.name}"
    await request.json(found)


async def other_task(request):
    """Not the one of the request before, though on the same core."""
    me = asyncio.current_task()
    found = me not in seen and not me.get_name().startswith("renamed")
    seen.append(me)
    await request.json(found)


async def loop(request):
    running = asyncio.get_running_loop()
    found = {
        "class": f"{type(running).__module__}.{type(running).__name__}",
        "get_event_loop": asyncio.get_event_loop() is running,
        "runs": running.is_running(),
    }
    await request.json(found)


async def primitives(request):
    """What applications use of asyncio, in one request."""
    lock, queue, event = asyncio.Lock(), asyncio.Queue(1), asyncio.Event()
    found = []

    async def worker():
        async with lock:
            found.append(await queue.get())
        event.set()

    async with asyncio.TaskGroup() as group:
        group.create_task(worker())
        await queue.put(1)
        await asyncio.wait_for(event.wait(), 10)
        async with asyncio.timeout(10), lock:
            found.append(2)
    found.append(await asyncio.shield(asyncio.sleep(0, 3)))
    found.append(await asyncio.to_thread(lambda: 4))
    found += await asyncio.gather(asyncio.sleep(0, 5), asyncio.sleep(0.001, 6))
    reader, writer = await asyncio.open_connection(*request.scope["server"])
    writer.write(b"GET /hello HTTP/1.0\r\n\r\n")
    found.append((await reader.read()).endswith(b"hello\n"))
    writer.close()
    await writer.wait_closed()
    await request.json(found)


async def together(request):
    """Ends only when as many as asked for are inside at the same time."""
    global inside
    inside += 1
    wanted = int(request.query["wanted"])
    state["event"] = event = state.get("event") or asyncio.Event()
    if inside >= wanted:
        inside = 0
        state.clear()
        event.set()
    await asyncio.wait_for(event.wait(), 8)
    await request.answer(request.name.encode())


async def holds(request):
    await request.start()
    await request.part(b"held")
    await at_gate()
    await request.part(b" released", more=False)


async def stream(request):
    """Parts that tell whose they are."""
    await request.start()
    for number in range(20):
        await request.part(f"{request.name}-{number}\n".encode())
        await asyncio.sleep(0)
    await request.part(b"", more=False)


async def keeps(request):
    """Its own receive and send, for somebody who comes later."""
    kept.append((request.receive, request.send))
    await request.answer(b"kept")


async def uses_kept(request):
    """They are over, and nothing of this request is theirs."""
    receive, send = kept.pop()
    found = [(await receive())["type"]]
    for message in (
        {"type": "http.response.start", "status": 500, "headers": [(b"x-evil", b"1")]},
        {"type": "http.response.body", "body": b"evil"},
    ):
        try:
            await send(message)
        except Exception as error:
            found.append(type(error).__name__)
        else:
            found.append("accepted")
    body = await request.body()
    await request.json([*found, body.decode()])


async def outlived(request):
    """A task that goes on with receive and send after its request has returned."""

    async def later():
        await for_go()
        for call in (request.receive(), request.part(b"evil")):
            try:
                notes.append(str(await call))
            except Exception as error:
                notes.append(type(error).__name__)

    tasks.append(asyncio.create_task(later()))
    await request.answer(b"answered")


kept = []
tasks = []
state = {}
application = application_of(globals())
