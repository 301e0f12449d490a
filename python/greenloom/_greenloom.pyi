# The extension module. Applications import `greenloom.api` instead.

from collections.abc import Sequence
from types import ModuleType

api: ModuleType

def main(arguments: Sequence[str], interpreter: Sequence[str]) -> int: ...
def chunk_cache_stats() -> tuple[int, int, int, int, int]: ...
