"""The registry of the heads of tasks, by the kind of task."""

from __future__ import annotations

from typing import TYPE_CHECKING

from workbench.registry import Registry

if TYPE_CHECKING:
    from workbench.tasks.base import Head

HEADS: Registry[Head] = Registry("kind of task")
"""The subclasses of `Head`. Their settings are in `workbench.tasks.settings.KINDS`."""
