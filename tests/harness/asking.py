"""Asks applications that answer in JSON, have requests wait, and take notes beside them.

`/waiting` says how many requests wait, `/notes` what has been noted since it was asked last.
"""

from __future__ import annotations

from tests.harness.http import Client
from tests.harness.server import Server
from tests.harness.waiting import until


def ask(server: Server, target: str) -> object:
    response = server.get(target)
    assert response.status == 200, response
    return response.json()


def send(server: Server, target: str) -> Client:
    client = server.http()
    client.send_request(target=target)
    return client


def begin(server: Server, target: str = "/wait", there: int = 1) -> Client:
    """A request that waits; returns once it does."""
    client = send(server, target)
    until(lambda: ask(server, "/waiting") == there, f"{there} requests wait")
    return client


def notes_of(server: Server, count: int) -> list:
    """So many notes, of what happens beside requests and after them."""
    notes = []

    def enough():
        notes.extend(ask(server, "/notes"))
        return len(notes) >= count

    until(enough, f"{count} notes")
    return notes
