"""Who answers; `/reload` and `/stop` ask the master, with `?thread` from a thread."""

import os
import threading

import uwsgi

CALLS = {"/reload": uwsgi.reload, "/stop": uwsgi.stop}


def application(environ, start_response):
    call = CALLS.get(environ["PATH_INFO"])
    answer = [os.getpid()]
    if call is not None:
        asked = threading.Thread(target=lambda: answer.append(call()))
        if environ["QUERY_STRING"] == "thread":
            asked.start()
        else:
            asked.run()
        if asked.ident is not None:
            asked.join()
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [repr(answer[-1]).encode()]
