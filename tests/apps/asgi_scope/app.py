"""Answers with its scope: bytes as text in Latin-1, tuples and lists told from each other."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "asgi_support"))

from asgi_support import Request, lifespan


def shown(value):
    if isinstance(value, bytes):
        return {"bytes": value.decode("latin-1")}
    if isinstance(value, dict):
        return {key: shown(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [shown(item) for item in value]
    return value


def same_kinds(scope):
    """What JSON would hide."""
    return {
        "scope is a dict": type(scope) is dict,
        "header names and values are bytes": all(
            type(name) is bytes and type(value) is bytes for name, value in scope["headers"]
        ),
        "headers are a list": type(scope["headers"]) is list,
        "strings": all(
            type(scope[key]) is str
            for key in ("type", "http_version", "method", "scheme", "path", "root_path")
        ),
        "own extensions": scope["extensions"] is not last.get("extensions"),
        "own asgi": scope["asgi"] is not last.get("asgi"),
    }


last = {}


async def application(scope, receive, send):
    if scope["type"] == "lifespan":
        return await lifespan(receive, send)
    request = Request(scope, receive, send)
    found = {"scope": shown(scope), "kinds": same_kinds(scope)}
    # An application may write into what it is given.
    last.clear()
    last.update(scope)
    scope["extensions"]["of this request"] = {}
    scope["asgi"]["of this request"] = "yes"
    scope["headers"].append((b"of-this-request", b"yes"))
    await request.json(found)
