"""The page of projected embeddings: PCA next to UMAP, and the images of a selection."""

from __future__ import annotations

from typing import Any

import streamlit as st

from workbench import plots, runs
from workbench.dashboard import loading
from workbench.dashboard.loading import Selection
from workbench.dashboard.views.parts import collect, nothing_evaluated
from workbench.errors import WorkbenchError
from workbench.evaluation import Projection

GRID = 12
"""Number of images in a row."""
MAX_FACES = 48
"""Largest number of images of a selection that are shown."""


def show(selection: Selection) -> None:
    """Draws the page."""
    st.title("Map of the embeddings")
    name = selection.benchmark
    if name is None:
        nothing_evaluated(selection)
        return
    st.markdown(
        "Each point is an image, each colour and symbol a person. **PCA** keeps distances as "
        "well as two axes can; **UMAP** keeps neighbours together, but its distances and areas "
        "mean little. Draw a **lasso** around points to see the faces."
    )
    projections = collect(selection.evaluated(), lambda run: loading.projection(run, name))
    run_of = {run.name: run for run in selection.chosen}
    for run_name, stored in projections.items():
        st.subheader(run_name)
        if stored is None:
            st.info("No projection is stored; evaluate the run again without `--no-projection`.")
        else:
            _maps(run_of[run_name], name, *stored)


@st.fragment
def _maps(run: runs.Run, name: str, projection: Projection, names: list[str]) -> None:
    """Draws the projections of a run, and below them the images of a selection."""
    x, y = projection.explained
    left, right = st.columns(2)
    with left:
        axes = (f"PCA 1 ({x:.0%} of variance)", f"PCA 2 ({y:.0%})")
        figure = plots.projection(
            projection.pca, projection.labels, names, projection.points, axes, equal_axes=True
        )
        picked = _selectable(figure, f"pca-{run.name}")
    with right:
        if projection.umap is None:
            st.info("Too few images for UMAP; it needs at least 12.")
        else:
            figure = plots.projection(
                projection.umap, projection.labels, names, projection.points, ("UMAP 1", "UMAP 2")
            )
            picked += _selectable(figure, f"umap-{run.name}")
    if picked:
        _faces(run, name, sorted(set(picked)))


def _selectable(figure: Any, key: str) -> list[int]:
    """Draws a figure and returns the numbers of the images that the user selected in it."""
    event = st.plotly_chart(
        figure,
        key=key,
        theme=None,
        on_select="rerun",
        selection_mode=("lasso", "box", "points"),
        config={"displaylogo": False},
    )
    return [
        int(_first(point["customdata"]))
        for point in event["selection"]["points"]
        if "customdata" in point
    ]


def _first(value: Any) -> Any:
    return value[0] if isinstance(value, list) else value


def _faces(run: runs.Run, name: str, numbers: list[int]) -> None:
    """Draws the selected images."""
    try:
        reader = loading.pictures_of(run, name)
    except WorkbenchError as error:
        st.warning(f"The pictures cannot be shown: {error}", icon=":material/warning:")
        return
    more = f", the first {MAX_FACES} of them" if len(numbers) > MAX_FACES else ""
    st.caption(f"{len(numbers)} images chosen{more}")
    columns = st.columns(GRID)
    for position, number in enumerate(numbers[:MAX_FACES]):
        columns[position % GRID].image(loading.thumbnail(reader, number), caption=str(number))
