"""A long answer in 9,999 small pieces: every `yield` lets the other requests of the worker run.

greenloom --socket :3031 -w tests.cpubound_async --async 10
"""


def application(env, start_response):
    start_response("200 OK", [("Content-Type", "text/html")])
    for i in range(1, 10000):
        yield b"<h1>%d</h1>" % i
