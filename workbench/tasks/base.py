"""The base class of the heads of tasks."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from workbench.errors import WorkbenchError
from workbench.tasks.labels import as_numbers


class Head(nn.Module, ABC):
    """The head of a task: a small network from an embedding to the estimate of an attribute.

    The input is the direction of the embedding, scaled to the length sqrt(D), so that its entries
    have the mean square 1. The length of an embedding is not used: losses on angles leave it free,
    and the sum of two embeddings has another one.

    Subclasses are decorated with `@HEADS.register(kind)`.

    Args:
        attribute: Name of the attribute, as the column of the data set is called.
        embedding_dim: Length D of an embedding.
        outputs: Number K of outputs.
        hidden: Number of units of a hidden layer; None for a linear head.
        missing: Labels that mean "not known".

    Attributes:
        kind: Name of the kind of task.
        measure_name: Name of the figure that `measure` returns, "accuracy" or "mae".
    """

    kind: ClassVar[str]
    measure_name: ClassVar[str]

    def __init__(
        self,
        attribute: str,
        embedding_dim: int,
        outputs: int,
        hidden: int | None,
        missing: Sequence[float | str],
    ) -> None:
        super().__init__()
        self.missing = list(missing)
        self.attribute = attribute
        self.embedding_dim = embedding_dim
        self.hidden = hidden
        self.outputs = outputs
        self.before: nn.Module = nn.Identity()
        if hidden is not None:
            self.before = nn.Sequential(nn.Linear(embedding_dim, hidden), nn.ReLU())
        self.last = self.last_layer(embedding_dim if hidden is None else hidden)

    def last_layer(self, inputs: int) -> nn.Module:
        """Returns the last layer of the head, with `outputs` outputs."""
        return nn.Linear(inputs, self.outputs)

    def forward(self, embeddings: Tensor) -> Tensor:
        """Computes the outputs of the head.

        Args:
            embeddings: (N, D) embeddings of any length.

        Returns:
            (N, K) outputs, float32.
        """
        # As in the losses, everything after the backbone is computed in float32.
        with torch.autocast(embeddings.device.type, enabled=False):
            directions = nn.functional.normalize(embeddings.float(), dim=1)
            outputs: Tensor = self.last(self.before(directions * math.sqrt(self.embedding_dim)))
        return outputs

    def value(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Computes the mean loss of the images that have a label.

        Args:
            outputs: (N, K) outputs.
            targets: (N,) float targets, NaN where the label is missing.

        Returns:
            A scalar; 0 if no image has a label.
        """
        labelled = ~targets.isnan()
        if not labelled.any():
            return outputs.sum() * 0.0
        return self.losses(outputs[labelled], targets[labelled]).mean()

    def measure(self, outputs: Tensor, targets: Tensor) -> float:
        """Computes the figure `measure_name` of the images that have a label.

        Args:
            outputs: (N, K) outputs.
            targets: (N,) targets, NaN where the label is missing.

        Returns:
            The figure; NaN if no image has a label.
        """
        labelled = ~targets.isnan()
        if not labelled.any():
            return math.nan
        return self._measure(outputs[labelled], targets[labelled])

    @abstractmethod
    def losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Computes the loss of each image. All images have a label.

        Args:
            outputs: (N, K) outputs.
            targets: (N,) targets.

        Returns:
            (N,) losses.
        """

    @abstractmethod
    def _measure(self, outputs: Tensor, targets: Tensor) -> float:
        """Computes the figure `measure_name` of images that have a label."""

    @abstractmethod
    def estimate(self, outputs: Tensor) -> Tensor | None:
        """Returns the estimated numbers.

        Args:
            outputs: (N, K) outputs.

        Returns:
            (N,) numbers in the unit of the labels; None if the labels are names.
        """

    @abstractmethod
    def likelihood_factor(self, log_variance: Tensor) -> Tensor:
        """Returns the factor of the loss in uncertainty weighting.

        Args:
            log_variance: Scalar, the learned log sigma^2.
        """

    @abstractmethod
    def targets(self, column: Iterable[Any], where: str) -> NDArray[np.float64]:
        """Returns the targets of a column of labels.

        Args:
            column: N labels.
            where: What the column is, for messages.

        Returns:
            (N,) targets, NaN where the label is missing.

        Raises:
            WorkbenchError: if a label does not fit the task.
        """

    def numbers(self, column: Iterable[Any], where: str) -> NDArray[np.float64]:
        """Returns the labels of a column as numbers, for tasks that estimate numbers.

        Args:
            column: N labels.
            where: What the column is, for messages.

        Returns:
            (N,) numbers, NaN where the label is missing.
        """
        return as_numbers(column, where, self.missing)

    @classmethod
    @abstractmethod
    def for_labels(
        cls, settings: Any, column: Iterable[Any], embedding_dim: int, where: str
    ) -> Self:
        """Creates the head of a task from its settings and the labels of the training images.

        Args:
            settings: The settings of the task.
            column: Labels of the training images, from which for example the classes follow.
            embedding_dim: Length of an embedding.
            where: What the column is, for messages.

        Raises:
            WorkbenchError: if the labels do not fit the task, or all of them are missing.
        """

    @abstractmethod
    def description(self) -> dict[str, Any]:
        """Returns the keyword arguments that create this head, as plain values."""


def check_labelled(count: int, where: str) -> None:
    """Checks that a task has at least two labels.

    Args:
        count: Number of images that have a label.
        where: What the labels are, for messages.

    Raises:
        WorkbenchError: if there are fewer than two.
    """
    if count < 2:
        raise WorkbenchError(
            f"{where}: {count} image(s) have a label, but a task needs at least two"
        )
