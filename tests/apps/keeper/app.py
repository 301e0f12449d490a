"""Keeps what belongs to a request and uses it when the request is over."""

import json

kept = {}


def keep(environ, start_response):
    write = start_response("200 OK", [("Content-Type", "text/plain"), ("X-Kept", "yes")])
    kept.update(environ=environ, start_response=start_response, write=write)
    kept["path"] = environ["PATH_INFO"]
    return [b"kept"]


def attempt(function, *arguments):
    try:
        function(*arguments)
    except Exception as error:
        return type(error).__name__
    return "accepted"


def use(environ, start_response):
    found = {
        "start_response": attempt(kept["start_response"], "500 Evil", [("X-Evil", "1")]),
        "write": attempt(kept["write"], b"evil"),
        "input": attempt(kept["environ"]["wsgi.input"].read),
        "same environ": kept["environ"] is environ,
        "environ unchanged": kept["environ"]["PATH_INFO"] == kept["path"],
    }
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(found).encode()]


def application(environ, start_response):
    if environ["PATH_INFO"] == "/keep":
        return keep(environ, start_response)
    return use(environ, start_response)
