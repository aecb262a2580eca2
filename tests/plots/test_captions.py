"""The small line below a figure: by which protocol its results were made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import plotly.graph_objects as go
import pytest

from workbench import plots
from workbench.evaluation import PRESETS, VerificationResult, verification
from workbench.plots.theme import CAPTION_LINE, CAPTION_WIDTH, captioned, figure

SCORES = np.random.default_rng(0).normal(size=60)
PLAIN = verification(SCORES / 4, np.arange(60) % 2 == 0)
FIGURES = [plots.roc, plots.det, plots.pair_angles]
every_figure = pytest.mark.parametrize("draw", FIGURES, ids=lambda draw: draw.__name__)


def _made(protocol: str) -> VerificationResult:
    return replace(PLAIN, protocol={**PRESETS[protocol].words(), **PLAIN.protocol})


def _lines(drawn: go.Figure) -> list[str]:
    """Of the caption, which stands below the axis; none where there is none."""
    below = [
        note
        for note in drawn.layout.annotations
        if note.yref == "paper" and note.y == 0 and (note.yshift or 0) < 0
    ]
    assert len(below) <= 1
    return str(below[0].text).split("<br>") if below else []


@every_figure
def test_what_all_results_share_is_said_once(draw: Callable[..., go.Figure]) -> None:
    said = " ".join(
        _lines(draw({"arcface-a": _made("workbench"), "softmax-b": _made("workbench")}))
    )
    assert said.startswith(
        "protocol: workbench; score: cosine of the embeddings; flip: embeddings of image and"
    )
    assert "arcface-a" not in said
    assert "mean subtracted" not in said


@every_figure
def test_what_differs_is_said_run_by_run(draw: Callable[..., go.Figure]) -> None:
    results = {
        "a": _made("workbench"),
        "b": _made("arcface_torch"),
        "c": _made("workbench"),
        "d": PLAIN,
    }
    said = " ".join(_lines(draw(results)))
    assert "a, c: protocol: workbench" in said
    assert "b: protocol: arcface_torch; score: minus the squared Euclidean distance" in said
    assert "d" not in [part.split(":")[0] for part in said.split("  ")]


@every_figure
def test_results_that_say_nothing_have_no_caption(draw: Callable[..., go.Figure]) -> None:
    assert _lines(draw({"a": replace(PLAIN, protocol={})})) == []
    assert _lines(draw({})) == []


def test_a_figure_grows_by_what_its_caption_takes() -> None:
    bare, said = (
        figure("x", "y"),
        captioned(figure("x", "y"), {"a": _made("sphereface"), "b": _made("workbench")}),
    )
    lines = _lines(said)
    assert len(lines) > 2
    assert max(map(len, lines)) <= CAPTION_WIDTH
    more = said.layout.height - bare.layout.height
    assert more == said.layout.margin.b - bare.layout.margin.b >= CAPTION_LINE * len(lines)


def test_what_is_no_result_of_ours_is_drawn_without_caption() -> None:
    class Other:
        roc = PLAIN.roc
        band: Any = None
        auc, eer, impostors = 0.5, 0.5, 30

    assert _lines(plots.roc({"other": Other()})) == []
