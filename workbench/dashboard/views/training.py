"""The page of training curves. It is redrawn every few seconds while a run is training."""

from __future__ import annotations

from collections.abc import Hashable, Mapping

import streamlit as st

from workbench import plots
from workbench.dashboard import loading
from workbench.dashboard.loading import Selection
from workbench.dashboard.views.parts import chart, collect
from workbench.plots.training import curve_title, is_of_task

REDRAWN_EVERY = 5.0
"""Seconds between two updates of the curves while a run is training."""


def show(selection: Selection) -> None:
    """Draws the page."""
    st.title("Training")
    logged = set[str]().union(
        *collect(selection.chosen, lambda run: set(loading.metrics(run))).values()
    )
    column = st.segmented_control(
        "Quantity",
        [
            *([key for key in plots.CURVES if key in logged] or plots.CURVES),
            *sorted(column for column in map(str, logged) if is_of_task(column)),
        ],
        default="loss",
        format_func=curve_title,
        key="curve",
        bind="query-params",
        label_visibility="collapsed",
    )
    states = collect(selection.chosen, lambda run: run.state)
    draw = _curves
    if any(states.get(run.name) == "running" for run in selection.chosen):
        draw = st.fragment(_curves, run_every=REDRAWN_EVERY)
    draw(selection, column or "loss")


def _curves(selection: Selection, column: str) -> None:
    metrics = {
        name: table
        for name, table in collect(selection.chosen, loading.metrics).items()
        if not table.empty
    }
    if not metrics:
        st.info("None of the selected runs has logged a step yet.")
        return
    chart(plots.training_curves(metrics, column), "curves")
    st.caption(
        "Thick lines: running median of five logged steps. Losses with different scales s cannot "
        "be compared by their values."
    )
    _notes(selection)
    without = [name for name, table in metrics.items() if column not in table]
    if without:
        st.caption(f"Not logged by {', '.join(without)}.")
    if column == "loss" and any("loss_of_uniform_guess" in table for table in metrics.values()):
        st.caption(
            "Dotted and dashed lines: the loss of a network that guesses, with random directions "
            "(as before the training) and with all similarities equal. Only a loss below the "
            "dashed line shows by itself that identities are told apart. With a margin, a run can "
            "be well above it and have a high accuracy without margin."
        )
    last = {
        name: latest
        for name, table in metrics.items()
        if (latest := _last(table.ffill().iloc[-1].to_dict())) is not None
    }
    columns = st.columns(max(min(len(last), 4), 1))
    for position, (name, (angle, caption)) in enumerate(last.items()):
        place = columns[position % len(columns)]
        place.metric(name, f"{angle:.1f}°")
        place.caption(caption)


def _notes(selection: Selection) -> None:
    """Shows the warnings of the training, and its notes below them, without repetition."""
    lines: dict[tuple[str, str], list[str]] = {}
    for name, notes in collect(selection.chosen, loading.notes).items():
        for note in notes:
            key = str(note.get("level")), str(note["text"])
            lines.setdefault(key, []).append(f"{name}, step {note.get('step', 0):,}")
    for (level, text), places in lines.items():
        if level == "warning":
            st.warning(f"{'; '.join(places)}: {text}", icon=":material/warning:")
    explanations = [(text, places) for (level, text), places in lines.items() if level != "warning"]
    if explanations:
        with st.expander(f"Notes of the training ({len(explanations)})"):
            for text, places in explanations:
                st.markdown(f"- **{'; '.join(places)}**: {text}")


def _last(row: Mapping[Hashable, float]) -> tuple[float, str] | None:
    """Returns the last logged angle of a run and its caption; None if no angle was logged."""
    if {"target_angle_mean", "accuracy", "epoch"} <= set(row):
        return (
            row["target_angle_mean"],
            f"to the own class centre; accuracy without margin {row['accuracy']:.1%}, "
            f"epoch {row['epoch']:.1f}",
        )
    if {"genuine_angle_mean", "active_triplets", "epoch"} <= set(row):
        return (
            row["genuine_angle_mean"],
            f"between images of one person; active triplets {row['active_triplets']:.1%}, "
            f"epoch {row['epoch']:.1f}",
        )
    return None
