"""The look of all figures: one colour for each loss, in colours for colour-blind readers too."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import plotly.graph_objects as go

# Okabe and Ito, "Color universal design", 2008, without yellow, which is invisible on white.
BLUE, ORANGE, GREEN, VERMILION, PURPLE, SKY, BLACK, GREY = (
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#D55E00",
    "#CC79A7",
    "#56B4E9",
    "#222222",
    "#8C8C8C",
)

LOSS_COLOURS = {
    "softmax": GREY,
    "normface": SKY,
    "sphereface": GREEN,
    "cosface": BLUE,
    "arcface": VERMILION,
    "triplet": ORANGE,
    "contrastive": PURPLE,
    "center": BLACK,
    # The losses below are rarely shown all at once. Their colours are from Tol, "Colour schemes",
    # 2021: "muted", "vibrant" and "medium-contrast".
    "sphereface_r": "#117733",
    "sphereface2": "#999933",
    "combined": "#7F3FBF",
    "subcenter_arcface": "#EE99AA",
    "elasticface": "#CC6677",
    "adaface": "#332288",
    "magface": "#AA4499",
    "curricularface": "#EE3377",
    "adacos": "#6699CC",
    "mv_softmax": "#004488",
    "circle": "#997700",
    "unified_threshold": "#661100",
}
# From Tol's "muted" too. They differ from all colours of losses, as they have another meaning.
GENUINE, IMPOSTOR = "#44AA99", "#882255"
OTHER_COLOURS = ("#994455", "#777788", "#5D8A66", "#8A6FB0")
"""Colours of runs whose name contains no registered loss."""
CLASS_COLOURS = (BLUE, ORANGE, GREEN, VERMILION, PURPLE, SKY, BLACK, GREY)
SYMBOLS = ("circle", "diamond", "square", "triangle-up", "x")
DASHES = ("solid", "dash", "dot", "dashdot", "longdash")


# Longer names come first, so that mv_softmax is not read as softmax.
_LOSS_IN_NAME = re.compile(
    f"(?<![a-z0-9])({'|'.join(sorted(LOSS_COLOURS, key=len, reverse=True))})(?![a-z0-9])"
)


class Style(NamedTuple):
    """Colour and dash pattern of the line of one run.

    Attributes:
        colour: hex colour, such as "#D55E00".
        dash: plotly's name of a dash pattern, such as "dash".
    """

    colour: str
    dash: str


def styles(names: Iterable[str]) -> dict[str, Style]:
    """Chooses the line style of each run.

    The colour stands for the loss, which is read from the name of the run. Runs of the same loss
    differ in their dash pattern.

    Args:
        names: names of the runs.

    Returns:
        The style of each run, by name.

    Example:
        >>> styles(["arcface-1", "arcface-2"])["arcface-2"]
        Style(colour='#D55E00', dash='dash')
    """
    runs_by_colour: dict[str, int] = {}
    chosen = {}
    for name in names:
        colour = colour_of(name)
        number = runs_by_colour.get(colour, 0)
        chosen[name] = Style(colour, DASHES[number % len(DASHES)])
        runs_by_colour[colour] = number + 1
    return chosen


def colour_of(name: str) -> str:
    """Returns the colour of a loss, or of a run whose name contains the name of a loss.

    Args:
        name: name of a loss or run. A name without a loss always gets the same one of
            `OTHER_COLOURS`.

    Returns:
        A hex colour.

    Example:
        >>> colour_of("arcface-smallresnet-20261121") == LOSS_COLOURS["arcface"]
        True
    """
    match = _LOSS_IN_NAME.search(name.lower())
    if match:
        return LOSS_COLOURS[match[0]]
    return OTHER_COLOURS[sum(name.encode()) % len(OTHER_COLOURS)]


def faded(colour: str, opacity: float) -> str:
    """Adds transparency to a colour.

    Args:
        colour: hex colour.
        opacity: 0 (invisible) to 1 (opaque).

    Returns:
        The colour in plotly's notation.

    Example:
        >>> faded("#0072B2", 0.25)
        'rgba(0,114,178,0.25)'
    """
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},{opacity:g})"


def figure(x: str, y: str) -> go.Figure:
    """Returns an empty figure in the style of the workbench.

    Args:
        x: title of the horizontal axis.
        y: title of the vertical axis.
    """
    axis = {
        "showline": True,
        "linecolor": GREY,
        "ticks": "outside",
        "gridcolor": "#E6E6E6",
        "zeroline": False,
    }
    return go.Figure(
        layout={
            "template": "plotly_white",
            "font": {
                "family": "DejaVu Sans, Helvetica, Arial, sans-serif",
                "size": 13,
                "color": BLACK,
            },
            "margin": {"l": 70, "r": 20, "t": 25, "b": 60},
            "legend": {
                "orientation": "h",
                "yanchor": "bottom",
                "y": 1.02,
                "xanchor": "left",
                "x": 0,
            },
            "hoverlabel": {"namelength": -1},
            "height": 440,
            "xaxis": {"title": {"text": x}, **axis},
            "yaxis": {"title": {"text": y}, **axis},
        }
    )


_CAPTION_KEYS = ("protocol", "score", "flip", "mean subtracted", "candidates", "found", "interval")
"""Entries of a result's protocol that a caption shows. The dashboard's pages list the others."""
CAPTION_WIDTH, CAPTION_LINE, CAPTION_GAP = 100, 15, 6
"""Characters in a line of a caption; height of a line and gap above it in pixels."""


def captioned(fig: go.Figure, results: Mapping[str, Any]) -> go.Figure:
    """Adds a caption below a figure that states by which protocol its results were made.

    If the results differ in their protocol, each line of the caption names the runs that it
    holds for.

    Args:
        fig: figure whose height and bottom margin are set. It is changed in place.
        results: results by run name. Results without a `protocol` are ignored.

    Returns:
        The same figure.
    """
    names_by_text: dict[str, list[str]] = {}
    for name, result in results.items():
        names_by_text.setdefault(_protocol_text(result), []).append(name)
    texts = [text for text in names_by_text if text]
    if len(names_by_text) > 1:
        texts = [f"{', '.join(names_by_text[text])}: {text}" for text in texts]
    lines = [
        line
        for text in texts
        for line in textwrap.wrap(text, CAPTION_WIDTH, subsequent_indent="    ")
    ]
    if not lines:
        return fig
    shift = fig.layout.margin.b + CAPTION_GAP
    added_height = CAPTION_LINE * len(lines) + CAPTION_GAP + 8
    fig.add_annotation(
        x=0,
        y=0,
        xref="paper",
        yref="paper",
        xanchor="left",
        yanchor="top",
        yshift=-shift,
        align="left",
        showarrow=False,
        text="<br>".join(line.replace("    ", "\u2003") for line in lines),
        font={"size": 11, "color": BLACK},
        opacity=0.75,
    )
    fig.update_layout(
        height=fig.layout.height + added_height, margin_b=fig.layout.margin.b + added_height
    )
    return fig


def _protocol_text(result: Any) -> str:
    """Returns the entries of a result's protocol that a caption shows, in one line."""
    protocol = getattr(result, "protocol", {})
    return "; ".join(
        f"{key}: {protocol[key]}"
        for key in _CAPTION_KEYS
        if protocol.get(key, "none") != "none" or (key == "flip" and key in protocol)
    )
