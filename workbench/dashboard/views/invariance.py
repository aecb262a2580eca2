"""The page of invariance: how similarity falls with yaw, age, light and occlusion."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
import streamlit as st

from workbench import evaluation, plots, runs
from workbench.dashboard import loading
from workbench.dashboard.loading import Selection
from workbench.dashboard.views.parts import chart, collect, nothing_evaluated, one_of, protocol
from workbench.errors import WorkbenchError
from workbench.evaluation.kinds import of_type

LABELS = {"yaw": "Yaw", "age": "Age", "illumination": "Light", "occlusion": "Occlusion"}


def show(selection: Selection) -> None:
    """Draws the page."""
    st.title("Invariance")
    if selection.benchmark is None:
        nothing_evaluated(selection)
        return
    # Benchmarks in which one factor changes at a time suit the page best, so they are preferred
    # to the benchmark of the sidebar.
    name = one_of(selection, _has_gaps, best=_is_sweep, key="known")
    if name is None:
        collect(
            selection.evaluated(), lambda run: loading.gaps(run, str(selection.benchmark))
        )  # says what is damaged
        st.info(
            f"**{selection.benchmark}** does not record how the images of its pairs differ.",
            icon=":material/info:",
        )
        st.markdown(
            "This page needs a benchmark such as this one, of synthetic faces of which only yaw, "
            "age, light or occlusion changes:"
        )
        st.code(
            f"workbench evaluate {selection.chosen[0].path} synthfaces-invariance", language="bash"
        )
        return
    evaluated = [run for run in selection.chosen if name in run.evaluations()]
    read = collect(evaluated, lambda run: (loading.result(run, name), loading.gaps(run, name)))
    all_results = {run: result for run, (result, _) in read.items()}
    results = of_type(all_results, evaluation.VerificationResult)
    gaps = {run: found for run, (_, found) in read.items() if found is not None and run in results}
    factors = [
        factor for factor in LABELS if any(factor in found.by_factor for found in gaps.values())
    ]
    if not factors:
        return
    fars = [far for far in evaluation.FARS if all(results[run].supported(far) for run in gaps)]
    if not fars:
        st.info(f"**{name}** has fewer than 100 impostor pairs, too few to choose a threshold.")
        return
    factor, far = _choice(factors, fars)
    chosen = [run for run in evaluated if run.name in gaps and factor in gaps[run.name].by_factor]
    curves = collect(chosen, lambda run: loading.invariance(run, name, factor, far))
    if curves:
        _curves(curves, all(gaps[run].controlled for run in curves))
        protocol({run: results[run] for run in curves})


def _choice(factors: list[str], fars: list[float]) -> tuple[str, float]:
    left, right = st.columns(2)
    factor = left.segmented_control(
        "Factor",
        factors,
        default=factors[0],
        format_func=LABELS.__getitem__,
        key="factor",
        bind="query-params",
    )
    usual = 1e-2 if 1e-2 in fars else fars[-1]
    far = right.segmented_control(
        "False accept rate",
        fars,
        default=usual,
        format_func=_percent,
        key="far",
        bind="query-params",
    )
    return factor or factors[0], far or usual


def _curves(curves: Mapping[str, evaluation.InvarianceCurve], controlled: bool) -> None:
    first_curve = next(iter(curves.values()))
    others = ""
    if not controlled:
        others = (
            " The images of a pair differ in other things too, so this factor explains only part "
            "of the decrease."
        )
    st.markdown(
        f"The threshold accepts {_percent(first_curve.far)} of the impostor pairs. The circle "
        f"marks the {first_curve.title.lower()} from which on half of the genuine pairs score "
        "below the threshold. The further right the circle is, the larger the difference that "
        f"the run tolerates.{others}"
    )
    relative = st.toggle(
        "Similarity minus each run's threshold", value=len(curves) > 1, key="relative"
    )
    left, right = st.columns(2)
    with left:
        chart(plots.invariance(curves, relative), "similarity")
    with right:
        chart(plots.invariance_tar(curves), "tar")
    first, last = first_curve.text(first_curve.gap[0]), first_curve.text(first_curve.gap[-1])
    rows = [
        {
            "Run": run,
            "Half refused from": curve.crossing_text,
            f"TAR at {first}": f"{curve.tar[0]:.1%}",
            f"TAR at {last}": f"{curve.tar[-1]:.1%}",
            "Threshold": f"{curve.threshold:.3f}",
        }
        for run, curve in curves.items()
    ]
    st.dataframe(pd.DataFrame(rows), hide_index=True)
    st.caption(
        "In brackets and as bands: pointwise 95 % intervals, from a bootstrap over people. "
        "The sign > means: beyond the measured range."
    )


def _has_gaps(run: runs.Run, name: str) -> bool:
    try:
        return loading.gaps(run, name) is not None
    except WorkbenchError:
        return False


def _is_sweep(run: runs.Run, name: str) -> bool:
    gaps = loading.gaps(run, name) if _has_gaps(run, name) else None
    return gaps is not None and gaps.controlled


def _percent(share: float) -> str:
    return f"{100 * share:g} %"
