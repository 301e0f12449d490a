"""What applications call; inside the server it is also importable as ``uwsgi``.

Functions and constants come from the extension module. Outside the server the module imports
as well, and each call says that no server runs. Types are in ``api.pyi``.
"""

from __future__ import annotations

import sys

from greenloom import _greenloom

# Applications assign hooks to this module, so there must be one object only: the extension's.
sys.modules[__name__] = _greenloom.api
