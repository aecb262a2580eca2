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
            f"In **{selection.benchmark}** nobody is searched for among strangers.",
            icon=":material/info:",
        )
        st.markdown("This page needs people to find and distractors, strangers to find them among:")
        st.code(f"workbench evaluate {selection.chosen[0].path} synthfaces-id", language="bash")
        return
    evaluated = [run for run in selection.chosen if name in run.evaluations()]
    read = collect(evaluated, lambda run: loading.result(run, name))
    results = of_type(read, evaluation.IdentificationResult)
    if not results:
        return
    first = next(iter(results.values()))
    others = f"{first.distractors:,} distractors, strangers who are on no probe"
    if first.candidates == "megaface":
        compared = (
            f"one other image of its person at a time ({len(first.ranks):,} searches, MegaFace's "
            f"rule) and {others}"
        )
    else:
        compared = f"the {first.enrolled:,} people of the gallery and {others}"
    st.markdown(
        f"Each of {first.probes:,} probes of **{name}** is compared with {compared}. Rank-1: the "
        "right person scores highest of all. Bands: 95 % intervals of each point by itself, from "
        "a bootstrap over people."
    )
    st.subheader("More strangers, more mistakes")
    st.markdown(
        "What looks solved among few candidates need not be among many: compare the right ends, "
        "not the left ones."
    )
    chart(plots.distractors(results), "distractors")
    st.subheader("How far down the list")
    st.markdown(
        "The share of probes whose person is among the first *k* candidates (CMC), with all "
        "distractors."
    )
    chart(plots.cmc(results), "cmc")
    st.subheader("When strangers search too")
    searched = {
        run: result.open_set for run, result in results.items() if result.open_set is not None
    }
    if searched:
        one = next(iter(searched.values()))
        st.markdown(
            "At a door most who come may not be enrolled. Here the distractors are probes as "
            f"well and the gallery holds its {one.enrolled:,} people alone; a threshold decides "
            "whether anybody is found. FPIR: the share of strangers for whom somebody is. FNIR: "
            "the share of enrolled people who are missed, because their score is too low or "
            "somebody else's is higher; where a line levels off, no threshold helps. Compare "
            "lines at the false alarms that you can bear."
        )
        chart(plots.open_set_det(searched), "open-set")
    else:
        st.info(
            "These evaluations were stored before open-set figures were made; run `workbench "
            "evaluate` again to see them."
        )
    protocol(results)


def _searches(run: runs.Run, name: str) -> bool:
    return stored_figures(run, name).get("kind") == evaluation.IdentificationResult.kind
