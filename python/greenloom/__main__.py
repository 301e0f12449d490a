"""The command ``greenloom``, also ``python -m greenloom``."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the server with the arguments of this process; leave with its exit code."""
    from greenloom import _greenloom

    # The second list starts this very interpreter again, for the processes the server makes.
    sys.exit(_greenloom.main(sys.argv[1:], [sys.executable, "-m", "greenloom"]))


if __name__ == "__main__":
    main()
