"""What there is to do when there are no runs."""

from __future__ import annotations

import os

import streamlit as st

from workbench.dashboard import loading
from workbench.dashboard.loading import Selection


def show(selection: Selection) -> None:
    folder = os.path.expanduser(selection.runs_dir)
    if found := loading.list_runs(folder):
        st.title("Choose runs")
        st.markdown(f"There are {len(found)} runs in `{folder}`. Choose some in the sidebar.")
        return
    st.title("No runs yet")
    missing = "" if os.path.isdir(folder) else " (there is no such folder)"
    st.markdown(
        f"This dashboard shows training runs, and there are none in `{folder}`{missing}. To make some:"
    )
    st.markdown(
        "**The demo**: softmax, CosFace and ArcFace on 30 people, a few minutes on a laptop."
    )
    st.code("workbench demo", language="bash")
    st.markdown(
        "**Your own photos**, a folder per person, and a look at how well unseen pairs are told apart."
    )
    st.code(
        "workbench train --data folder:photos --loss arcface\nworkbench evaluate runs/NAME bin:lfw.bin",
        language="bash",
    )
    st.markdown(
        "Runs somewhere else? Give their folder in the sidebar. The page looks again when you press **R**."
    )
