"""Requests that stand still, and what SIGUSR2 says of them."""

from __future__ import annotations

import signal

from tests.harness import request_log
from tests.harness.gate import Gate
from tests.harness.http import Client
from tests.harness.server import Server
from tests.harness.waiting import until


def in_flight(server: Server, target: str, count: int = 1) -> list[Client]:
    """So many clients whose requests have got where they wait."""
    clients = [server.http() for _ in range(count)]
    for client in clients:
        client.send_request(target=target)
    # Handled in the order of arrival: when this one is answered, those are where they wait.
    assert server.get("/hello").body == b"hello\n"
    return clients


def ask(server: Server, whom: str) -> None:
    """For the stacks, of the `master` or of the `worker`; the log begins with what it says then."""
    server.begin()
    server.signal(signal.SIGUSR2, None if whom == "master" else server.worker())


def shown(text: str) -> str:
    """A function's line in a stack, which is not its name in the code of a caller; or a target."""
    return text if "/" in text else f"in {text}\n"


def wait_for(server: Server, *texts: str) -> str:
    """The log, as soon as it shows all of these."""
    until(
        lambda: all(shown(text) in server.log_text() for text in texts),
        f"all of {texts} in the log, which is:\n{server.log_text()}",
    )
    return server.log_text()


def finish(server: Server, gate: Gate, clients: list[Client], body: bytes) -> None:
    """Lets all of them pass the gate, and end."""
    gate.release(len(clients))
    for client in clients:
        assert client.read_response().body == body
    for _ in range(3):
        assert server.get("/hello").body == b"hello\n"


def line_of(server: Server, part: str) -> request_log.LoggedRequest:
    """The line of the one request whose target has this part; an earlier one's may come late."""
    (line,) = until(
        lambda: [r for r in server.log_requests() if part in r.uri], f"the line of {part}"
    )
    return line
