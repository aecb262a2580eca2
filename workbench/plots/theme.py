"""One look for all figures: the same colour for the same loss everywhere, safe for the colour-blind."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import plotly.graph_objects as go

# Okabe and Ito, "Color universal design", 2008; yellow, which vanishes on white, is left out.
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
    # More than a legend should hold at once. Tol, "Colour schemes", 2021, "muted", "vibrant" and "medium-contrast".
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
# Tol's "muted" too: apart from all loss colours, as they mean something else.
GENUINE, IMPOSTOR = "#44AA99", "#882255"
OTHER_COLOURS = ("#994455", "#777788", "#5D8A66", "#8A6FB0")
"""For runs whose name holds no known loss."""
CLASS_COLOURS = (BLUE, ORANGE, GREEN, VERMILION, PURPLE, SKY, BLACK, GREY)
SYMBOLS = ("circle", "diamond", "square", "triangle-up", "x")
DASHES = ("solid", "dash", "dot", "dashdot", "longdash")


# Of two names that begin at the same place the longer one: mv_softmax, not softmax.
_LOSS_IN_NAME = re.compile(
    f"(?<![a-z0-9])({'|'.join(sorted(LOSS_COLOURS, key=len, reverse=True))})(?![a-z0-9])"
)


class Style(NamedTuple):
    """How one run is drawn."""

    colour: str
    dash: str


def styles(names: Iterable[str]) -> dict[str, Style]:
    """Colour by loss, which is read from the run's name; runs of the same loss differ in the dashes of their line."""
    seen: dict[str, int] = {}
    found = {}
    for name in names:
        colour = colour_of(name)
        found[name] = Style(colour, DASHES[seen.get(colour, 0) % len(DASHES)])
        seen[colour] = seen.get(colour, 0) + 1
    return found


def colour_of(name: str) -> str:
    """Colour of a loss, or of a run whose name holds that of a loss; a fixed other one for names that hold none."""
    found = _LOSS_IN_NAME.search(name.lower())
    if found:
        return LOSS_COLOURS[found[0]]
    return OTHER_COLOURS[sum(name.encode()) % len(OTHER_COLOURS)]


def faded(colour: str, opacity: float) -> str:
    """A hex colour with opacity, as plotly writes it."""
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},{opacity:g})"


def figure(x: str, y: str) -> go.Figure:
    """An empty figure in the house style, with axis titles."""
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


_SAID = ("protocol", "score", "flip", "mean subtracted", "candidates", "found", "interval")
"""What of a result's protocol a figure says; pages list the rest."""
CAPTION_WIDTH, CAPTION_LINE, CAPTION_GAP = 100, 15, 6


def captioned(drawn: go.Figure, results: Mapping[str, Any]) -> go.Figure:
    """The figure with a small line below it that says how its results were made, and of which runs where that differs.

    Args:
        drawn: figure with its layout's height and bottom margin set.
        results: {run name: result}; those without a `protocol` that says anything of scores are passed over.
    """
    runs: dict[str, list[str]] = {}
    for name, result in results.items():
        known = getattr(result, "protocol", {})
        said = "; ".join(
            f"{key}: {known[key]}"
            for key in _SAID
            if known.get(key, "none") != "none" or (key == "flip" and key in known)
        )
        runs.setdefault(said, []).append(name)
    texts = [
        said if len(runs) == 1 else f"{', '.join(names)}: {said}"
        for said, names in runs.items()
        if said
    ]
    lines = [
        line
        for text in texts
        for line in textwrap.wrap(text, CAPTION_WIDTH, subsequent_indent="    ")
    ]
    if not lines:
        return drawn
    below, more = drawn.layout.margin.b + CAPTION_GAP, CAPTION_LINE * len(lines) + CAPTION_GAP + 8
    drawn.add_annotation(
        x=0,
        y=0,
        xref="paper",
        yref="paper",
        xanchor="left",
        yanchor="top",
        yshift=-below,
        align="left",
        showarrow=False,
        text="<br>".join(line.replace("    ", "\u2003") for line in lines),
        font={"size": 11, "color": BLACK},
        opacity=0.75,
    )
    drawn.update_layout(height=drawn.layout.height + more, margin_b=drawn.layout.margin.b + more)
    return drawn
