"""A cancelled request that suspends in a `finally` is told again: no error of the application."""

from __future__ import annotations

import pytest


@pytest.mark.nasty
@pytest.mark.usefixtures("suspending")
def test_cancelled_again_while_closing_is_not_logged(serve_engine):
    server = serve_engine("contract_closing")
    client = server.http()
    client.send_request("GET", "/")
    client.read_until(b"part")
    client.reset()
    (line,) = server.wait_requests(1)
    assert (line.status, line.cancelled, line.abandoned) == (200, "client gone", False)
    # Cut off at a suspension, and told again at the one in `finally`.
    assert server.count_log("^told again$") == 1
    assert "Cancelled" not in server.log_text()
