"""The page of identification: rank-1 by number of distractors, CMC, and open-set rates."""

from __future__ import annotations

import streamlit as st

from workbench import evaluation, plots, runs
from workbench.dashboard import loading
from workbench.dashboard.loading import Selection
from workbench.dashboard.views.parts import chart, collect, nothing_evaluated, one_of, protocol
from workbench.evaluation.kinds import of_type
from workbench.evaluation.results import stored_figures


def show(selection: Selection) -> None:
    """Draws the page."""
    st.title("Identification")
    if selection.benchmark is None:
        nothing_evaluated(selection)
        return
    name = one_of(selection, _searches, best=_searches, key="searched")
    if name is None:
        collect(
            selection.evaluated(), lambda run: loading.result(run, str(selection.benchmark))
        )  # says what is damaged
        st.info(
            f"**{selection.benchmark}** is not a benchmark of identification.",
            icon=":material/info:",
        )
        st.markdown("This page needs a benchmark with a gallery, probes and distractors:")
        st.code(f"workbench evaluate {selection.chosen[0].path} synthfaces-id", language="bash")
        return
    evaluated = [run for run in selection.chosen if name in run.evaluations()]
    read = collect(evaluated, lambda run: loading.result(run, name))
    results = of_type(read, evaluation.IdentificationResult)
    if not results:
        return
    first = next(iter(results.values()))
    others = f"{first.distractors:,} distractors, images of people who are on no probe"
    if first.candidates == "megaface":
        compared = (
            f"one other image of its person at a time ({len(first.ranks):,} searches, MegaFace's "
            f"rule) and {others}"
        )
    else:
        compared = f"the {first.enrolled:,} people of the gallery and {others}"
    st.markdown(
        f"Each of {first.probes:,} probes of **{name}** is compared with {compared}. Rank-1: the "
        "share of searches in which the right person scores highest. Bands: pointwise 95 % "
        "intervals, from a bootstrap over people."
    )
    st.subheader("Rank-1 by number of distractors")
    st.markdown(
        "A rate that is high among few distractors can be much lower among many. Compare the runs "
        "at the right end of the curves."
    )
    chart(plots.distractors(results), "distractors")
    st.subheader("Rank of the right person")
    st.markdown(
        "The share of searches in which the right person is among the first *k* candidates (CMC), "
        "with all distractors."
    )
    chart(plots.cmc(results), "cmc")
    st.subheader("Open set: probes of people who are not enrolled")
    searched = {
        run: result.open_set for run, result in results.items() if result.open_set is not None
    }
    if searched:
        open_set = next(iter(searched.values()))
        st.markdown(
            "In many applications, most people who are searched for are not enrolled. Here the "
            "distractors are probes too, and the gallery contains only its "
            f"{open_set.enrolled:,} people. A search returns somebody if their score reaches a "
            "threshold. FPIR: the share of probes of people who are not enrolled for which "
            "somebody is returned. FNIR: the share of probes of enrolled people for which the "
            "right person is not returned, because their score is below the threshold or another "
            "person's score is higher. Where a curve becomes flat, a lower threshold does not "
            "help. Compare the curves at the highest FPIR that you can accept."
        )
        chart(plots.open_set_det(searched), "open-set")
    else:
        st.info(
            "These evaluations were stored before open-set figures were added; run `workbench "
            "evaluate` again to see them."
        )
    protocol(results)


def _searches(run: runs.Run, name: str) -> bool:
    return stored_figures(run, name).get("kind") == evaluation.IdentificationResult.kind
