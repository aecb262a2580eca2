"""Training curves, live while a run is training."""

from __future__ import annotations

import streamlit as st

from workbench import plots
from workbench.dashboard import loading
from workbench.dashboard.loading import Selection
from workbench.dashboard.views.parts import chart, collect


def show(selection: Selection) -> None:
    st.title("Training")
    column = st.segmented_control(
        "Quantity",
        list(plots.CURVES),
        default="loss",
        format_func=lambda key: plots.CURVES[key],
        key="curve",
        bind="query-params",
        label_visibility="collapsed",
    )
    states = collect(selection.chosen, lambda run: run.state)
    running = [run for run in selection.chosen if states.get(run.name) == "running"]
    drawn = st.fragment(_curves, run_every=5.0) if running else _curves
    drawn(selection, column or "loss")


def _curves(selection: Selection, column: str) -> None:
    metrics = {name: table for name, table in collect(selection.chosen, loading.metrics).items() if not table.empty}
    if not metrics:
        st.info("None of the selected runs has logged a step yet.")
        return
    chart(plots.training_curves(metrics, column), "curves")
    st.caption("Thick: running median of five logged steps. Losses of different scale s cannot be compared by height.")
    last = {name: table.iloc[-1] for name, table in metrics.items() if {"target_angle_mean", "accuracy", "epoch"} <= set(table)}
    columns = st.columns(max(min(len(last), 4), 1))
    for position, (name, row) in enumerate(last.items()):
        place = columns[position % len(columns)]
        place.metric(name, f"{row['target_angle_mean']:.1f}°")
        place.caption(f"to the own class centre; batch accuracy {row['accuracy']:.1%}, epoch {row['epoch']:.1f}")
