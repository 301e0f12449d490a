"""Servers of static files, for tests that give a `root`."""

from __future__ import annotations

import pytest


@pytest.fixture(params=["native", "python"])
def start(request, fresh, fresh_native, root):
    """A server of files, without and with an application (which says hello to everything)."""

    def start(*options, **how):
        options = ("--check-static", str(root), *options)
        if request.param == "native":
            return fresh_native(*options, **how)
        return fresh("hello", "--async", "4", *options, **how)

    return start
