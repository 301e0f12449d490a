"""Loop engines that are written in Python, on primitives of the extension module.

One file per engine; the server imports the one it was asked for. Each begins to do something only
when the server calls it.
"""

from __future__ import annotations
