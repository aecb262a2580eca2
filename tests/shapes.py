"""Backbones on the device "meta" that are created once for all tests."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from workbench import backbones
from workbench.backbones.registry import BACKBONES

_ON_META: dict[Any, backbones.Backbone] = {}


def create_shapes_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keeps the networks on the device "meta".

    Weights are compared with the names and shapes of the weights of all backbones. To create those
    for each test would take most of its time.
    """
    create = backbones.create

    def create_once(name: str, **options: Any) -> backbones.Backbone:
        if torch.get_default_device().type != "meta":
            return create(name, **options)
        key = (name, id(BACKBONES._factories.get(name)), repr(sorted(options.items())))
        if key not in _ON_META:
            _ON_META[key] = create(name, **options)
        return _ON_META[key]

    monkeypatch.setattr(backbones, "create", create_once)
