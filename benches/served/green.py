"""The application of benches/gevent.py: as application code for gevent is, and what app.py does."""

from __future__ import annotations

import runpy
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import app
import gevent

SLEEP_S = 0.05

cpubound = runpy.run_path(str(Path(__file__).parents[2] / "tests" / "cpubound_async.py"))


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Sleep, compute, or answer at once, as the path says."""
    path = environ["PATH_INFO"]
    if path == "/cpubound":
        return cpubound["application"](environ, start_response)
    if path not in ("/hello", "/sleep"):
        return app.application(environ, start_response)
    if path == "/sleep":
        gevent.sleep(SLEEP_S)
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "3")])
    return [b"ok\n"]
