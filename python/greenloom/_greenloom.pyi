# The extension module. Applications import `greenloom.api` instead.

from collections.abc import Sequence
from types import ModuleType

api: ModuleType

class Request:
    """What the task of an ASGI request runs (`Task.get_coro()`)."""

    @property
    def is_over(self) -> bool:
        """Whether the request has ended, or was given up."""

def main(arguments: Sequence[str], interpreter: Sequence[str]) -> int: ...
def chunk_cache_stats() -> tuple[int, int, int, int, int]: ...
