"""What losses share: the check of a batch; class centres, cosines, cross-entropy. A margin says only what it changes."""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from workbench.errors import WorkbenchError


class Loss(nn.Module):
    """A number for a batch of labelled embeddings: all that training asks of a loss.

    Args:
        embedding_dim: length D of an embedding, > 0.
        num_classes: number C of classes, > 0.

    Attributes:
        images_per_identity: images of an identity that a batch must hold for the loss to say anything; None: any batch
            will do. What training takes where its setting of that name is left out.
        ramp: share of the margin in force, 0..1. Training may start at 0 and raise it, as large margins start slowly;
            a loss without margin takes no notice.

    It is computed in float32 even under autocast: bfloat16 resolves a cosine near 1 to 1/256 only, which is coarser than
    the margins' effect there.
    """

    images_per_identity: ClassVar[int | None] = None

    def __init__(self, embedding_dim: int, num_classes: int) -> None:
        super().__init__()
        if embedding_dim < 1 or num_classes < 1:
            raise WorkbenchError(f"embedding_dim and num_classes must be positive, got {embedding_dim} and {num_classes}")
        self.embedding_dim = embedding_dim
        self.num_classes = num_classes
        self.ramp = 1.0

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """The loss of the batch.

        Args:
            embeddings: (N, D) floats.
            labels: (N,) int64 in 0..C-1.

        Returns:
            A scalar; 0, still attached to the graph, for an empty batch.

        Raises:
            WorkbenchError: shapes or types do not fit, or a label is out of range.
        """
        self._check(embeddings, labels)
        with torch.autocast(embeddings.device.type, enabled=False):
            if len(labels) == 0:
                return sum((parameter.sum() * 0.0 for parameter in self.parameters()), embeddings.float().sum() * 0.0)
            return self.value(_at_least_float32(embeddings), labels)

    @abstractmethod
    def value(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """(N, D) float32 or float64, (N,) -> the loss of a batch of at least one, as a scalar."""

    def measure(self, embeddings: Tensor, labels: Tensor) -> dict[str, float]:
        """What is worth logging of a batch, beside the loss: columns of metrics.jsonl. Called after the training step."""
        return {}

    def extra_repr(self) -> str:
        return f"embedding_dim={self.embedding_dim}, num_classes={self.num_classes}"

    def _check(self, embeddings: Tensor, labels: Tensor | None = None) -> None:
        if embeddings.ndim != 2 or embeddings.shape[1] != self.embedding_dim:
            raise WorkbenchError(f"embeddings have shape {tuple(embeddings.shape)}, expected (N, {self.embedding_dim})")
        if not embeddings.is_floating_point():
            raise WorkbenchError(f"embeddings are {embeddings.dtype}, expected a floating-point type")
        if labels is None:
            return
        if labels.dtype != torch.int64 or labels.shape != embeddings.shape[:1]:
            raise WorkbenchError(
                f"labels are {labels.dtype} of shape {tuple(labels.shape)}, expected int64 of shape ({len(embeddings)},)"
            )
        # On a GPU looking at the values would wait for the device at every step; CUDA's own assertion guards there.
        if labels.device.type == "cpu" and not torch.compiler.is_compiling() and len(labels):
            low, high = int(labels.min()), int(labels.max())
            if low < 0 or high >= self.num_classes:
                raise WorkbenchError(f"labels run from {low} to {high}, expected 0 to {self.num_classes - 1}")


class ClassificationLoss(Loss):
    """Cross-entropy of a classifier with one trainable centre (prototype) per class.

    Args:
        embedding_dim, num_classes: as in `Loss`.

    Attributes:
        weight: (C, D) class centres.
    """

    def __init__(self, embedding_dim: int, num_classes: int) -> None:
        super().__init__(embedding_dim, num_classes)
        self.weight = nn.Parameter(torch.empty(num_classes, embedding_dim))
        nn.init.xavier_normal_(self.weight)

    def value(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Mean cross-entropy of the batch."""
        return F.cross_entropy(self.training_logits(embeddings, labels), labels)

    def predict(self, embeddings: Tensor) -> Tensor:
        """Logits as they stand at test time, without margin: (N, D) -> (N, C). Labels are never an input."""
        self._check(embeddings)
        with torch.autocast(embeddings.device.type, enabled=False):
            return self.logits(_at_least_float32(embeddings))

    @abstractmethod
    def logits(self, embeddings: Tensor) -> Tensor:
        """(N, D) -> (N, C) logits without margin."""

    def training_logits(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """(N, D), (N,) -> (N, C) logits that the cross-entropy sees in training."""
        return self.logits(embeddings)

    @torch.no_grad()
    def cosines(self, embeddings: Tensor) -> Tensor:
        """Cosine of each embedding to each class centre: (N, D) -> (N, C) in [-1, 1]."""
        return _cosines(_at_least_float32(embeddings), self.weight)

    @torch.no_grad()
    def measure(self, embeddings: Tensor, labels: Tensor) -> dict[str, float]:
        """Accuracy without margin, and angles to the own class centre in degrees."""
        own = self.cosines(embeddings).gather(1, labels[:, None]).clamp(-1, 1).acos().rad2deg()
        return {
            "accuracy": (self.predict(embeddings).argmax(1) == labels).float().mean().item(),
            "target_angle_mean": own.mean().item(),
            "target_angle_std": own.std(correction=0).item(),
        }


class MarginSoftmax(ClassificationLoss):
    """Softmax over scaled cosines, where a margin makes the target class harder: logit s * margin(cos theta_y).

    Args:
        embedding_dim, num_classes: as in `ClassificationLoss`.
        s: scale of the logits, > 0.
        m: size of the margin; what it does is the subclass's.
    """

    def __init__(self, embedding_dim: int, num_classes: int, s: float, m: float) -> None:
        super().__init__(embedding_dim, num_classes)
        if not (math.isfinite(s) and s > 0):
            raise WorkbenchError(f"scale s must be a positive number, got {s}")
        if not (math.isfinite(m) and m >= 0):
            raise WorkbenchError(f"margin m must be a number >= 0, got {m}")
        self.s = float(s)
        self.m = float(m)

    @property
    def scale(self) -> float | Tensor:
        """The scale in force."""
        return self.s

    @abstractmethod
    def margin(self, cosine: Tensor) -> Tensor:
        """The margin curve psi: cosines to the own class centre -> what stands in their place, element by element."""

    def target_logit(self, cosine: Tensor) -> Tensor:
        """s * psi(cosine), the logit of the own class, for any shape of cosines in [-1, 1]: the loss's curve, for plots."""
        return self.scale * self.margin(_at_least_float32(cosine))

    def logits(self, embeddings: Tensor) -> Tensor:
        return self.scale * _cosines(embeddings, self.weight)

    def training_logits(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        cosines = _cosines(embeddings, self.weight)
        own = labels[:, None]
        return self.scale * cosines.scatter(1, own, self.margin(cosines.gather(1, own)))

    def measure(self, embeddings: Tensor, labels: Tensor) -> dict[str, float]:
        """As for every classifier; the share of the margin and the scale in force."""
        return super().measure(embeddings, labels) | {"margin_ramp": self.ramp, "scale": float(self.scale)}

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, s={self.s:g}, m={self.m:g}"


def sine(cosine: Tensor) -> Tensor:
    """sin theta >= 0 from cos theta, with a finite derivative everywhere.

    The derivative -cos/sin grows without bound towards theta = 0 and pi; at the two points themselves it is taken as 0.
    In between float32 cannot come closer than sin theta = 2.4e-4, and the derivative of the cosine with respect to the
    embedding shrinks by the same factor, so the product stays of order 1.
    """
    return (1.0 - cosine * cosine).clamp_min(torch.finfo(cosine.dtype).tiny).sqrt()


def _at_least_float32(values: Tensor) -> Tensor:
    return values if values.dtype == torch.float64 else values.float()


def _cosines(embeddings: Tensor, weight: Tensor) -> Tensor:
    # Rounding can leave a product of unit vectors at 1 + 1e-7, where sin theta is not defined. A zero embedding has no
    # direction: normalize leaves it at 0, so all its cosines are 0.
    return F.linear(F.normalize(embeddings), F.normalize(weight.to(embeddings.dtype))).clamp(-1.0, 1.0)
