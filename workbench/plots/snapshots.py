"""Figures of snapshots: how angles, accuracy and the map of embeddings change over the epochs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from workbench.arrays import Floats, Integers
from workbench.plots.angles import distributions
from workbench.plots.maps import projection
from workbench.plots.theme import BLACK, GENUINE, GREY, IMPOSTOR, figure, styles

SNAPSHOT_CURVES = {
    "accuracy": "Accuracy on all pairs",
    "auc": "AUC on all pairs",
    "genuine_angle": "Angle between two images of one person (degrees)",
    "impostor_angle": "Angle between images of two people (degrees)",
    "own_angle": "Angle to the own centre (degrees)",
    "other_angle": "Angle to the nearest other centre (degrees)",
}
"""Columns of `workbench.evaluation.over_epochs` with their axis titles."""
SHARES = ("accuracy", "auc")
MILLISECONDS = 600
"""Time for which an epoch is shown when the figure is played."""

PairAngles = tuple[Floats, Floats]
"""Angles in degrees of genuine and of impostor pairs."""


def snapshot_curves(tables: Mapping[str, pd.DataFrame], column: str = "accuracy") -> go.Figure:
    """Draws a figure of the snapshots of each run against epochs.

    Args:
        tables: tables of `workbench.evaluation.over_epochs` by run name.
        column: one of `SNAPSHOT_CURVES`.

    Returns:
        A figure with one line for each run. A dotted line marks the accuracy of guessing.

    Example:
        >>> import pandas as pd
        >>> table = pd.DataFrame({"epoch": [0, 1, 2], "accuracy": [0.61, 0.75, 0.82]})
        >>> fig = snapshot_curves({"arcface": table})
        >>> fig.data[0].y.tolist()
        [0.61, 0.75, 0.82]
    """
    fig = figure("Epoch", SNAPSHOT_CURVES.get(column, column))
    for name, style in styles(tables).items():
        table = tables[name]
        fig.add_scatter(
            x=table["epoch"],
            y=table[column],
            name=name,
            mode="lines+markers",
            line={"color": style.colour, "dash": style.dash, "width": 2.2},
            marker={"size": 6},
        )
    if column in SHARES:
        fig.update_yaxes(tickformat=".0%", range=[0.48, 1.01])
        fig.add_hline(y=0.5, line={"color": GREY, "dash": "dot", "width": 1.5})
        fig.add_annotation(
            x=1,
            xref="paper",
            xanchor="right",
            y=0.5,
            yanchor="bottom",
            text="guessing",
            showarrow=False,
            font={"size": 11, "color": GREY},
        )
    last = max((int(table["epoch"].max()) for table in tables.values() if len(table)), default=1)
    fig.update_xaxes(range=[-0.02 * max(last, 1), 1.02 * max(last, 1)], rangemode="nonnegative")
    return fig


def snapshot_angles(
    angles: Mapping[str, Mapping[int, PairAngles]], bin_degrees: float = 3.0
) -> go.Figure:
    """Draws the angles of genuine and of impostor pairs, with a slider for the epoch.

    The figure shows the last epoch until the slider is moved, so that it can also be printed. A run
    that has no snapshot of an epoch shows the last one before it.

    Args:
        angles: angles in degrees of genuine and of impostor pairs, by run name and epoch.
        bin_degrees: width of a histogram bin in degrees.

    Returns:
        A figure with one row for each run, and one frame for each epoch.

    Example:
        >>> import numpy as np
        >>> early = np.linspace(40.0, 90.0, 50), np.linspace(60.0, 100.0, 50)
        >>> late = np.linspace(20.0, 50.0, 50), np.linspace(70.0, 100.0, 50)
        >>> fig = snapshot_angles({"arcface": {0: early, 8: late}})
        >>> [frame.name for frame in fig.frames]
        ['0', '8']
    """
    epochs = sorted({epoch for by_epoch in angles.values() for epoch in by_epoch})

    def draw(epoch: int) -> go.Figure:
        rows = {name: _until(by_epoch, epoch) for name, by_epoch in angles.items()}
        return distributions(
            {
                name: {"genuine pairs": genuine, "impostor pairs": impostor}
                for name, (genuine, impostor) in rows.items()
            },
            {"genuine pairs": GENUINE, "impostor pairs": IMPOSTOR},
            "Angle between the two embeddings (degrees)",
            bin_degrees,
        )

    return _with_slider(draw, epochs)


def snapshot_map(
    maps: Mapping[int, Floats], identities: Integers, names: Sequence[str] = ()
) -> go.Figure:
    """Draws the map of a set of images, with a slider for the epoch.

    Args:
        maps: (N, 2) coordinates by epoch, as `workbench.evaluation.aligned_maps` returns them.
        identities: (N,) identity of each image.
        names: name of each identity; by default "person 1", "person 2", ...

    Returns:
        A scatter plot with one colour and symbol for each identity, and one frame for each epoch.
        It shows the last epoch until the slider is moved.

    Example:
        >>> import numpy as np
        >>> maps = {0: np.zeros((3, 2)), 4: np.eye(3, 2)}
        >>> fig = snapshot_map(maps, np.array([5, 5, 8]))
        >>> [trace.name for trace in fig.data], len(fig.frames)
        (['person 1', 'person 2'], 2)
    """
    _, labels = np.unique(identities, return_inverse=True)
    shown = list(names) or [f"person {number + 1}" for number in range(int(labels.max()) + 1)]
    everything = np.concatenate(list(maps.values()))
    # Both axes have one range in all frames, so that distances can be compared between epochs.
    reach = 1.05 * float(np.nanmax(np.abs(everything), initial=1e-6))

    def draw(epoch: int) -> go.Figure:
        fig = projection(
            maps[epoch],
            labels if not len(names) else identities,
            shown,
            axes=("First principal component", "Second principal component"),
            equal_axes=True,
        )
        fig.update_xaxes(range=[-reach, reach])
        fig.update_yaxes(range=[-reach, reach])
        return fig

    return _with_slider(draw, sorted(maps))


def _until(by_epoch: Mapping[int, PairAngles], epoch: int) -> PairAngles:
    """Returns the angles of the last epoch up to the given one; none if there is no such epoch."""
    before = [one for one in by_epoch if one <= epoch]
    return by_epoch[max(before)] if before else (np.empty(0), np.empty(0))


def _with_slider(draw: Callable[[int], go.Figure], epochs: Sequence[int]) -> go.Figure:
    """Draws the last epoch, and makes a frame and a position of the slider for each epoch."""
    if not epochs:
        return figure("", "")
    figures = {epoch: draw(epoch) for epoch in epochs}
    fig = figures[epochs[-1]]
    fig.frames = [
        go.Frame(
            name=str(epoch),
            data=one.data,
            layout={"annotations": one.layout.annotations},
        )
        for epoch, one in figures.items()
    ]
    if len(epochs) == 1:
        return fig
    at_once = {"mode": "immediate", "transition": {"duration": 0}}
    fig.update_layout(
        height=fig.layout.height + 95,
        margin_b=fig.layout.margin.b + 95,
        sliders=[
            {
                "active": len(epochs) - 1,
                "currentvalue": {"prefix": "Epoch ", "font": {"size": 13, "color": BLACK}},
                "pad": {"t": 58},
                "x": 0.09,
                "len": 0.91,
                "steps": [
                    {
                        "label": str(epoch),
                        "method": "animate",
                        "args": [[str(epoch)], {"frame": {"duration": 0}, **at_once}],
                    }
                    for epoch in epochs
                ],
            }
        ],
        updatemenus=[
            {
                "type": "buttons",
                "showactive": False,
                "x": 0.0,
                "y": 0,
                "xanchor": "left",
                "yanchor": "top",
                "pad": {"t": 70},
                "buttons": [
                    {
                        "label": "Play",
                        "method": "animate",
                        "args": [None, {"frame": {"duration": MILLISECONDS}, **at_once}],
                    }
                ],
            }
        ],
    )
    return fig
