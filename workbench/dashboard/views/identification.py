"""Who is found first, by rank and by the number of strangers."""

from __future__ import annotations

import streamlit as st

from workbench import evaluation, plots
from workbench.dashboard import loading
from workbench.dashboard.loading import Selection
from workbench.dashboard.views.parts import chart, collect, nothing_evaluated, protocol
from workbench.evaluation.results import stored_figures


def show(selection: Selection) -> None:
    st.title("Identification")
    name = selection.benchmark
    if name is None:
        nothing_evaluated(selection)
        return
    read = collect(selection.evaluated(), lambda run: loading.result(run, name))
    results = {run: result for run, result in read.items() if isinstance(result, evaluation.IdentificationResult)}
    if read and not results:
        _nobody_searched_for(selection, name)
    if not results:
        return
    first = next(iter(results.values()))
    st.markdown(
        f"Each of {len(first.ranks):,} probes of **{name}** is compared with the {first.enrolled:,} people of the gallery and "
        f"{first.distractors:,} distractors, strangers who are on no probe. Rank-1: the right person scores highest of all. "
        "Bands: 95 % bootstrap intervals over people."
    )
    st.subheader("More strangers, more mistakes")
    st.markdown("What looks solved among few candidates need not be among many: compare the right ends, not the left ones.")
    chart(plots.distractors(results), "distractors")
    st.subheader("How far down the list")
    st.markdown("The share of probes whose person is among the first *k* candidates (CMC), with all distractors.")
    chart(plots.cmc(results), "cmc")
    protocol(results)


def _nobody_searched_for(selection: Selection, name: str) -> None:
    """Which benchmark to choose instead, or what to do where there is none."""
    st.info(f"In **{name}** nobody is searched for among strangers.", icon=":material/info:")
    stored = {(run, other): stored_figures(run, other) for run in selection.chosen for other in run.evaluations()}
    others = sorted({other for (_, other), figures in stored.items() if figures.get("kind") == "identification"})
    if others:
        st.markdown(f"Choose {' or '.join(f'**{other}**' for other in others)} in the sidebar.")
    else:
        st.markdown("This page needs people to find and distractors, strangers to find them among:")
        st.code(f"workbench evaluate {selection.chosen[0].path} synthfaces-id", language="bash")
