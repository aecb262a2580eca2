"""Backbones on the device "meta" are created once."""

from __future__ import annotations

import pytest
from shapes import create_shapes_once


@pytest.fixture(autouse=True)
def _shapes_are_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    create_shapes_once(monkeypatch)
