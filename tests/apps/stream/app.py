"""/N?size=S: N chunks of S bytes each, one per yield; /list/N: the same as a list."""

from urllib.parse import parse_qs


def chunk(number, size):
    return (b"%d\n" % number).rjust(size, b".")


def application(environ, start_response):
    count = int(environ["PATH_INFO"].rpartition("/")[2] or 3)
    size = int(parse_qs(environ["QUERY_STRING"]).get("size", ["10"])[0])
    start_response("200 OK", [("Content-Type", "text/plain")])
    if environ["PATH_INFO"].startswith("/list"):
        return [chunk(i, size) for i in range(count)]
    return (chunk(i, size) for i in range(count))
