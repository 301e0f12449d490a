"""Files by http.response.pathsend, from the folder that FILES names."""

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "asgi_support"))

from asgi_support import TEXT, application_of

FILES = Path(os.environ["FILES"])


async def file(request):
    """`?name=` of the file, `?length=` says its Content-Length."""
    headers = [TEXT]
    if "length" in request.query:
        headers.append((b"content-length", request.query["length"].encode()))
    await request.start(int(request.query.get("status", "200")), headers)
    path = str(FILES / request.name)
    await request.send({"type": "http.response.pathsend", "path": path})
    request.say("sent")


async def removed(request):
    """Taken away as soon as send() has come back."""
    path = FILES / request.name
    path.write_bytes(b"r" * 100_000)
    await request.start()
    await request.send({"type": "http.response.pathsend", "path": str(path)})
    path.unlink()


async def bad(request):
    """Goes on after a refusal."""
    message = {"type": "http.response.pathsend"}
    case = request.query["case"]
    if case == "relative":
        message["path"] = "small"
    elif case == "bytes":
        message["path"] = bytes(FILES / "small")
    elif case == "number":
        message["path"] = 0
    elif case == "null":
        message["path"] = str(FILES) + "\0small"
    if case != "before":
        await request.start()
    else:
        message["path"] = str(FILES / "small")
    try:
        await request.send(message)
    except Exception as error:
        said = type(error).__name__
    else:
        said = "accepted"
    if case == "before":
        await request.start()
    await request.part(said.encode(), more=False)


async def after_a_part(request):
    await request.start()
    await request.part(b"part")
    try:
        await request.send({"type": "http.response.pathsend", "path": str(FILES / "small")})
    except RuntimeError:
        await request.part(b" refused", more=False)


async def twice(request):
    await request.start()
    message = {"type": "http.response.pathsend", "path": str(FILES / "small")}
    await request.send(message)
    try:
        await request.send(message)
    except RuntimeError:
        request.say("refused")


async def raises(request):
    """Fails behind the file, or where the client has left meanwhile."""
    await request.start()
    try:
        await request.send({"type": "http.response.pathsend", "path": str(FILES / request.name)})
        raise RuntimeError("after pathsend")
    except OSError as error:
        request.say(f"saw {type(error).__name__}")
        raise


async def handed(request):
    """Hands the file over in a field, and sends a body that nobody gets, as `body` says."""
    field = request.query.get("field", "X-Sendfile")
    prefix = "/internal" if field == "X-Accel-Redirect" else FILES
    path = request.query.get("path", f"{prefix}/{request.name}")
    headers = [TEXT, (field.lower().encode(), os.fsencode(path)), (b"x-own", b"kept")]
    if "length" in request.query:
        headers.append((b"content-length", request.query["length"].encode()))
    if request.query.get("body") == "raise-before":
        raise RuntimeError("before the response")
    await request.start(int(request.query.get("status", "200")), headers)
    match request.query.get("body"):
        case "raise":
            raise RuntimeError("before the body")
        case "parts":
            for _ in range(5):
                await request.part(b"x" * 1000)
            await request.part(b"", more=False)
        case "pathsend":
            await request.send({"type": "http.response.pathsend", "path": str(FILES / "small")})
        case _:
            await request.part(b"a body that nobody gets", more=False)
    request.say("goes on")


application = application_of(globals())
