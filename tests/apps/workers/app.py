"""What `uwsgi.workers()` says, as JSON."""

import json

import uwsgi


def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(uwsgi.workers(), default=bytes.decode).encode()]
