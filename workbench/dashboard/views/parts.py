"""Elements that several pages share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

import plotly.graph_objects as go
import streamlit as st

from workbench import evaluation, runs
from workbench.dashboard import loading
from workbench.dashboard.loading import Selection
from workbench.errors import WorkbenchError
from workbench.evaluation.kinds import of_type

T = TypeVar("T")


def chart(figure: go.Figure, key: str) -> None:
    """Draws a figure in the style of the workbench instead of Streamlit's."""
    st.plotly_chart(
        figure,
        key=key,
        theme=None,
        config={"displaylogo": False, "toImageButtonOptions": {"scale": 2}},
    )


def collect(chosen: Iterable[runs.Run], read: Callable[[runs.Run], T]) -> dict[str, T]:
    """Reads something of each run.

    Args:
        chosen: the runs.
        read: function of a run. If it raises WorkbenchError, a box with the reason is drawn.

    Returns:
        The values by run name, without the runs that cannot be read.
    """
    values = {}
    for run in chosen:
        try:
            values[run.name] = read(run)
        except WorkbenchError as error:
            st.warning(f"{run.name}: {error}", icon=":material/warning:")
    return values


View = Callable[[evaluation.VerificationResult], evaluation.VerificationResult | None]


def verification_results(
    selection: Selection, view: View | None = None
) -> dict[str, evaluation.VerificationResult]:
    """Returns the verification results of the chosen runs on the chosen benchmark.

    If there are none, a box says what to choose.

    Args:
        selection: the choices in the sidebar.
        view: converts each result for the page. It returns None for a result whose protocol the
            page cannot show; a box then names the run.
    """
    name = selection.benchmark
    if name is None:
        nothing_evaluated(selection)
        return {}
    read = collect(selection.evaluated(), lambda run: loading.result(run, name))
    results = of_type(read, evaluation.VerificationResult)
    if read and not results:
        description = next(iter(read.values())).description
        st.info(f"**{name}** {description}. Choose a benchmark of pairs in the sidebar.")
    if view is None:
        return results
    viewed = {run: view(result) for run, result in results.items()}
    if left_out := [run for run, result in viewed.items() if result is None]:
        by = results[left_out[0]].protocol.get("protocol")
        st.info(
            f"Not shown here: {', '.join(left_out)} on **{name}**; scores of the protocol {by} are "
            "not cosines of two photos."
        )
    return {run: result for run, result in viewed.items() if result is not None}


def one_of(
    selection: Selection,
    fits: Callable[[runs.Run, str], bool],
    best: Callable[[runs.Run, str], bool],
    key: str,
) -> str | None:
    """Chooses the benchmark for a page that cannot show every benchmark.

    It is the one of the sidebar if that suits the page best, else another.

    Args:
        selection: the choices in the sidebar.
        fits: whether the page can show an evaluation of a run.
        best: whether an evaluation of a run suits the page best.
        key: key of the box to choose from, which is drawn if several benchmarks fit.

    Returns:
        Name of the benchmark; None if no chosen run was evaluated on one that fits.
    """
    evaluations = [(run, name) for run in selection.chosen for name in run.evaluations()]
    options = sorted({name for run, name in evaluations if fits(run, name)})
    if not options:
        return None
    good = (
        sorted({name for run, name in evaluations if name in options and best(run, name)})
        or options
    )
    usual = selection.benchmark if selection.benchmark in good else good[0]
    if len(options) == 1:
        return usual
    return st.selectbox(
        "Benchmark of this page", options, index=options.index(usual), key=f"{key}-{usual}"
    )


def nothing_evaluated(selection: Selection) -> None:
    """Draws a box with the command that evaluates a run, if no chosen run has an evaluation."""
    run = selection.chosen[0].path
    st.info(
        "None of the selected runs has been evaluated yet. In a terminal:",
        icon=":material/terminal:",
    )
    st.code(f"workbench evaluate {run} BENCHMARK", language="bash")


def protocol(results: Mapping[str, evaluation.Result]) -> None:
    """Draws how the figures on the page were made, and where the protocols of runs differ."""
    if not results:
        return
    result = next(iter(results.values()))
    lines = [f"**{key}**: {value}" for key, value in result.details().items()]
    for run, other in results.items():
        changed = {
            key: value for key, value in other.protocol.items() if result.protocol.get(key) != value
        }
        lines += [f"**{key} of {run}**: {value}" for key, value in changed.items()]
    if result.note:
        lines.append(f"**note**: {result.note}")
    with st.expander(f"Protocol on {result.name}"):
        st.markdown("  \n".join(lines))
