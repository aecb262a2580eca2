"""What a data set is made of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from workbench.plots.theme import BLUE, VERMILION, faded, figure

MOST_BARS = 60


def images_per_identity(counts: Sequence[int] | NDArray[Any]) -> go.Figure:
    """How many identities have how many images, with the median.

    Args:
        counts: (C,) images of each identity, e.g. `np.bincount(dataset.identities)`.
    """
    values = np.asarray(counts, dtype=np.int64)
    drawn = figure("Images of an identity", "Identities")
    if not values.size:
        return drawn
    low, high = int(values.min()), int(values.max())
    width = (
        high - low
    ) // MOST_BARS + 1  # whole numbers, so that no bar stands for more of them than another
    edges = np.arange(low, high + width + 1, width)
    found, _ = np.histogram(values, edges)
    last = edges[1:] - 1
    named = [
        f"{begin:,}" if begin == end else f"{begin:,} to {end:,}"
        for begin, end in zip(edges, last, strict=False)
    ]
    drawn.add_bar(
        x=(edges[:-1] + last) / 2,
        y=found,
        width=width,
        customdata=named,
        marker={"color": faded(BLUE, 0.75), "line": {"color": "white", "width": 1}},
        hovertemplate="%{customdata} images: %{y:,} identities<extra></extra>",
        showlegend=False,
    )
    median = float(np.median(values))
    drawn.add_vline(
        median, line={"color": VERMILION, "dash": "dash"}, annotation_text=f"median {median:g}"
    )
    drawn.update_yaxes(rangemode="tozero")
    return drawn
