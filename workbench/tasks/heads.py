"""The heads of all tasks of a run, and the sum of their losses."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Iterator, Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn

from workbench.errors import WorkbenchError
from workbench.tasks.base import Head
from workbench.tasks.registry import TASKS
from workbench.tasks.settings import RECOGNITION, Weight


class Heads(nn.Module):
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
        ['fr_weight', 'gender_accuracy', 'gender_gradient', 'gender_loss', 'gender_weight']
    """

    def __init__(
        self,
        heads: Mapping[str, Head],
        weights: Mapping[str, Weight] | None = None,
        detached: Collection[str] = (),
    ) -> None:
        super().__init__()
        for name in heads:
            if hasattr(nn.ModuleDict, name):
                raise WorkbenchError(
                    f"task {name!r}: PyTorch uses this name itself; give the task another name, "
                    "and the setting attribute the name of the column"
                )
        self.heads = nn.ModuleDict(heads)
        given = dict(weights or {})
        names = [RECOGNITION, *heads]
        self.weights = {name: given.get(name, 1.0) for name in names}
        self.detached = frozenset(detached)
        self.log_variances = nn.ParameterDict(
            {
                name: nn.Parameter(torch.zeros(()))
                for name in names
                if self.weights[name] == "learned"
            }
        )

    def __len__(self) -> int:
        return len(self.heads)

    def items(self) -> Iterator[tuple[str, Head]]:
        """Yields the name and the head of each task."""
        for name, head in self.heads.items():
            yield name, cast(Head, head)

    def total(
        self, recognition: Tensor | None, embeddings: Tensor, targets: Mapping[str, Tensor]
    ) -> Tensor:
        """Computes the total loss of a batch.

        Args:
            recognition: The loss of recognition; None if it is not trained, or if no image of the
                batch has an identity.
            embeddings: (N, D) embeddings.
            targets: (N,) targets of each task, NaN where the label is missing.

        Returns:
            A scalar.
        """
        parts = [] if recognition is None else [self._weighted(RECOGNITION, recognition)]
        for name, head in self.items():
            inputs = embeddings.detach() if name in self.detached else embeddings
            value = head.value(head(inputs), targets[name])
            parts.append(self._weighted(name, value))
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
        for name, head in self.items():
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
        for name, log_variance in self.log_variances.items():
            figures[f"{name}_weight"] = self._factor(name, log_variance).item()
        return {name: figure for name, figure in figures.items() if math.isfinite(figure)}

    def _weighted(self, name: str, value: Tensor) -> Tensor:
        """Returns the summand of a task in the total loss."""
        weight = self.weights[name]
        if weight != "learned":
            return value * float(weight)
        log_variance = self.log_variances[name]
        weighted: Tensor = self._factor(name, log_variance) * value + 0.5 * log_variance
        return weighted

    def _factor(self, name: str, log_variance: Tensor) -> Tensor:
        """Returns the learned factor of a task's loss."""
        if name == RECOGNITION:
            return torch.exp(-log_variance)
        return cast(Head, self.heads[name]).likelihood_factor(log_variance)

    def described(self) -> str:
        """Returns a JSON text from which `from_description` creates the same heads."""
        return json.dumps(
            {name: {"kind": head.kind, **head.description()} for name, head in self.items()}
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
            heads[name] = TASKS.create(options.pop("kind"), **options)
        return heads
    except (TypeError, ValueError, KeyError, AttributeError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:160]
        raise WorkbenchError(f"not a description of heads of tasks ({reason})") from None
