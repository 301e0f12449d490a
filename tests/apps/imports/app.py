"""Which of the modules it is asked for are imported: by the server, for this imports nothing."""

import sys


def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    names = environ["QUERY_STRING"].split("&")
    return [" ".join(name for name in names if name in sys.modules).encode()]
