"""The environ as JSON: plain values as they are, others by the name of their type."""

import json


def plain(value):
    if value is None or isinstance(value, (str, int, bool)):
        return value
    if isinstance(value, tuple):
        return [plain(item) for item in value]
    if isinstance(value, bytes):
        return {"bytes": value.decode("latin-1")}
    return {"type": type(value).__name__, "callable": callable(value)}


def application(environ, start_response):
    answer = {key: plain(value) for key, value in environ.items()}
    answer["is a plain dict"] = type(environ) is dict
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(answer).encode()]
