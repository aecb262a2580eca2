"""The registry of the kinds of tasks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from workbench.registry import Registry

if TYPE_CHECKING:
    from workbench.tasks.base import Head

TASKS: Registry[Head] = Registry("kind of task")
"""Kinds of tasks by name. Each is a subclass of `Head`."""
