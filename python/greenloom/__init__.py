"""Application server for green-thread and evented applications.

Applications need nothing from this package but :mod:`greenloom.api`, which the server also
publishes under the name ``uwsgi``.
"""

from __future__ import annotations

from typing import Any

__all__ = ["__version__", "api"]


def __getattr__(name: str) -> Any:  # noqa: ANN401 - a module and a str
    """Provide ``api`` and ``__version__`` when they are asked for: importing does no work."""
    if name == "api":
        # Importing the extension alone enters its module under the name `greenloom.api`, but
        # cannot make it an attribute of this package.
        from greenloom._greenloom import api

        return api
    if name == "__version__":
        from importlib.metadata import version

        return version("greenloom")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
