"""The page of angles: embeddings to class centres, and the two embeddings of a pair."""

from __future__ import annotations

import streamlit as st

from workbench import plots
from workbench.dashboard import loading
from workbench.dashboard.loading import Selection
from workbench.dashboard.views.parts import (
    chart,
    collect,
    nothing_evaluated,
    protocol,
    verification_results,
)
from workbench.evaluation.closed_set import NEAREST_MEAN
from workbench.evaluation.protocol import as_cosines
from workbench.evaluation.results import stored_figures


def show(selection: Selection) -> None:
    """Draws the page."""
    st.title("Angles")
    name = selection.benchmark
    if name is None:
        nothing_evaluated(selection)
        return
    stored = collect(selection.evaluated(), lambda run: loading.angles(run, name))
    angles = {run: run_angles for run, run_angles in stored.items() if run_angles is not None}
    if angles:
        st.subheader("To the class centres")
        centres = _centres(selection, name)
        st.markdown(
            f"Class centres here are {centres}. Training with a margin moves the left "
            "distribution further to the left and widens the gap between the two."
        )
        chart(plots.centre_angles(angles), "centres")
    results = verification_results(selection, as_cosines)
    if results:
        st.subheader("Between two images")
        st.markdown(
            "Where the two distributions overlap, every threshold makes errors; the dotted line "
            "is the threshold that was chosen."
        )
        chart(plots.pair_angles(results), "pairs")
        protocol(results)


def _centres(selection: Selection, name: str) -> str:
    """Describes the class centres to which the angles of this evaluation were measured."""
    closed = {
        run.name: figures
        for run in selection.evaluated()
        if (figures := stored_figures(run, name)).get("kind") == "closed-set"
    }
    means = "the mean direction of each identity's other images"
    without = [
        run for run, figures in closed.items() if NEAREST_MEAN in str(figures.get("protocol"))
    ]
    if len(without) == len(closed):
        return means
    learned = "the centres that the loss learned"
    if not without:
        return learned
    return f"{learned}; for {', '.join(without)}, which learns none, {means}"
