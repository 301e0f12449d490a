"""A child that is forked in a request must not reach its parent's clients and cores."""

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


@pytest.mark.nasty
@pytest.mark.usefixtures("suspending")
def test_child_takes_nothing_of_a_body_that_is_still_coming(serve_engine):
    server = serve_engine("contract_children", "--body-early", "/read")
    client = server.http()
    client.send("POST /read HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n12345")
    # The child has ended when the line is there, and its parent waits for the rest.
    server.wait_for_log(SAID)
    client.send("67890")
    assert client.read_response().body.decode() == CAME_BACK + "1234567890"
