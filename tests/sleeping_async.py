"""Ten lines with a pause between them; while one request sleeps the worker serves the others.

    greenloom --http-socket :9090 -w tests.sleeping_async --async 10

`uwsgi.async_sleep` only notes how long to sleep. The `yield` that follows is the pause.
"""

import uwsgi


def application(env, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    for i in range(1, 11):
        uwsgi.async_sleep(0.05)
        yield ""
        yield b"awake %d\n" % i
