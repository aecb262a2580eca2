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
        f"The share of genuine pairs of **{selection.benchmark}** that are accepted, against the "
        "share of impostor pairs that are accepted. Point at a curve to read the threshold. Bands: "
        "pointwise 95 % intervals, so that a whole curve lies in its band with a lower "
        "probability. In the grey area, fewer than 10 false accepts are expected, and the band "
        "gives a lower and an upper bound."
    )
    chart(plots.roc(results), "roc")
    with st.expander("DET: the two error rates", expanded=True):
        st.markdown(
            "On these axes normally distributed scores give a straight line. Curves closer to the "
            "lower left are better."
        )
        chart(plots.det(results), "det")
    protocol(results)
