"""Figures of data sets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from workbench.plots.theme import BLUE, VERMILION, faded, figure

MAX_BARS = 60
"""With more distinct numbers of images than this, several of them share a bar."""


def images_per_identity(counts: Sequence[int] | NDArray[Any]) -> go.Figure:
    """Draws how many identities have how many images, with the median.

    Args:
        counts: (C,) number of images of each identity, e.g. `np.bincount(dataset.identities)`.

    Returns:
        A histogram whose bars all cover the same number of whole numbers.

    Example:
        >>> fig = images_per_identity([5, 5, 6, 12])
        >>> int(sum(fig.data[0].y))
        4
    """
    values = np.asarray(counts, dtype=np.int64)
    fig = figure("Images of an identity", "Identities")
    if not values.size:
        return fig
    low, high = int(values.min()), int(values.max())
    width = (high - low) // MAX_BARS + 1  # whole, so that every bar covers as many numbers
    edges = np.arange(low, high + width + 1, width)
    identities, _ = np.histogram(values, edges)
    last = edges[1:] - 1
    ranges = [
        f"{begin:,}" if begin == end else f"{begin:,} to {end:,}"
        for begin, end in zip(edges, last, strict=False)
    ]
    fig.add_bar(
        x=(edges[:-1] + last) / 2,
        y=identities,
        width=width,
        customdata=ranges,
        marker={"color": faded(BLUE, 0.75), "line": {"color": "white", "width": 1}},
        hovertemplate="%{customdata} images: %{y:,} identities<extra></extra>",
        showlegend=False,
    )
    median = float(np.median(values))
    fig.add_vline(
        median, line={"color": VERMILION, "dash": "dash"}, annotation_text=f"median {median:g}"
    )
    fig.update_yaxes(rangemode="tozero")
    return fig
