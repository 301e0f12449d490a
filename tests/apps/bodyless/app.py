"""Bodies where HTTP allows none: /STATUS/list, /STATUS/generator, /STATUS/write."""

REASONS = {"200": "OK", "204": "No Content", "304": "Not Modified"}


def application(environ, start_response):
    _, status, how = environ["PATH_INFO"].split("/")
    write = start_response(f"{status} {REASONS[status]}", [("Content-Type", "text/plain")])
    if how == "write":
        write(b"written")
        return []
    if how == "generator":
        return (chunk for chunk in (b"some", b"body"))
    return [b"somebody"]
