"""Looks for the event loop while it is loaded, and compares it with the one that serves."""

import asyncio
import json
import os
import warnings

from greenloom import aio

try:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        loop = asyncio.get_event_loop()
except RuntimeError:
    loop = None
if loop and "CLOSES" in os.environ:
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()


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
