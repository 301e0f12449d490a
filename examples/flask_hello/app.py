"""Flask, unmodified: a page, a form, JSON, and a stream that gives way while it waits."""

import uwsgi
from flask import Flask, Response, jsonify, request

app = Flask(__name__)
application = app  # the name that servers look for when they are given none


@app.get("/")
def hello():
    return f"Hello from Flask at {request.script_root or '/'}\n"


@app.get("/greet/<name>")
def greet(name):
    return jsonify(greeting=f"Hello, {name}!")


@app.post("/form")
def form():
    return jsonify(fields=request.form.to_dict())


@app.get("/stream")
def stream():
    def lines():
        for i in range(1, 6):
            uwsgi.async_sleep(0.05)
            yield b""
            yield f"line {i}\n"

    return Response(lines(), mimetype="text/plain")


@app.get("/broken")
def broken():
    raise RuntimeError("this view always fails")
