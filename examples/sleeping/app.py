"""Sleeping without holding up anybody: `uwsgi.async_sleep(seconds)`, then a yield.

/                ?times=5&seconds=0.2   a line after each sleep
/download        ?kib=64&rate=32        a download of `kib` KiB at about `rate` KiB per second
"""

from urllib.parse import parse_qs

import uwsgi

PIECE = 4096


def application(env, start_response):
    query = {name: values[-1] for name, values in parse_qs(env.get("QUERY_STRING", "")).items()}
    try:
        if env["PATH_INFO"] == "/download":
            kib, rate = int(query.get("kib", 64)), float(query.get("rate", 32))
            if rate <= 0 or not 0 <= kib <= 1024 * 1024:
                raise ValueError
            return throttled(start_response, kib * 1024, rate * 1024)
        times, seconds = int(query.get("times", 5)), float(query.get("seconds", 0.2))
        if not 0 <= seconds <= 3600:
            raise ValueError
    except ValueError:
        start_response("400 Bad Request", [("Content-Type", "text/plain")])
        return [b"times, seconds, kib and rate are numbers, and not negative\n"]
    return ticks(start_response, times, seconds)


def ticks(start_response, times, seconds):
    start_response("200 OK", [("Content-Type", "text/plain")])
    for i in range(1, times + 1):
        uwsgi.async_sleep(seconds)  # notes the time and returns at once
        yield b""  # the pause is here: nothing is sent, the worker serves others
        yield b"awake %d of %d\n" % (i, times)


def throttled(start_response, size, bytes_per_second):
    start_response(
        "200 OK",
        [("Content-Type", "application/octet-stream"), ("Content-Length", str(size))],
    )
    while size:
        piece = min(PIECE, size)
        size -= piece
        # A sleep may be noted before the data is yielded: the data leaves, then the request sleeps.
        uwsgi.async_sleep(piece / bytes_per_second)
        yield b"." * piece
