"""Names for array types, and the error rates at which confidence bands are computed and drawn."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Bools = NDArray[np.bool_]

BAND_FARS = np.logspace(-4, 0, 81)
"""False accept rates at which the confidence band of a ROC curve is given."""
BAND_FPIRS = np.logspace(-6, 0, 121)
"""False positive identification rates at which the band of an open-set curve is given."""
