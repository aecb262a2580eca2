"""Results of attributes: how often a class is right, and how far a number such as the age is off.

Several images of one person are not independent. Where people are known, the intervals come from a
jackknife that leaves out one person at a time; otherwise each image is a unit of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Literal, NamedTuple, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from workbench.arrays import Floats, Integers
from workbench.errors import WorkbenchError, printable
from workbench.evaluation.intervals import proportion_interval, standard_error, t_quantile
from workbench.evaluation.kinds import Headline, Result, interval_in_words, register_result

UNITS = {"age": "years"}
"""Units of attributes, by name."""
DECADE = 10.0
"""Width of the ranges in which the calibration is shown by default."""
Interval = tuple[float, float]


@dataclass(frozen=True)
class ClassEstimates:
    """The classes of images that a task predicted, compared with the true ones.

    Attributes:
        labels: (N,) true class of each image.
        predicted: (N,) predicted class of each image.
        class_names: names of the C classes.
        people: (N,) person on each image; None if unknown.
    """

    labels: Integers
    predicted: Integers
    class_names: list[str]
    people: Integers | None = None

    @cached_property
    def accuracy(self) -> float:
        """Share of the images whose class is predicted correctly."""
        return float((self.labels == self.predicted).mean())

    @cached_property
    def interval(self) -> Interval | None:
        """95 % interval of the accuracy; None if there are not at least two people."""
        right = (self.labels == self.predicted).astype(np.float64)
        return proportion_of_people(right, self.people)

    @cached_property
    def confusion(self) -> Integers:
        """(C, C) numbers of images; rows are true classes, columns are predicted classes."""
        count = len(self.class_names)
        flat = np.bincount(self.labels * count + self.predicted, minlength=count * count)
        return flat.reshape(count, count)

    @property
    def baseline(self) -> float:
        """Accuracy of always predicting the most frequent class."""
        return float(np.bincount(self.labels).max() / len(self.labels))

    def errors_of(self, predicted: int) -> tuple[float, Interval | None]:
        """Return how often a predicted class is wrong.

        Args:
            predicted: number of the predicted class.

        Returns:
            The share of images with this prediction that have another true class, and its 95 %
            interval; NaN and None if the class is never predicted.
        """
        chosen = self.predicted == predicted
        if not chosen.any():
            return float("nan"), None
        wrong = (self.labels[chosen] != predicted).astype(np.float64)
        people = None if self.people is None else self.people[chosen]
        return float(wrong.mean()), proportion_of_people(wrong, people)


class Range(NamedTuple):
    """The errors in one range of a number, such as a decade of age.

    Attributes:
        low: lower end of the range, inclusive.
        high: upper end of the range, exclusive.
        images: number of images.
        people: number of people; None if unknown.
        true: mean true value.
        estimated: mean estimated value.
        mae: mean absolute error.
        bias: mean error, estimated minus true value.
        bias_interval: 95 % interval of the bias; None if there are not at least two people.
    """

    low: float
    high: float
    images: int
    people: int | None
    true: float
    estimated: float
    mae: float
    bias: float
    bias_interval: Interval | None


@dataclass(frozen=True)
class NumberEstimates:
    """A number that a task estimated for each image, compared with the true one.

    Attributes:
        true: (N,) true values.
        estimated: (N,) estimated values.
        people: (N,) person on each image; None if unknown.
    """

    true: Floats
    estimated: Floats
    people: Integers | None = None

    @cached_property
    def mae(self) -> float:
        """Mean absolute error."""
        return float(np.abs(self.estimated - self.true).mean())

    @cached_property
    def interval(self) -> Interval | None:
        """95 % interval of the mean absolute error; None if there are not at least two people."""
        low_high = mean_of_people(np.abs(self.estimated - self.true), self.people)
        return None if low_high is None else (max(low_high[0], 0.0), low_high[1])

    @property
    def bias(self) -> float:
        """Mean error, estimated minus true value."""
        return float((self.estimated - self.true).mean())

    @property
    def baseline(self) -> float:
        """Mean absolute error of always estimating the median of the true values."""
        return float(np.abs(self.true - np.median(self.true)).mean())

    def by_range(
        self, width: float = DECADE, by: Literal["true", "estimated"] = "true"
    ) -> list[Range]:
        """Return the errors in each range of the number, by default in each decade of age.

        Args:
            width: width of a range, greater than 0.
            by: whether images are assigned to ranges by their true or by their estimated value.
                Estimates tend towards the middle: the young are estimated too old and the old too
                young. By the estimated value, the bias says what an estimate means for a new image.

        Returns:
            The ranges that contain images, in ascending order.

        Example:
            >>> estimates = NumberEstimates(np.array([21.0, 29, 35]), np.array([24.0, 28, 31]))
            >>> [(one.low, one.images, one.bias) for one in estimates.by_range()]
            [(20.0, 2, 1.0), (30.0, 1, -4.0)]
        """
        if not width > 0:
            raise WorkbenchError(f"width is {width}, expected a number greater than 0")
        values = self.true if by == "true" else self.estimated
        place = np.floor(values / width).astype(np.int64)
        return [self._range(place == one, one * width, width) for one in np.unique(place).tolist()]

    def _range(self, chosen: NDArray[np.bool_], low: float, width: float) -> Range:
        errors = (self.estimated - self.true)[chosen]
        people = None if self.people is None else self.people[chosen]
        return Range(
            low=low,
            high=low + width,
            images=len(errors),
            people=None if people is None else len(np.unique(people)),
            true=float(self.true[chosen].mean()),
            estimated=float(self.estimated[chosen].mean()),
            mae=float(np.abs(errors).mean()),
            bias=float(errors.mean()),
            bias_interval=mean_of_people(errors, people),
        )


@register_result
@dataclass(frozen=True)
class AttributesResult(Result):
    """How well the tasks of a run estimate attributes such as gender and age.

    A task whose classes are ranges of a number, such as the seven classes of age, is in both
    `classes` and `numbers`.

    Attributes:
        classes: the predicted classes by the names of the tasks.
        numbers: the estimated numbers by the names of the tasks.
        attributes: the attribute of each task.
    """

    classes: dict[str, ClassEstimates]
    numbers: dict[str, NumberEstimates]
    attributes: dict[str, str]

    kind: ClassVar[str] = "attributes"
    description: ClassVar[str] = "has attributes, such as gender and age, instead of pairs"

    @property
    def headline(self) -> Headline:
        """The accuracy of the first task with classes, or else the error of the first number."""
        for task, classes in self.classes.items():
            title = f"{task.capitalize()} accuracy"
            return Headline(f"{task}_accuracy", title, classes.accuracy, classes.interval)
        task, numbers = next(iter(self.numbers.items()))
        title = f"{task.capitalize()} MAE"
        return Headline(f"{task}_mae", title, numbers.mae, numbers.interval, self.unit(task))

    def unit(self, task: str) -> str:
        """Return the unit of a task's number, such as "years"; empty if it is not known."""
        return UNITS.get(self.attributes[task], "")

    def summary(self) -> str:
        """The figures of all tasks with their intervals, in one line."""
        parts = [
            f"{task} accuracy {one.accuracy:.2%} {interval_in_words(one.interval)}"
            for task, one in self.classes.items()
        ]
        for task, one in self.numbers.items():
            low, high = one.interval or (float("nan"), float("nan"))
            error = f"{one.mae:.2f} {self.unit(task)}".strip()
            parts.append(f"{task} MAE {error} [{low:.2f}, {high:.2f}]")
        return ", ".join(parts)

    def columns(self) -> dict[str, Any]:
        """TASK_accuracy and TASK_mae of every task, each with _low and _high."""
        figures: dict[str, tuple[float, Interval | None]] = {
            f"{task}_accuracy": (one.accuracy, one.interval) for task, one in self.classes.items()
        }
        figures |= {f"{task}_mae": (one.mae, one.interval) for task, one in self.numbers.items()}
        columns: dict[str, Any] = {}
        for name, (value, interval) in figures.items():
            low, high = interval or (float("nan"), float("nan"))
            columns |= {name: value, f"{name}_low": low, f"{name}_high": high}
        return columns

    def figures(self) -> dict[str, Any]:
        """What is stored in the .json file."""
        return {
            "attributes": dict(self.attributes),
            "classes": {
                task: {
                    "accuracy": one.accuracy,
                    "interval": one.interval,
                    "class_names": [printable(name) for name in one.class_names],
                }
                for task, one in self.classes.items()
            },
            "numbers": {
                task: {"mae": one.mae, "interval": one.interval, "bias": one.bias}
                for task, one in self.numbers.items()
            },
        }

    def arrays(self) -> dict[str, NDArray[Any]]:
        """What is stored in the .npz file."""
        arrays: dict[str, NDArray[Any]] = {}
        for task, one in self.classes.items():
            arrays |= {f"class_{task}_labels": one.labels, f"class_{task}_predicted": one.predicted}
            if one.people is not None:
                arrays[f"class_{task}_people"] = one.people
        for task, number in self.numbers.items():
            arrays |= {
                f"number_{task}_true": number.true,
                f"number_{task}_estimated": number.estimated,
            }
            if number.people is not None:
                arrays[f"number_{task}_people"] = number.people
        return arrays

    @classmethod
    def from_stored(cls, figures: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> Self:
        """Build the result from stored figures and arrays."""
        return cls(
            classes={
                task: ClassEstimates(
                    arrays[f"class_{task}_labels"],
                    arrays[f"class_{task}_predicted"],
                    list(stored["class_names"]),
                    arrays.get(f"class_{task}_people"),
                )
                for task, stored in figures["classes"].items()
            },
            numbers={
                task: NumberEstimates(
                    arrays[f"number_{task}_true"],
                    arrays[f"number_{task}_estimated"],
                    arrays.get(f"number_{task}_people"),
                )
                for task in figures["numbers"]
            },
            attributes=dict(figures["attributes"]),
        )


def class_estimates(
    labels: ArrayLike,
    predicted: ArrayLike,
    class_names: Sequence[str],
    people: ArrayLike | None = None,
) -> ClassEstimates:
    """Compare predicted with true classes.

    Args:
        labels: (N,) true classes, integers 0..C-1.
        predicted: (N,) predicted classes, integers 0..C-1.
        class_names: names of the C classes.
        people: (N,) person on each image; None if unknown.

    Returns:
        The comparison, with accuracy, interval and confusion matrix.

    Raises:
        WorkbenchError: if the shapes do not match, or a class is out of range.

    Example:
        >>> gender = class_estimates([0, 1, 1, 0], [0, 1, 0, 0], ["female", "male"])
        >>> gender.accuracy, gender.confusion.tolist()
        (0.75, [[2, 0], [1, 1]])
    """
    true, guess = np.asarray(labels), np.asarray(predicted)
    persons = None if people is None else np.asarray(people)
    _check_shapes(true, guess, persons)
    for what, values in (("labels", true), ("predictions", guess)):
        if values.dtype.kind not in "iu" or values.min() < 0 or values.max() >= len(class_names):
            raise WorkbenchError(f"{what} must be integers 0 to {len(class_names) - 1}")
    return ClassEstimates(true.astype(np.int64), guess.astype(np.int64), [*class_names], persons)


def number_estimates(
    true: ArrayLike, estimated: ArrayLike, people: ArrayLike | None = None
) -> NumberEstimates:
    """Compare estimated with true numbers, such as ages.

    Args:
        true: (N,) true values.
        estimated: (N,) estimated values.
        people: (N,) person on each image; None if unknown.

    Returns:
        The comparison, with mean absolute error, interval and calibration.

    Raises:
        WorkbenchError: if the shapes do not match, or a value is not finite.

    Example:
        >>> number_estimates([20, 30, 40], [23, 29, 38]).mae
        2.0
    """
    values = np.asarray(true, dtype=np.float64), np.asarray(estimated, dtype=np.float64)
    persons = None if people is None else np.asarray(people)
    _check_shapes(*values, persons)
    for what, one in zip(("true", "estimated"), values, strict=True):
        if not np.isfinite(one).all():
            raise WorkbenchError(f"{what} values must be finite")
    return NumberEstimates(*values, persons)


def _check_shapes(true: NDArray[Any], guess: NDArray[Any], people: NDArray[Any] | None) -> None:
    if true.shape != guess.shape or true.ndim != 1 or not len(true):
        raise WorkbenchError(
            f"true values have shape {true.shape} and estimates {guess.shape}, expected (N,) both, "
            "N > 0"
        )
    if people is not None and people.shape != true.shape:
        raise WorkbenchError(f"people have shape {people.shape}, expected {true.shape}")


def mean_of_people(values: Floats, people: Integers | None) -> Interval | None:
    """Compute the 95 % interval of a mean by the jackknife over people.

    Args:
        values: (N,) values.
        people: (N,) person that each value belongs to; None if each is independent.

    Returns:
        (low, high), by Student's t; None if there are fewer than two people.
    """
    without = _means_without_each(values, people)
    if without is None:
        return None
    half = float(standard_error(without)) * t_quantile(len(without) - 1)
    mean = float(values.mean())
    return mean - half, mean + half


def proportion_of_people(right: Floats, people: Integers | None) -> Interval | None:
    """Compute the 95 % interval of a proportion by the jackknife over people.

    Args:
        right: (N,) 1 where the event occurred, else 0.
        people: (N,) person that each value belongs to; None if each is independent.

    Returns:
        (low, high) in [0, 1]; None if there are fewer than two people.
    """
    without = _means_without_each(right, people)
    if without is None:
        return None
    units = len(without)
    low, high = proportion_interval(
        right.mean(), standard_error(without), units - 1, units, most=len(right)
    )
    return float(low), float(high)


def _means_without_each(values: Floats, people: Integers | None) -> Floats | None:
    """Return the mean without each person; None if there are fewer than two people."""
    if people is None:
        place = np.arange(len(values))
    else:
        _, place = np.unique(people, return_inverse=True)
    sums, counts = np.bincount(place, values), np.bincount(place)
    if len(sums) < 2:
        return None
    without: Floats = (values.sum() - sums) / (len(values) - counts)
    return without
