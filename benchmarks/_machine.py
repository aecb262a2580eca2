"""Describes the machine on which a benchmark script runs."""

from __future__ import annotations

import os
import platform
from datetime import datetime
from importlib.metadata import version
from typing import Any

from workbench import __version__
from workbench.data.jobs.processes import cores
from workbench.devices import cpu_name


def machine(*packages: str) -> dict[str, Any]:
    """What it is measured on. A load much above 0 means that others were at work."""
    return {
        "cpu": cpu_name(),
        "cores": cores(),
        "load_before": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "platform": platform.platform(),
        "python": platform.python_version(),
        **{package: version(package) for package in packages},
        "workbench": __version__,
        "date": datetime.now().astimezone().isoformat(timespec="minutes"),
    }
