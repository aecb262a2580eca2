"""ROC and DET of a benchmark so small that no false accept rate is supported."""

import numpy as np
import pytest

import workbench as wb
from workbench.evaluation import VerificationResult, verification


@pytest.fixture
def of_four_pairs() -> VerificationResult:
    return verification(np.array([0.6, 0.2, 0.3, 0.1]), np.array([True, True, False, False]), 2)


def test_lines_and_bands_have_no_dots(of_four_pairs: VerificationResult) -> None:
    for draw in (wb.plots.roc, wb.plots.det):
        traces = draw({"arcface": of_four_pairs}).data
        assert len(traces) >= 2
        assert {trace.mode for trace in traces} == {"lines"}


def test_the_grey_field_covers_the_whole_axis_and_says_so(
    of_four_pairs: VerificationResult,
) -> None:
    for draw in (wb.plots.roc, wb.plots.det):
        drawn = draw({"arcface": of_four_pairs})
        assert drawn.layout.shapes[0].x1 == pytest.approx(
            drawn.layout.xaxis.range[1] if draw is wb.plots.det else 1.0
        )
        assert "(FAR 1)" in drawn.layout.annotations[0].text
