"""Response headers: repeated ones, order, latin-1, and those the server would otherwise set."""

SETS = {
    "/repeated": [("Set-Cookie", "a=1"), ("X-Between", "yes"), ("Set-Cookie", "b=2")],
    "/latin": [("X-Name", "caf\xe9")],
    "/date": [("Date", "Thu, 01 Jan 1970 00:00:00 GMT")],
    "/close": [("Connection", "close")],
    "/chunked": [("Transfer-Encoding", "chunked")],
    "/length": [("content-LENGTH", "6")],
    "/empty": [("X-Empty", "")],
    "/many": [(f"X-{number}", "v" * 100) for number in range(200)],
}


def application(environ, start_response):
    start_response("200 OK", SETS.get(environ["PATH_INFO"], []))
    return [b"hello\n"]
