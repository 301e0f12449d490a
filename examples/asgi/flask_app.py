"""A Flask application, WSGI as ever: its requests run on greenlets beside those of ASGI."""

import asyncio

from flask import Flask
from greenloom import aio

PAUSE_S = 0.2

app = Flask(__name__)


@app.get("/")
def hello():
    return "Hello from Flask\n"


@app.get("/wait")
def wait():
    """Suspended until something of the loop is done."""
    return aio.wait(asyncio.sleep(PAUSE_S, result="waited\n"))
