"""Helpers of the benchmark scripts: describes the machine, and reads common options."""

from __future__ import annotations

import argparse
import os
import platform
from collections.abc import Callable
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


def between(low: int, high: int) -> Callable[[str], int]:
    """A type for argparse: a whole number within these bounds."""

    def number(text: str) -> int:
        if not text.isdecimal() or not low <= int(text) <= high:
            raise argparse.ArgumentTypeError(
                f"must be a whole number from {low} to {high:,}, got {text[:20]!r}"
            )
        return int(text)

    return number
