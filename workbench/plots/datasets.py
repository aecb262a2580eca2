"""Figures of data sets."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from workbench.images import to_png
from workbench.plots.theme import BLUE, VERMILION, faded, figure

MAX_BARS = 60
"""With more distinct numbers of images than this, several of them share a bar."""
GUTTER = 4
"""White pixels between two images of a figure, which has a pixel for each pixel of an image."""


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


def augmentations(rows: Mapping[str, NDArray[np.uint8]], scale: float = 1.0) -> go.Figure:
    """Draws augmented images, one row for each augmentation and one column for each face.

    Args:
        rows: (F, H, W, 3) uint8 images by the title of their row, as `wb.data.augmented` returns
            them. All have the same shape.
        scale: Size of a pixel of an image in the figure, in pixels.

    Returns:
        A figure whose height and width follow from the images.

    Example:
        >>> faces = np.zeros((6, 32, 32, 3), dtype=np.uint8)
        >>> fig = augmentations({"original": faces, "flip, 50 %": faces})
        >>> list(fig.layout.yaxis.ticktext)
        ['original', 'flip, 50 %']
    """
    fig = figure("Face", "")
    if not rows:
        return fig
    padding = ((0, 0), (0, GUTTER), (0, GUTTER), (0, 0))
    padded = [np.pad(row, padding, constant_values=255) for row in rows.values()]
    faces, height, width = padded[0].shape[:3]
    png = to_png(np.concatenate([np.concatenate(row, axis=1) for row in padded]))
    # As a PNG file the images take a tenth of the size of an array of numbers.
    fig.add_image(source=f"data:image/png;base64,{b64encode(png).decode()}", hoverinfo="skip")
    plain = {"showline": False, "showgrid": False, "ticks": "", "zeroline": False}
    fig.update_xaxes(
        tickvals=[(face + 0.5) * width - GUTTER / 2 for face in range(faces)],
        ticktext=[str(face + 1) for face in range(faces)],
        **plain,
    )
    fig.update_yaxes(
        tickvals=[(row + 0.5) * height - GUTTER / 2 for row in range(len(rows))],
        ticktext=list(rows),
        automargin=False,
        **plain,
    )
    longest = max(len(title) for title in rows)
    margin = {"l": 20 + 8 * longest, "r": 10, "t": 10, "b": 50}
    fig.update_layout(
        margin=margin,
        width=scale * faces * width + margin["l"] + margin["r"],
        height=scale * len(rows) * height + margin["t"] + margin["b"],
    )
    return fig
