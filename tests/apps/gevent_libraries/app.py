"""Ordinary libraries on a patched standard library: redis, requests, Flask-SocketIO.

/events/CHANNEL     what is published there, line by line, until somebody publishes "end"
/publish/CHANNEL    publishes the body; how many listen
/upstream?URL       what requests gets there
/socket.io/         messages: `join` a room, `say` something to everybody in it
"""

from __future__ import annotations

import os

import flask
import redis
import requests
from flask_socketio import SocketIO, join_room

app = application = flask.Flask(__name__)
sockets = SocketIO(app, async_mode="gevent", allow_upgrades=False)


def database():
    """To be closed, with its connections: the tests look for descriptors that are left."""
    return redis.Redis(unix_socket_path=os.environ["REDIS_SOCKET"])


@app.get("/events/<channel>")
def events(channel):
    def lines():
        with database() as client, client.pubsub() as subscription:
            subscription.subscribe(channel)
            for message in subscription.listen():
                if message["type"] == "subscribe":
                    yield "listening\n"
                    continue
                yield message["data"] + b"\n"
                if message["data"] == b"end":
                    return

    return flask.Response(lines(), mimetype="text/plain")


@app.post("/publish/<channel>")
def publish(channel):
    with database() as client:
        return str(client.publish(channel, flask.request.get_data()))


@app.get("/upstream")
def upstream():
    return requests.get(flask.request.query_string.decode(), timeout=10).content


@sockets.on("join")
def join(room):
    join_room(room)
    return f"in {room}"


@sockets.on("say")
def say(room, text):
    sockets.emit("said", text, to=room)
