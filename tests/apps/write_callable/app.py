"""The write callable: /N?size=S writes N blocks, then returns one more; / is a plain answer."""

from urllib.parse import parse_qs


def block(number, size):
    return (b"%d\n" % number).rjust(size, b"w")


def application(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/":
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"hello\n"]
    count = int(path[1:])
    size = int(parse_qs(environ["QUERY_STRING"]).get("size", ["10"])[0])
    write = start_response("200 OK", [("Content-Type", "text/plain")])
    for number in range(count):
        write(block(number, size))
    return [b"end"]
