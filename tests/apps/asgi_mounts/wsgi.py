"""A WSGI application beside them; `/wait` is suspended until `/go`."""

import json

import uwsgi

going = []


def application(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/wait":
        while not going:
            uwsgi.async_sleep(0.005)
            uwsgi.suspend()
    if path == "/go":
        going.append(True)
    start_response("200 OK", [("Content-Type", "text/json")])
    return [json.dumps(["wsgi", environ["SCRIPT_NAME"], path]).encode()]
