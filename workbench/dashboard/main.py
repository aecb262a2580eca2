"""Sidebar and navigation; `app.py` calls `main`."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import streamlit as st

from workbench import runs
from workbench.dashboard import loading
from workbench.dashboard.loading import Selection
from workbench.dashboard.views import (
    angles,
    identification,
    invariance,
    leaderboard,
    maps,
    photos,
    roc,
    training,
    welcome,
)

PAGES: tuple[tuple[str, str, str, Callable[[Selection], None]], ...] = (
    ("Leaderboard", "leaderboard", ":material/leaderboard:", leaderboard.show),
    ("ROC and DET", "roc", ":material/show_chart:", roc.show),
    ("Identification", "identification", ":material/person_search:", identification.show),
    ("Invariance", "invariance", ":material/rotate_90_degrees_ccw:", invariance.show),
    ("Angles", "angles", ":material/architecture:", angles.show),
    ("Map", "map", ":material/scatter_plot:", maps.show),
    ("Training", "training", ":material/trending_down:", training.show),
    ("Two photos", "photos", ":material/compare:", photos.show),
)
DEFAULT_RUNS = 6


def main() -> None:
    """Draw the page that the address names."""
    # Without an icon of our own the browser would fetch that of the current page from Google.
    st.set_page_config(
        page_title="Margin workbench", page_icon=Path(__file__).with_name("icon.png"), layout="wide"
    )
    selection: Selection

    def page(show: Callable[[Selection], None]) -> Callable[[], None]:
        return lambda: show(selection) if selection.chosen else welcome.show(selection)

    current = st.navigation(
        [
            st.Page(
                page(show), title=title, url_path=path, icon=icon, default=path == "leaderboard"
            )
            for title, path, icon, show in PAGES
        ]
    )
    selection = _sidebar()
    _warn_of_stale(selection)
    current.run()


def _warn_of_stale(selection: Selection) -> None:
    """On every page: figures of a model that is no longer there beside photos embedded by the one that is."""
    name = selection.benchmark
    stale = [
        run.name
        for run in selection.evaluated()
        if name is not None and loading.is_stale(run, name)
    ]
    if stale:
        st.warning(
            f"Trained on since the evaluation on {name}: {', '.join(stale)}. The figures are of the model as it was; run "
            "`workbench evaluate` again.",
            icon=":material/history:",
        )


def _sidebar() -> Selection:
    with st.sidebar:
        st.header("Margin workbench")
        folder = st.text_input(
            "Folder of runs",
            value=os.environ.get("WORKBENCH_RUNS", "runs"),
            key="runs",
            bind="query-params",
            on_change=_choose_anew,
            help="Where `workbench train` put its run directories.",
        )
        found = loading.list_runs(folder)
        names = [run.name for run in found]
        picked = st.multiselect(
            "Runs",
            names,
            default=None if st.session_state.pop("chosen anew", False) else _default_runs(found),
            key="run",
            bind="query-params",
            placeholder="choose the runs to compare",
            disabled=not names,
        )
        selected = tuple(run for run in found if run.name in picked)
        benchmarks = sorted(
            {name for run in selected for name in run.evaluations()},
            key=lambda name: (name == "train", name),
        )
        benchmark = st.selectbox(
            "Benchmark", benchmarks, key="benchmark", bind="query-params", disabled=not benchmarks
        )
        st.caption("The address of this page holds what you chose here; send it to share the view.")
    return Selection(folder, selected, benchmark)


def _choose_anew() -> None:
    """In another folder, choose its newest runs; else what was chosen in the one before stays, as far as it is there."""
    st.session_state["run"] = _default_runs(loading.list_runs(st.session_state["runs"]))
    st.session_state["chosen anew"] = (
        True  # Streamlit warns of a default beside a value set like this
    )


def _default_runs(found: list[runs.Run]) -> list[str]:
    """The newest runs that have something to show."""
    shown = [run.name for run in found if run.evaluations()] or [run.name for run in found]
    return shown[:DEFAULT_RUNS]
