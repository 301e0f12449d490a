"""Looks for the event loop while it is loaded, and compares it with the one that serves."""

import asyncio
import json
import warnings

from greenloom import aio

try:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        loop = asyncio.get_event_loop()
except RuntimeError:
    loop = None


def wait():
    try:
        return aio.wait(asyncio.sleep(0, "waited"))
    except RuntimeError as error:
        return str(error)


def application(environ, start_response):
    waits = environ["PATH_INFO"] == "/wait"
    answer = wait() if waits else asyncio.get_running_loop() is loop
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(answer).encode()]
