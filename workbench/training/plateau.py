"""The statistical test of dlib for whether a training loss has stopped falling.

It fits a line to the last values of the loss and asks how probable it is that the line falls. The
two counting functions give the same results as those of the same names in dlib
(dlib/statistics/running_gradient.h).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

PRIOR = 1e6
"""Initial variance of the slope and the intercept, as in dlib: so large that it hardly matters."""


class RunningGradient:
    """Least-squares line through values at the positions 0, 1, 2, ..., which are added one by one.

    The fit is updated by recursive least squares. The standard error of the slope for n values with
    residual variance sigma^2 is sqrt(12 sigma^2 / (n^3 - n)).

    Attributes:
        count: Number of values.
        slope: Slope of the line.
        intercept: Value of the line at position 0.
        residual: Sum of the squared differences between values and line.

    Example:
        >>> from workbench.training.plateau import RunningGradient
        >>> line = RunningGradient()
        >>> for value in (1.0, 3.0, 5.0, 7.1):
        ...     line.add(value)
        >>> round(line.slope, 2), round(line.probability_of_rise(), 2)
        (2.03, 1.0)
    """

    def __init__(self) -> None:
        self.count = 0
        self.slope = self.intercept = self.residual = 0.0
        # The symmetric 2 x 2 matrix of recursive least squares, for (slope, intercept).
        self._slope_variance = self._intercept_variance = PRIOR
        self._covariance = 0.0

    def add(self, value: float) -> None:
        """Adds a value at the next position.

        Args:
            value: The value.
        """
        position = float(self.count)
        first = self._slope_variance * position + self._covariance
        second = self._covariance * position + self._intercept_variance
        factor = 1.0 + (position * first + second)
        self._slope_variance -= first * first / factor
        self._covariance -= first * second / factor
        self._intercept_variance -= second * second / factor
        error = value - (self.slope * position + self.intercept)
        self.slope += (self._slope_variance * position + self._covariance) * error
        self.intercept += (self._covariance * position + self._intercept_variance) * error
        self.residual += (value - (self.slope * position + self.intercept)) ** 2 * factor
        self.count += 1

    def probability_of_rise(self) -> float:
        """Returns the probability that the slope is greater than 0.

        The slope is assumed to be normally distributed around its estimate.

        Returns:
            A number from 0 to 1; NaN if a value was NaN.

        Raises:
            ValueError: if there are fewer than three values.
        """
        if self.count < 3:
            raise ValueError("the slope of fewer than three values has no standard error")
        cubed = float(self.count) ** 3
        error = math.sqrt(self.residual / (self.count - 2) * (12.0 / (cubed - self.count)))
        if error == 0:
            return 0.5 if self.slope == 0 else float(self.slope > 0)
        return 1.0 - 0.5 * math.erfc(self.slope / error / math.sqrt(2.0))


def count_steps_without_decrease(losses: Sequence[float], probability: float = 0.51) -> int:
    """Returns for how many of the last steps the loss has not noticeably fallen.

    It is the length of the longest suffix of the losses for which the probability of a fall is less
    than `probability`.

    Args:
        losses: Losses of consecutive steps, the last one at the end.
        probability: Probability of a fall from which the loss counts as falling, between 0.5 and 1.

    Returns:
        Number of steps, from 0 to the number of losses. It is 0 for fewer than three losses.

    Example:
        >>> from workbench.training.plateau import count_steps_without_decrease
        >>> count_steps_without_decrease([9, 7, 5, 3, 1, 1, 1, 1])
        4
    """
    return _count(losses, probability, largest=math.inf)


def count_steps_without_decrease_robust(
    losses: Sequence[float], probability: float = 0.51, discard: float = 0.1
) -> int:
    """Counts as `count_steps_without_decrease`, but without the largest losses.

    A batch with a very large loss then does not look like the end of the fall.

    Args:
        losses: As in `count_steps_without_decrease`.
        probability: As in `count_steps_without_decrease`.
        discard: Share of the losses that are discarded, the largest ones; from 0 to 1.

    Returns:
        Number of steps, from 0 to the number of losses, in which discarded losses count.

    Example:
        >>> from workbench.training.plateau import count_steps_without_decrease_robust
        >>> count_steps_without_decrease_robust([9, 8, 7, 6, 5, 4, 3, 2, 1, 99])
        0
    """
    if not losses:
        return 0
    # C++ rounds halves away from zero, Python to even numbers.
    position = math.floor((len(losses) - 1) * (1.0 - discard) + 0.5)
    return _count(losses, probability, largest=sorted(losses)[position])


def _count(losses: Sequence[float], probability: float, largest: float) -> int:
    """Returns the length of the longest suffix that does not fall, without larger losses."""
    # Read backwards, a falling loss is a rising line. A loss of NaN makes the probability NaN.
    line = RunningGradient()
    count = 0
    for steps, loss in enumerate(reversed(losses), start=1):
        if not loss > largest:
            line.add(float(loss))
        if line.count > 2 and line.probability_of_rise() < probability:
            count = steps
    return count
