"""The conditions that every piece of a scene fulfils."""

from __future__ import annotations

import numpy as np

from workbench.synthfaces.hair import Piece


def check(piece: Piece) -> None:
    """Checks what the renderer relies on: it does not check bounds, so each index must be valid."""
    count, triangles = len(piece.vertices), len(piece.triangles)
    assert piece.vertices.shape == piece.rest.shape == (count, 3)
    assert piece.triangles.shape == (triangles, 3)
    assert piece.uv.shape == (triangles, 3, 2)
    assert piece.cover.shape == piece.openness.shape == (count,)
    assert triangles > 0
    assert 0 <= piece.triangles.min() <= piece.triangles.max() < count
    assert piece.triangles.dtype == np.int32
    for values in (piece.vertices, piece.rest, piece.uv, piece.cover, piece.openness):
        assert values.dtype == np.float32
        assert np.isfinite(values).all()
    assert -2 <= piece.cover.min() <= piece.cover.max() <= 2
    assert 0 <= piece.openness.min() <= piece.openness.max() <= 1
    assert np.abs(piece.vertices).max() < 4
