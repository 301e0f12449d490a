"""The API where no request is: at import, in another thread."""

import json
import threading

import uwsgi

CALLS = {
    "suspend": lambda: uwsgi.suspend(),
    "async_sleep": lambda: uwsgi.async_sleep(1),
    "wait_fd_read": lambda: uwsgi.wait_fd_read(0, 1),
    "wait_fd_write": lambda: uwsgi.wait_fd_write(1, 1),
    "ready_fd": lambda: uwsgi.ready_fd(),
    "connection_fd": lambda: uwsgi.connection_fd(),
}


def attempt_all():
    found = {}
    for name, call in CALLS.items():
        try:
            result = call()
        except Exception as error:
            found[name] = {"error": type(error).__name__, "text": str(error)}
        else:
            found[name] = {"result": repr(result)}
    return found


at_import = attempt_all()


def application(environ, start_response):
    if environ["PATH_INFO"] == "/import":
        found = at_import
    else:
        box = {}
        thread = threading.Thread(target=lambda: box.update(attempt_all()))
        thread.start()
        thread.join()
        found = box
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(found).encode()]
