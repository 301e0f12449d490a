"""Requests on workers of one's choice: to do something to one and look at the others."""

from __future__ import annotations

from tests.harness.http import Client, Response
from tests.harness.server import Server


class Begun:
    """A request of tests/apps/faults that has said which process runs it."""

    def __init__(self, server: Server, target: str) -> None:
        self.client: Client = server.http()
        self.client.send_request(target=target, headers=[("Connection", "close")])
        self.head: Response = self.client.read_head()
        self.pid = int(self.client.read_chunk())

    def rest(self) -> bytes:
        """The rest of its body; AssertionError when it is cut."""
        return self.client.read_body(self.head).body

    def lost(self) -> bool:
        """Whether it ends without its end, as a client can see."""
        try:
            self.rest()
        except (AssertionError, ConnectionError):
            return True
        return False


def one_on_each(server: Server, target: str = "/hold", most: int = 60) -> dict[int, list[Begun]]:
    """Begins requests until each worker has at least one."""
    found: dict[int, list[Begun]] = {pid: [] for pid in server.workers()}
    for _ in range(most):
        begun = Begun(server, target)
        found.setdefault(begun.pid, []).append(begun)
        if all(found.values()):
            return found
    raise AssertionError(
        f"{most} requests, but not on each: { {p: len(r) for p, r in found.items()} }"
    )
