"""Tasks with classes: one of several names, such as the gender, or one of several ranges of age."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, Self

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from workbench.errors import WorkbenchError
from workbench.tasks.base import Head, check_labelled
from workbench.tasks.labels import as_classes, as_numbers, as_texts
from workbench.tasks.registry import HEADS
from workbench.tasks.settings import ClassesSettings

FOCAL_GAMMA = 2.0
"""Exponent of the focal loss (Lin et al., "Focal loss for dense object detection", ICCV 2017)."""
MOST_CLASSES = 1000
"""Largest number of classes. A column with more different labels is probably not meant as one."""


@HEADS.register("classes")
class ClassesHead(Head):
    """Classifies an attribute, by the cross-entropy of a softmax over the classes.

    If the classes are ranges of a number (`edges`), the head also estimates the number: the mean of
    the ranges' typical values, weighted by their probabilities (Rothe, Timofte and Van Gool, "Deep
    expectation of real and apparent age from a single image without facial landmarks", IJCV 2018,
    eq. 2).

    Args:
        attribute: Name of the attribute.
        embedding_dim: Length of an embedding.
        classes: Names of the C classes.
        hidden: Number of units of a hidden layer; None for a linear head.
        loss: "cross_entropy", "balanced_cross_entropy" or "focal".
        class_weights: C factors of the losses of the classes; None for 1.
        edges: C-1 numbers between the classes; None if the labels are names.
        values: C typical values of the classes; None if the labels are names.
        rename: Other names of labels.
        missing: Labels that mean "not known".

    Example:
        >>> import torch
        >>> head = ClassesHead("gender", embedding_dim=8, classes=["female", "male"])
        >>> head(torch.randn(3, 8)).shape
        torch.Size([3, 2])
        >>> outputs, targets = torch.tensor([[2.0, 0.0], [0.0, 1.0]]), torch.tensor([0.0, 0.0])
        >>> head.measure(outputs, targets)
        0.5
    """

    kind: ClassVar[str] = "classes"
    measure_name: ClassVar[str] = "accuracy"
    class_weights: Tensor

    def __init__(
        self,
        attribute: str,
        embedding_dim: int,
        classes: Sequence[str],
        hidden: int | None = None,
        loss: str = "cross_entropy",
        class_weights: Sequence[float] | None = None,
        edges: Sequence[float] | None = None,
        values: Sequence[float] | None = None,
        rename: dict[str, str] | None = None,
        missing: Sequence[float | str] = (),
    ) -> None:
        super().__init__(attribute, embedding_dim, len(classes), hidden, missing)
        self.classes = list(classes)
        self.loss = loss
        self.edges = None if edges is None else list(edges)
        self.values = None if values is None else list(values)
        self.rename = dict(rename or {})
        weights = [1.0] * len(classes) if class_weights is None else list(class_weights)
        self.register_buffer("class_weights", torch.tensor(weights), persistent=False)

    @classmethod
    def for_labels(
        cls, settings: ClassesSettings, column: Iterable[Any], embedding_dim: int, where: str
    ) -> Self:
        """Creates the head; see `Head.for_labels`."""
        labels = list(column)
        values = None
        if settings.edges is not None:
            numbers = as_numbers(labels, where, settings.missing)
            classes = _range_names(settings.edges)
            targets = _in_ranges(numbers, settings.edges)
            values = typical_values(numbers, settings.edges)
        else:
            names = as_texts(labels, settings.rename, settings.missing)
            classes = settings.classes or sorted({name for name in names if name is not None})
            targets = as_classes(names, classes, where)
        counts = np.bincount(targets[~np.isnan(targets)].astype(np.int64), minlength=len(classes))
        check_labelled(int(counts.sum()), where)
        if not 2 <= len(classes) <= MOST_CLASSES:
            raise WorkbenchError(
                f"{where}: {len(classes)} different labels; a task of kind classes needs 2 to "
                f"{MOST_CLASSES}"
            )
        return cls(
            settings.attribute,
            embedding_dim,
            classes,
            settings.hidden,
            settings.loss,
            _balancing(counts) if settings.loss == "balanced_cross_entropy" else None,
            settings.edges,
            values,
            settings.rename,
            settings.missing,
        )

    def description(self) -> dict[str, Any]:
        """Returns the keyword arguments that create this head."""
        return {
            "attribute": self.attribute,
            "embedding_dim": self.embedding_dim,
            "classes": self.classes,
            "hidden": self.hidden,
            "loss": self.loss,
            "class_weights": self.class_weights.tolist(),
            "edges": self.edges,
            "values": self.values,
            "rename": self.rename,
            "missing": self.missing,
        }

    def targets(self, column: Iterable[Any], where: str) -> NDArray[np.float64]:
        """Returns the numbers of the classes; see `Head.targets`."""
        if self.edges is not None:
            return _in_ranges(self.numbers(column, where), self.edges)
        return as_classes(as_texts(column, self.rename, self.missing), self.classes, where)

    def losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Returns (N,) cross-entropies, weighted by the class or, with focal, by (1 - p)^2."""
        classes = targets.long()
        entropies = F.cross_entropy(outputs, classes, reduction="none")
        if self.loss == "focal":
            return (1 - torch.exp(-entropies)) ** FOCAL_GAMMA * entropies
        return self.class_weights[classes] * entropies

    def _measure(self, outputs: Tensor, targets: Tensor) -> float:
        return (outputs.argmax(1) == targets).float().mean().item()

    def likelihood_factor(self, log_variance: Tensor) -> Tensor:
        """Returns 1 / sigma^2 (Kendall, Gal and Cipolla 2018, eq. 10)."""
        return torch.exp(-log_variance)

    def predicted_class(self, outputs: Tensor) -> Tensor:
        """Returns the (N,) numbers of the most probable classes."""
        return outputs.argmax(1)

    def probabilities(self, outputs: Tensor) -> Tensor:
        """Returns the (N, C) probabilities of the classes."""
        return outputs.softmax(1)

    def estimate(self, outputs: Tensor) -> Tensor | None:
        """Returns (N,) estimated numbers; None if the classes are names."""
        if self.values is None:
            return None
        values = torch.tensor(self.values, dtype=outputs.dtype, device=outputs.device)
        return outputs.softmax(1) @ values


def _in_ranges(numbers: NDArray[np.float64], edges: Sequence[float]) -> NDArray[np.float64]:
    """Returns the number of the range of each number, NaN for NaN."""
    ranges = np.digitize(numbers, edges).astype(np.float64)
    ranges[np.isnan(numbers)] = np.nan
    return ranges


def typical_values(numbers: NDArray[np.float64], edges: Sequence[float]) -> list[float]:
    """Returns the mean of the numbers in each range.

    Args:
        numbers: (N,) numbers; NaN is ignored.
        edges: C-1 numbers between the ranges, in ascending order.

    Returns:
        C values. For a range without numbers it is the middle of the range or, for the first and
        the last range, its edge.

    Example:
        >>> typical_values(np.array([4.0, 6.0, 25.0]), [10, 20])
        [5.0, 15.0, 25.0]
    """
    present = numbers[~np.isnan(numbers)]
    ranges = np.digitize(present, edges)
    limits = [edges[0], *edges, edges[-1]]
    return [
        float(present[ranges == place].mean()) if (ranges == place).any() else float(low + high) / 2
        for place, (low, high) in enumerate(itertools.pairwise(limits))
    ]


def _range_names(edges: Sequence[float]) -> list[str]:
    """Returns names of ranges: "below 10", "10-19", ..., "60 and more"."""
    whole = all(float(edge).is_integer() for edge in edges)
    middle = [
        f"{low:g}-{high - 1:g}"
        if whole and high - low > 1
        else f"{low:g}"
        if whole
        else f"{low:g}-{high:g}"
        for low, high in itertools.pairwise(edges)
    ]
    return [f"below {edges[0]:g}", *middle, f"{edges[-1]:g} and more"]


def _balancing(counts: NDArray[np.int64]) -> list[float]:
    """Returns factors that give all classes that occur the same total weight, N in all."""
    occurring = counts > 0
    weights = np.zeros(len(counts))
    weights[occurring] = counts.sum() / (occurring.sum() * counts[occurring])
    return [float(weight) for weight in weights]
