"""Where data that were fetched or made once are kept."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """`WORKBENCH_CACHE`, else the user's cache folder."""
    chosen = os.environ.get("WORKBENCH_CACHE")
    if chosen:
        return Path(chosen).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "margin-workbench"
