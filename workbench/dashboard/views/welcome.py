"""The page that is shown while no runs are chosen: how to make some."""

from __future__ import annotations

import os

import streamlit as st

from workbench import reference
from workbench.dashboard import loading
from workbench.dashboard.loading import Selection
from workbench.errors import WorkbenchError

SHOWN = 6
"""Number of reference runs that are chosen after they were copied."""
_PROBLEM = "problem with the reference runs"


def show(selection: Selection) -> None:
    """Draws the page."""
    folder = os.path.expanduser(selection.runs_dir)
    if runs := loading.list_runs(folder):
        st.title("Choose runs")
        st.markdown(f"There are {len(runs)} runs in `{folder}`. Choose some in the sidebar.")
        return
    st.title("No runs yet")
    missing = "" if os.path.isdir(folder) else " (there is no such folder)"
    st.markdown(
        f"This dashboard shows training runs, and there are none in `{folder}`{missing}. "
        "To make some:"
    )
    if reference.names():
        _offer_reference_runs(folder)
    st.markdown(
        "**The demo** trains ArcFace and then softmax on 200 synthetic people, and evaluates them "
        "on others. The page Live shows the training from its first minutes on."
    )
    st.code("workbench demo", language="bash")
    st.markdown(
        "**Your own photos**, with a folder per person, and an evaluation on pairs of other people:"
    )
    st.code(
        "workbench train --data folder:photos --loss arcface\n"
        "workbench evaluate runs/NAME bin:lfw.bin",
        language="bash",
    )
    st.markdown(
        "Runs in another folder? Enter it in the sidebar. Press **R** to look for new runs."
    )


def _offer_reference_runs(folder: str) -> None:
    """Draws the button that copies the reference runs into the folder."""
    st.markdown(
        "**The reference runs** ship with the workbench: they are trained and evaluated already, "
        "so that every page has something to show at once."
    )
    st.button(
        f"Copy the {len(reference.names())} reference runs into this folder",
        type="primary",
        icon=":material/download:",
        on_click=_copy_reference_runs,
        args=(folder,),
    )
    if problem := st.session_state.pop(_PROBLEM, None):
        st.error(problem)


def _copy_reference_runs(folder: str) -> None:
    """Copies the reference runs, and chooses the first of them in the sidebar."""
    try:
        copies = reference.runs(folder)
    except (WorkbenchError, ValueError, OSError) as error:  # the text may be no valid path
        st.session_state[_PROBLEM] = str(error)
        return
    st.session_state["run"] = [run.name for run in copies[:SHOWN]]
    # Streamlit warns if a widget has both a default and a value that was set like this.
    st.session_state["defaults are set"] = True
