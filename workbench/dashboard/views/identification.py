"""Who is found first, by rank and by the number of strangers."""

from __future__ import annotations

import streamlit as st

from workbench import evaluation, plots, runs
from workbench.dashboard import loading
from workbench.dashboard.loading import Selection
from workbench.dashboard.views.parts import chart, collect, nothing_evaluated, one_of, protocol
from workbench.evaluation.results import stored_figures


def show(selection: Selection) -> None:
    st.title("Identification")
    if selection.benchmark is None:
        nothing_evaluated(selection)
        return
    name = one_of(selection, _searches, best=_searches, key="searched")
    if name is None:
        collect(selection.evaluated(), lambda run: loading.result(run, str(selection.benchmark)))  # says what is damaged
        st.info(f"In **{selection.benchmark}** nobody is searched for among strangers.", icon=":material/info:")
        st.markdown("This page needs people to find and distractors, strangers to find them among:")
        st.code(f"workbench evaluate {selection.chosen[0].path} synthfaces-id", language="bash")
        return
    evaluated = [run for run in selection.chosen if name in run.evaluations()]
    read = collect(evaluated, lambda run: loading.result(run, name))
    results = {run: result for run, result in read.items() if isinstance(result, evaluation.IdentificationResult)}
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


def _searches(run: runs.Run, name: str) -> bool:
    return stored_figures(run, name).get("kind") == "identification"
