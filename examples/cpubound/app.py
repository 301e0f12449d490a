"""A long computation that gives way: 9,999 yields, so 9,999 chances for the other requests.

On a server without async mode this request keeps its worker to itself until it is done.
"""


def application(env, start_response):
    if env["PATH_INFO"] == "/hello":
        start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "6")])
        return [b"hello\n"]
    return numbers(start_response)


def numbers(start_response):
    start_response("200 OK", [("Content-Type", "text/html")])
    for i in range(1, 10000):
        yield b"<h1>%d</h1>" % i
