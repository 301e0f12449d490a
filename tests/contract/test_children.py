"""A child that an application forks in a request must not reach its parent's clients, connections and cores."""

from __future__ import annotations

import pytest

CAME_BACK = "70"
SAID = r"forked by the application in a request, has come back into the server"


@pytest.mark.nasty
@pytest.mark.parametrize("where", ["hook", "finalizer", "write"])
def test_child_writes_nothing_of_the_response(serve_engine, where):
    server = serve_engine("contract_children")
    client = server.http()
    client.send_request("GET", f"/{where}", [("Connection", "close")])
    response = client.read_response()
    assert response.body == b"the parent's"
    assert client.read_to_end() == b""
    assert server.get("/statuses").body.decode() == CAME_BACK
    server.wait_for_log(SAID)
    assert len(server.wait_requests(2)) == 2, "the child has logged a request"


@pytest.mark.nasty
@pytest.mark.parametrize("what", ["send", "disconnect", "wait"])
def test_child_ends_where_it_calls_the_server(serve_engine, what):
    server = serve_engine("contract_children")
    assert server.get(f"/{what}").body.decode() == CAME_BACK
    server.wait_for_log(SAID)
