"""Ordinal tasks: a number such as the age is compared with a series of thresholds."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, Self

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from workbench.errors import WorkbenchError
from workbench.tasks.base import Head, check_labelled
from workbench.tasks.classes import typical_values
from workbench.tasks.labels import as_numbers
from workbench.tasks.registry import HEADS
from workbench.tasks.settings import OrdinalSettings

MOST_THRESHOLDS = 500


class _SharedWeights(nn.Module):
    """One weight vector and K biases: output k is w x + b_k."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.shared = nn.Linear(inputs, 1, bias=False)
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = self.shared(inputs) + self.bias
        return outputs


@HEADS.register("ordinal")
class OrdinalHead(Head):
    """Estimates a number by K binary decisions, whether it reaches each of K thresholds.

    The loss of an image is the sum of the K binary cross-entropies (Cao, Mirjalili and Raschka,
    "Rank consistent ordinal regression for neural networks with application to age estimation",
    Pattern Recognition Letters 2020, eq. 4; Niu et al., "Ordinal regression with multiple output
    CNN for age estimation", CVPR 2016, eq. 1). The estimate is the typical value of the range that
    the number of reached thresholds leads to, which is the median of the estimated distribution.

    Args:
        attribute: Name of the attribute.
        embedding_dim: Length of an embedding.
        thresholds: K thresholds, in ascending order.
        values: K+1 typical values of the ranges between the thresholds.
        hidden: Number of units of a hidden layer; None for a linear head.
        loss: "coral" or "extended_binary".
        missing: Labels that mean "not known".

    Example:
        >>> import torch
        >>> head = OrdinalHead("age", embedding_dim=8, thresholds=[20, 30], values=[15, 25, 40])
        >>> head.estimate(torch.tensor([[3.0, -2.0], [4.0, 1.0]]))
        tensor([25., 40.])
    """

    kind: ClassVar[str] = "ordinal"
    measure_name: ClassVar[str] = "mae"

    def __init__(
        self,
        attribute: str,
        embedding_dim: int,
        thresholds: Sequence[float],
        values: Sequence[float],
        hidden: int | None = None,
        loss: str = "coral",
        missing: Sequence[float | str] = (),
    ) -> None:
        self.loss = loss
        super().__init__(attribute, embedding_dim, len(thresholds), hidden, missing)
        self.thresholds, self.values = list(thresholds), list(values)

    def last_layer(self, inputs: int) -> nn.Module:
        """Returns a layer with shared weights for coral, else an ordinary one."""
        if self.loss == "coral":
            return _SharedWeights(inputs, self.outputs)
        return super().last_layer(inputs)

    @classmethod
    def for_labels(
        cls, settings: OrdinalSettings, column: Iterable[Any], embedding_dim: int, where: str
    ) -> Self:
        """Creates the head; see `Head.for_labels`.

        The biases begin at the log odds with which the training labels reach the thresholds.
        """
        labels = as_numbers(column, where, settings.missing)
        present = labels[~np.isnan(labels)]
        check_labelled(len(present), where)
        thresholds = settings.thresholds
        if thresholds is None:
            thresholds = _thresholds(present, settings.step, where)
        head = cls(
            settings.attribute,
            embedding_dim,
            thresholds,
            typical_values(labels, thresholds),
            settings.hidden,
            settings.loss,
            settings.missing,
        )
        reached = (present[:, None] >= np.array(thresholds)).sum(axis=0)
        # Half an image is added on each side, so that the odds are finite.
        odds = (reached + 0.5) / (len(present) - reached + 0.5)
        bias = head.last.bias
        assert isinstance(bias, Tensor)
        with torch.no_grad():
            bias.copy_(torch.from_numpy(np.log(odds)))
        return head

    def description(self) -> dict[str, Any]:
        """Returns the keyword arguments that create this head."""
        return {
            "attribute": self.attribute,
            "embedding_dim": self.embedding_dim,
            "thresholds": self.thresholds,
            "values": self.values,
            "hidden": self.hidden,
            "loss": self.loss,
            "missing": self.missing,
        }

    def targets(self, column: Iterable[Any], where: str) -> NDArray[np.float64]:
        """Returns the labels as numbers; see `Head.targets`."""
        return self.numbers(column, where)

    def losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Returns (N,) sums of the binary cross-entropies of the thresholds."""
        thresholds = torch.tensor(self.thresholds, dtype=targets.dtype, device=targets.device)
        reached = (targets[:, None] >= thresholds).to(outputs.dtype)
        return F.binary_cross_entropy_with_logits(outputs, reached, reduction="none").sum(1)

    def _measure(self, outputs: Tensor, targets: Tensor) -> float:
        return (self.estimate(outputs) - targets).abs().mean().item()

    def likelihood_factor(self, log_variance: Tensor) -> Tensor:
        """Returns 1 / sigma^2, as for classes (Kendall, Gal and Cipolla 2018, eq. 10)."""
        return torch.exp(-log_variance)

    def estimate(self, outputs: Tensor) -> Tensor:
        """Returns (N,) estimated numbers."""
        values = torch.tensor(self.values, dtype=outputs.dtype, device=outputs.device)
        return values[(outputs > 0).sum(1)]


def _thresholds(labels: NDArray[np.float64], step: float, where: str) -> list[float]:
    """Returns the multiples of `step` above the lowest label, up to the highest."""
    first, last = np.floor(labels.min() / step) + 1, np.floor(labels.max() / step)
    count = int(last - first) + 1
    if not 1 <= count <= MOST_THRESHOLDS:
        raise WorkbenchError(
            f"{where}: labels from {labels.min():g} to {labels.max():g} give {max(count, 0)} "
            f"thresholds at a step of {step:g}, expected 1 to {MOST_THRESHOLDS}; change step, or "
            "give thresholds"
        )
    return [float((first + number) * step) for number in range(count)]
