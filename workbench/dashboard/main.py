"""The sidebar and the navigation of the dashboard."""

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
    live,
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
    ("Live", "live", ":material/sensors:", live.show),
    ("Two photos", "photos", ":material/compare:", photos.show),
)
WITHOUT_RUNS = (live.show,)
"""Pages that show something although no runs are chosen."""
DEFAULT_RUNS = 6
"""Number of runs that are chosen until the user chooses others."""


def main() -> None:
    """Draws the page that the address names."""
    # Without an own icon, Streamlit makes the browser load the icon of the page from Google.
    st.set_page_config(
        page_title="Margin workbench", page_icon=Path(__file__).with_name("icon.png"), layout="wide"
    )
    selection: Selection

    def page(show: Callable[[Selection], None]) -> Callable[[], None]:
        def draw() -> None:
            if selection.chosen or show in WITHOUT_RUNS:
                show(selection)
            else:
                welcome.show(selection)

        return draw

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
    """Warns on every page if a run was trained on after its evaluation.

    The stored figures then belong to an earlier model than the one that embeds uploaded photos.
    """
    name = selection.benchmark
    stale = [
        run.name
        for run in selection.evaluated()
        if name is not None and loading.is_stale(run, name)
    ]
    if stale:
        st.warning(
            f"Trained on since the evaluation on {name}: {', '.join(stale)}. "
            "The figures are those of the earlier model; run `workbench evaluate` again.",
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
            on_change=_choose_default_runs,
            help="The folder in which `workbench train` created its run directories.",
        )
        available = loading.list_runs(folder)
        names = [run.name for run in available]
        use_defaults = not st.session_state.pop("defaults are set", False)
        picked = st.multiselect(
            "Runs",
            names,
            default=_default_runs(available) if use_defaults else None,
            key="run",
            bind="query-params",
            placeholder="choose the runs to compare",
            disabled=not names,
        )
        selected = tuple(run for run in available if run.name in picked)
        benchmarks = sorted(
            {name for run in selected for name in run.evaluations()},
            key=lambda name: (name == "train", name),
        )
        if benchmarks and st.session_state.get("benchmark", "") is None:
            # Streamlit keeps the value of the time when there were no runs and no options.
            st.session_state["benchmark"] = benchmarks[0]
        benchmark = st.selectbox(
            "Benchmark", benchmarks, key="benchmark", bind="query-params", disabled=not benchmarks
        )
        st.caption(
            "The address of this page holds these choices; bookmark it to return to the view."
        )
    return Selection(folder, selected, benchmark)


def _choose_default_runs() -> None:
    """Chooses the newest runs of a folder that was just typed.

    Otherwise Streamlit keeps those runs of the previous folder that exist in the new one, too.
    """
    st.session_state["run"] = _default_runs(loading.list_runs(st.session_state["runs"]))
    # Streamlit warns if a widget has both a default and a value that was set like this.
    st.session_state["defaults are set"] = True


def _default_runs(available: list[runs.Run]) -> list[str]:
    """Returns the newest runs that have an evaluation; if none has one, the newest runs."""
    evaluated = [run.name for run in available if run.evaluations()]
    return (evaluated or [run.name for run in available])[:DEFAULT_RUNS]
