"""Requests that run at the same time, and what the log says of them."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from tests.harness.request_log import LoggedRequest
from tests.harness.server import Server

LAST_PART = 1
"""An answer of one part is one switch more than the suspensions before it."""


def all_at_once(server: Server, path: str, count: int = 8, **query: object) -> list[Any]:
    """`count` requests, numbered in the order of sending; their answers (JSON) in that order."""
    clients = []
    for number in range(count):
        client = server.http()
        client.send_request(target=f"{path}?{urlencode({'n': number, 'of': count, **query})}")
        clients.append(client)
    responses = [client.read_response() for client in clients]
    assert [response.status for response in responses] == [200] * count
    answers = [response.json() for response in responses]
    assert [answer["n"] for answer in answers] == list(range(count)), "answers were mixed up"
    return answers


def one(server: Server, path: str, **query: object) -> Any:
    """The answer of a single request."""
    (answer,) = all_at_once(server, path, 1, **query)
    return answer


def number_of(line: LoggedRequest) -> int:
    """The number that `all_at_once` gave to a logged request."""
    return int(parse_qs(urlsplit(line.uri).query)["n"][0])


def check_switches(server: Server, answers: list[Any]) -> list[LoggedRequest]:
    """The log counts what each request has counted itself; its lines come in order of ending."""
    lines = server.wait_requests(len(answers))
    counted = {number_of(line): line.switches for line in lines}
    assert counted == {answer["n"]: answer["suspends"] + LAST_PART for answer in answers}
    return lines
