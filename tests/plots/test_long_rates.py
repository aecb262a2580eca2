"""ROC and DET of more pairs than a browser could draw the points of."""

from __future__ import annotations

import numpy as np
import pytest

from workbench import plots
from workbench.evaluation import VerificationResult, verification
from workbench.plots import rates

pytestmark = pytest.mark.filterwarnings("error::RuntimeWarning")


@pytest.fixture(scope="module")
def result() -> VerificationResult:
    rng = np.random.default_rng(0)
    same = np.arange(300_000) < 20_000
    return verification(
        rng.normal(size=300_000) + 2.5 * same, same, np.arange(300_000) % 2, intervals=False
    )


def test_few_points_stand_for_all(result: VerificationResult) -> None:
    curve = result.roc
    roc, det = plots.roc({"a": result}).data[0], plots.det({"a": result}).data[0]
    assert len(curve.far) > 250_000
    for line in (roc, det):
        assert 1000 < len(line.x) < rates.MOST_POINTS
        assert np.isin(line.customdata[:, -1], curve.thresholds).all()
        assert (np.diff(line.customdata[:, 0]) >= 0).all()
    # No omitted point differs from the drawn point before it by more than a 2000th of an axis.
    drawn = np.searchsorted(-curve.thresholds, -roc.customdata[:, 1])
    begin = drawn[0]
    before = drawn[np.searchsorted(drawn, np.arange(begin, len(curve.far)), side="right") - 1]
    x = np.log10(np.maximum(curve.far, 1 / result.impostors / 3))
    assert (
        np.abs(curve.tar[begin:] - curve.tar[before]).max()
        <= np.ptp(curve.tar[begin:]) / rates.CELLS + 1e-12
    )
    assert np.abs(x[begin:] - x[before]).max() <= np.ptp(x[begin:]) / rates.CELLS + 1e-12
    assert (roc.x[-1], roc.y[-1]) == (1, 1)
    assert roc.y[0] == curve.tar[curve.far == 0].max()


def test_of_few_pairs_every_point_is_drawn() -> None:
    rng = np.random.default_rng(0)
    same = np.arange(500) < 200
    short = verification(rng.normal(size=500) + same, same, np.arange(500) % 2, intervals=False)
    far = short.roc.far
    assert len(plots.roc({"a": short}).data[0].x) == len(far) - np.flatnonzero(far == 0)[-1]
