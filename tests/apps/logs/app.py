"""Answers whose request lines differ, and lines of the application's own."""

import sys
import tempfile
import time
from urllib.parse import parse_qs

import uwsgi


def application(environ, start_response):
    query = parse_qs(environ["QUERY_STRING"], encoding="latin-1", keep_blank_values=True)
    what = environ["PATH_INFO"].rpartition("/")[2]
    body = [b"x" * int(query.get("size", ["6"])[0])]
    for name, values in query.items():
        if name.startswith("logvar."):
            key = name.removeprefix("logvar.").encode("latin-1")
            uwsgi.set_logvar(key, values[0].encode("latin-1"))
    if what == "forced":
        uwsgi.log_this_request()
    elif what == "slow":
        time.sleep(float(query["seconds"][0]))
    elif what == "fail":
        raise RuntimeError("as the test asks")
    elif what == "read":
        body = [uwsgi.get_logvar("a") or b"none"]
    elif what == "say":
        uwsgi.log("said with uwsgi.log")
        print("said with print", flush=True)
        print("said to stderr", file=sys.stderr, flush=True)
    elif what == "wrapper":
        file = tempfile.TemporaryFile()  # noqa: SIM115  the server closes it
        file.write(b"a file")
        file.seek(0)
        start_response("200 OK", [("Content-Type", "text/plain")])
        return environ["wsgi.file_wrapper"](file)
    elif what == "sendfile":
        start_response("200 OK", [("Content-Type", "text/plain")])
        uwsgi.sendfile(__file__, 0, 0, 100)
        return []
    status = query.get("status", ["200 OK"])[0]
    start_response(status, [("Content-Type", "text/plain")])
    return body
