"""Answers only once as many requests as asked for are inside at the same time."""

from __future__ import annotations

import time
from urllib.parse import parse_qs

import uwsgi

inside = 0
rounds = 0
PATIENCE_S = 5


def application(environ, start_response):
    global inside, rounds
    cores = int(parse_qs(environ["QUERY_STRING"])["cores"][0])
    inside += 1
    start_response("200 OK", [("Content-Type", "text/plain")])
    mine = rounds
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        if inside >= cores:
            # The one who completes the round frees all others, then the count starts anew.
            inside = 0
            rounds += 1
        if rounds != mine:
            yield b"free"
            return
        uwsgi.async_sleep(0.005)
        yield b""
    inside -= 1
    yield b"stuck"
