"""Settings that replace others, such as those of a preset."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

OPTIONS_OF = {
    "loss": "loss_options",
    "backbone": "backbone_options",
    "optimizer": "optimizer_options",
    "schedule": "schedule_options",
}
"""{setting that is a name: setting with the options of what it names}."""


def with_overrides(settings: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Returns settings in which some are replaced.

    Options belong to a name: if `overrides` replace the loss by another one, the options of the
    former loss are removed. The same holds for the backbone, the optimiser and the schedule.

    Args:
        settings: Settings by name.
        overrides: Settings that replace them or are added.

    Returns:
        The settings.

    Example:
        >>> from workbench.training.overriding import with_overrides
        >>> arcface = {"loss": "arcface", "loss_options": {"s": 32, "m": 0.5}, "epochs": 20}
        >>> with_overrides(arcface, {"epochs": 2})
        {'loss': 'arcface', 'loss_options': {'s': 32, 'm': 0.5}, 'epochs': 2}
        >>> with_overrides(arcface, {"loss": "triplet"})
        {'loss': 'triplet', 'epochs': 20}
    """
    kept = dict(settings)
    for name, options in OPTIONS_OF.items():
        if name in overrides and overrides[name] != settings.get(name):
            kept.pop(options, None)
    return kept | dict(overrides)
