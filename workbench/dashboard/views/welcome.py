"""The page that is shown while no runs are chosen: how to make some."""

from __future__ import annotations

import os

import streamlit as st

from workbench.dashboard import loading
from workbench.dashboard.loading import Selection


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
