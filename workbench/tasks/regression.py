"""Regression: a number such as the age in years is estimated directly."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, Self

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from workbench.tasks.base import Head, check_labelled
from workbench.tasks.labels import as_numbers
from workbench.tasks.registry import HEADS
from workbench.tasks.settings import RegressionSettings


@HEADS.register("regression")
class RegressionHead(Head):
    """Estimates a number by a linear function, from the mean of the training labels.

    Args:
        attribute: Name of the attribute.
        embedding_dim: Length of an embedding.
        mean: Mean of the training labels, which the estimate begins with.
        std: Standard deviation of the training labels, the unit of the head's output.
        hidden: Number of units of a hidden layer; None for a linear head.
        loss: "l1", "smooth_l1" or "mse".
        standardise: Whether the loss counts in standard deviations.
        missing: Labels that mean "not known".

    Example:
        >>> import torch
        >>> head = RegressionHead("age", embedding_dim=8, mean=40, std=10)
        >>> outputs = torch.tensor([[0.5], [-1.0]])
        >>> head.estimate(outputs)
        tensor([45., 30.])
        >>> head.losses(outputs, torch.tensor([50.0, 30.0]))
        tensor([0.5000, 0.0000])
    """

    kind: ClassVar[str] = "regression"
    measure_name: ClassVar[str] = "mae"

    def __init__(
        self,
        attribute: str,
        embedding_dim: int,
        mean: float,
        std: float,
        hidden: int | None = None,
        loss: str = "l1",
        standardise: bool = True,
        missing: Sequence[float | str] = (),
    ) -> None:
        super().__init__(attribute, embedding_dim, 1, hidden, missing)
        self.mean, self.std = mean, std
        self.loss, self.standardise = loss, standardise

    @classmethod
    def for_labels(
        cls, settings: RegressionSettings, column: Iterable[Any], embedding_dim: int, where: str
    ) -> Self:
        """Creates the head; see `Head.for_labels`."""
        labels = as_numbers(column, where, settings.missing)
        present = labels[~np.isnan(labels)]
        check_labelled(len(present), where)
        return cls(
            settings.attribute,
            embedding_dim,
            float(present.mean()),
            float(present.std()) or 1.0,
            settings.hidden,
            settings.loss,
            settings.standardise,
            settings.missing,
        )

    def description(self) -> dict[str, Any]:
        """Returns the keyword arguments that create this head."""
        return {
            "attribute": self.attribute,
            "embedding_dim": self.embedding_dim,
            "mean": self.mean,
            "std": self.std,
            "hidden": self.hidden,
            "loss": self.loss,
            "standardise": self.standardise,
            "missing": self.missing,
        }

    def targets(self, column: Iterable[Any], where: str) -> NDArray[np.float64]:
        """Returns the labels as numbers; see `Head.targets`."""
        return self.numbers(column, where)

    def losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Returns (N,) errors in standard deviations, or in the unit of the label."""
        unit = self.std if self.standardise else 1.0
        estimates, wanted = self.estimate(outputs) / unit, targets / unit
        function = {"l1": F.l1_loss, "smooth_l1": F.smooth_l1_loss, "mse": F.mse_loss}[self.loss]
        return function(estimates, wanted, reduction="none")

    def _measure(self, outputs: Tensor, targets: Tensor) -> float:
        return (self.estimate(outputs) - targets).abs().mean().item()

    def likelihood_factor(self, log_variance: Tensor) -> Tensor:
        """Returns 1 / (2 sigma^2) for mse, 1 / sigma for the others.

        The first follows from a Gaussian distribution of the errors (Kendall, Gal and Cipolla 2018,
        eq. 7), the second from a Laplace distribution.
        """
        if self.loss == "mse":
            return 0.5 * torch.exp(-log_variance)
        return torch.exp(-0.5 * log_variance)

    def estimate(self, outputs: Tensor) -> Tensor:
        """Returns (N,) estimated numbers."""
        return self.mean + self.std * outputs[:, 0]
