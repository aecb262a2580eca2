"""The page of ROC and DET curves."""

from __future__ import annotations

import streamlit as st

from workbench import plots
from workbench.dashboard.loading import Selection
from workbench.dashboard.views.parts import chart, protocol, verification_results


def show(selection: Selection) -> None:
    """Draws the page."""
    st.title("ROC and DET")
    results = verification_results(selection)
    if not results:
        return
    st.markdown(
        f"How many genuine pairs of **{selection.benchmark}** are accepted, against how many "
        "impostor pairs are accepted too. Point at a curve to read the threshold. Bands: 95 % "
        "intervals of each point by itself; a whole curve leaves its band more often. In the grey "
        "field fewer than 10 false accepts are expected, and the band gives a lower and an upper "
        "bound."
    )
    chart(plots.roc(results), "roc")
    with st.expander("DET: the same as error rates", expanded=True):
        st.markdown(
            "On these axes normally distributed scores give a straight line. Curves closer to the "
            "lower left are better."
        )
        chart(plots.det(results), "det")
    protocol(results)
