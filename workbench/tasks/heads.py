"""The heads of all tasks of a run, and the sum of their losses."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Iterable, Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn

from workbench.errors import WorkbenchError
from workbench.tasks import classes, ordinal, regression  # noqa: F401  (importing registers)
from workbench.tasks.base import Head
from workbench.tasks.registry import HEADS
from workbench.tasks.settings import RECOGNITION, TaskSettings, Weight

_OWN_NAMES = ("detached", "log_variances", "weights")
"""Names of the attributes of `Heads`."""


class Heads(nn.ModuleDict):
    """The heads of the tasks of a run, with the weights of their losses.

    The total loss is the sum of weight_t * L_t. With a learned weight, the summand of a task is
    factor(s) * L_t + s / 2, where s = log sigma^2 is trained from 0 on: uncertainty weighting
    (Kendall, Gal and Cipolla, "Multi-task learning using uncertainty to weigh losses for scene
    geometry and semantics", CVPR 2018, eq. 7 and 10). factor(s) is 1 / sigma^2 for classes,
    ordinal tasks and recognition, 1 / (2 sigma^2) for squared errors and 1 / sigma for absolute
    ones.

    Args:
        heads: The heads by the names of the tasks.
        weights: The weight of each task and of recognition (`fr`): a number, or "learned". Tasks
            that are missing have the weight 1.
        detached: Names of the tasks whose gradient does not reach the embeddings.

    Raises:
        WorkbenchError: if a name cannot be that of a task, because PyTorch uses it.

    Example:
        >>> import torch
        >>> from workbench.tasks import ClassesHead, Heads
        >>> gender = ClassesHead("gender", embedding_dim=8, classes=["female", "male"])
        >>> heads = Heads({"gender": gender}, {"fr": 1.0, "gender": "learned"})
        >>> targets = {"gender": torch.tensor([0.0, float("nan"), 1.0])}
        >>> total = heads.total(torch.tensor(5.0), torch.randn(3, 8), targets)
        >>> sorted(heads.measure(torch.randn(3, 8), targets))
        ['gender_accuracy', 'gender_gradient', 'gender_loss', 'gender_weight']
    """

    def __init__(
        self,
        heads: Mapping[str, Head],
        weights: Mapping[str, Weight] | None = None,
        detached: Collection[str] = (),
    ) -> None:
        for name in heads:
            if hasattr(nn.ModuleDict, name) or name in _OWN_NAMES:
                raise WorkbenchError(
                    f"task {name!r}: this name is used internally; give the task another name, and "
                    "the name of the column as its attribute"
                )
        super().__init__(heads)
        given = dict(weights or {})
        names = [RECOGNITION, *heads]
        self.weights = {name: given.get(name, 1.0) for name in names}
        self.detached = frozenset(detached)
        # The parameters are not a module of their own: the modules are the heads.
        for name in names:
            if self.weights[name] == "learned":
                self.register_parameter(f"log_variance_{name}", nn.Parameter(torch.zeros(())))

    def of_tasks(self) -> dict[str, Head]:
        """Returns the head of each task."""
        return {name: cast(Head, head) for name, head in self.items()}

    def total(
        self,
        recognition: Tensor | None,
        embeddings: Tensor,
        targets: Mapping[str, Tensor],
        shares: Mapping[str, float | Tensor] | None = None,
    ) -> Tensor:
        """Computes the total loss of a batch, or the part of it that some of its images have.

        Args:
            recognition: The loss of recognition; None if it is not trained, or if no image has an
                identity.
            embeddings: (N, D) embeddings.
            targets: (N,) targets of each task, NaN where the label is missing.
            shares: For each task and for recognition, the share of the labelled images of the batch
                that these N images have; None if they are the whole batch. The totals of all
                parts of a batch then add up to the total of the batch.

        Returns:
            A scalar.
        """
        values = {} if recognition is None else {RECOGNITION: recognition}
        for name, head in self.of_tasks().items():
            inputs = embeddings.detach() if name in self.detached else embeddings
            values[name] = head.value(head(inputs), targets[name])
        parts = [
            self._weighted(name, value) * (1.0 if shares is None else shares[name])
            for name, value in values.items()
        ]
        return torch.stack(parts).sum()

    def measure(self, embeddings: Tensor, targets: Mapping[str, Tensor]) -> dict[str, float]:
        """Returns figures of a batch to log.

        Args:
            embeddings: (N, D) embeddings.
            targets: (N,) targets of each task, NaN where the label is missing.

        Returns:
            For each task with a label in the batch NAME_loss (without the weight),
            NAME_accuracy or NAME_mae, and NAME_gradient, the norm of the gradient of the weighted
            loss with respect to the embeddings of the batch. It shows how strongly a task acts on
            the backbone. NAME_weight is the factor of the loss, for learned weights.
        """
        figures: dict[str, float] = {}
        for name, head in self.of_tasks().items():
            if targets[name].isnan().all():
                continue
            inputs = embeddings.detach().requires_grad_()
            with torch.enable_grad():
                outputs = head(inputs)
                value = head.value(outputs, targets[name])
                weighted = self._weighted(name, value)
                (gradient,) = torch.autograd.grad(weighted, inputs)
            figures[f"{name}_loss"] = value.item()
            figures[f"{name}_{head.measure_name}"] = head.measure(outputs, targets[name])
            acts_on_trunk = name not in self.detached
            figures[f"{name}_gradient"] = gradient.norm().item() if acts_on_trunk else 0.0
        for name, weight in self.weights.items():
            if weight == "learned":
                figures[f"{name}_weight"] = self._factor(name).item()
        return {name: figure for name, figure in figures.items() if math.isfinite(figure)}

    def _weighted(self, name: str, value: Tensor) -> Tensor:
        """Returns the summand of a task in the total loss."""
        weight = self.weights[name]
        if weight != "learned":
            return value * float(weight)
        weighted: Tensor = self._factor(name) * value + 0.5 * self._log_variance(name)
        return weighted

    def _factor(self, name: str) -> Tensor:
        """Returns the learned factor of a task's loss."""
        log_variance = self._log_variance(name)
        if name == RECOGNITION:
            return torch.exp(-log_variance)
        return cast(Head, self[name]).likelihood_factor(log_variance)

    def _log_variance(self, name: str) -> Tensor:
        return self.get_parameter(f"log_variance_{name}")

    def described(self) -> str:
        """Returns a JSON text from which `from_description` creates the same heads."""
        return json.dumps(
            {
                name: {"kind": head.kind, **head.description()}
                for name, head in self.of_tasks().items()
            }
        )


def from_description(text: str) -> dict[str, Head]:
    """Creates heads from the text of `Heads.described`, with random weights.

    Args:
        text: The text, as it is stored with the weights of a run.

    Returns:
        The heads by the names of the tasks.

    Raises:
        WorkbenchError: if the text does not describe heads.
    """
    try:
        described: dict[str, dict[str, Any]] = json.loads(text)
        heads = {}
        for name, arguments in described.items():
            options = dict(arguments)
            heads[name] = HEADS.create(options.pop("kind"), **options)
        return heads
    except (TypeError, ValueError, KeyError, AttributeError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:160]
        raise WorkbenchError(f"not a description of heads of tasks ({reason})") from None


def head_of(settings: TaskSettings, column: Iterable[Any], embedding_dim: int, where: str) -> Head:
    """Creates the head of a task from its settings and the labels of the training images.

    Args:
        settings: The settings of the task.
        column: Labels of the training images, from which for example the classes follow.
        embedding_dim: Length of an embedding.
        where: What the column is, for messages.

    Returns:
        The head, with random weights.

    Raises:
        WorkbenchError: if the labels do not fit the task, or fewer than two are present.
    """
    head_type: Any = HEADS.get(settings.kind)
    head: Head = head_type.for_labels(settings, column, embedding_dim, where)
    return head
