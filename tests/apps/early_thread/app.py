"""Starts a thread while it is loaded; says which threads the worker has."""

import threading

forever = threading.Event()
threading.Thread(target=forever.wait, name="early", daemon=True).start()


def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    names = sorted(thread.name for thread in threading.enumerate())
    return [" ".join(names).encode()]
