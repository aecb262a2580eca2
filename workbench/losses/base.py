"""What losses share: the check of a batch; class centres, cosines, cross-entropy. A margin says only what it changes."""

from __future__ import annotations

import copy
import math
from abc import abstractmethod
from typing import ClassVar, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from workbench.errors import WorkbenchError, unknown_name
from workbench.losses.head import (
    PLAIN_LOGITS,
    HeadName,
    Others,
    Reduction,
    cosines,
    plain,
    sample_classes,
    streamed,
    unit,
)

HeadScale = Literal["trained", "none"]
"""What a loss asks of the batch normalisation that closes the network: values of the backbones' option `scale`."""
FORGOTTEN = 0.02
"""Of what a moving average started with, the share that no longer matters."""


class Term(nn.Module):
    """Something added to a loss, times a weight.

    Args:
        weight: what it is multiplied with, >= 0.

    Attributes:
        images_per_identity, ramp, formula, paper: as of a `Loss`.
        needs_centres: only a loss with class centres can have it.
    """

    needs_centres: ClassVar[bool] = False
    images_per_identity: int | None = None
    formula: ClassVar[str] = ""
    paper: ClassVar[str] = ""

    def __init__(self, weight: float) -> None:
        super().__init__()
        self.weight = in_range("weight", weight, 0.0)
        self.ramp = 1.0

    @abstractmethod
    def forward(self, embeddings: Tensor, labels: Tensor, loss: Loss) -> Tensor:
        """(N, D) float32 or float64, (N,), the loss it is added to -> a scalar, without the weight."""

    def measure(self, embeddings: Tensor, labels: Tensor) -> dict[str, float]:
        """As of a `Loss`."""
        return {}

    def extra_repr(self) -> str:
        return f"weight={self.weight:g}"


class Reweighting(nn.Module):
    """Which samples of a batch count, and how much: (N,) losses of the samples -> those whose mean is trained on.

    Attributes:
        formula, paper: as of a `Loss`.
    """

    formula: ClassVar[str] = ""
    paper: ClassVar[str] = ""

    @abstractmethod
    def forward(self, losses: Tensor) -> Tensor:
        """(N,) losses >= 0, N >= 1 -> (M,) with 1 <= M <= N."""


class Loss(nn.Module):
    """A number for a batch of labelled embeddings: all that training asks of a loss.

    Args:
        embedding_dim: length D of an embedding, > 0.
        num_classes: number C of classes, > 0.

    Attributes:
        formula: the loss, or the logit of the own class, in a line.
        paper: authors, title, venue and year, in a line.
        images_per_identity: images of an identity that a batch must hold for the loss to say anything; None: any batch
            will do. What training takes where its setting of that name is left out.
        head_scale: what the network's closing batch normalisation should do with the lengths of embeddings, because the loss
            looks at them (the backbones' option `scale`); None: the loss does not look at them, and whatever the backbone's
            authors do is right.
        ramp: share of the margin in force, 0..1. Training may start at 0 and raise it, as large margins start slowly;
            a loss without margin takes no notice.
        terms: what is added to it, by name (`softmax+center`).

    It is computed in float32 even under autocast: bfloat16 resolves a cosine near 1 to 1/256 only, which is coarser than
    the margins' effect there.
    """

    formula: ClassVar[str] = ""
    paper: ClassVar[str] = ""
    images_per_identity: int | None = None
    head_scale: ClassVar[HeadScale | None] = None

    def __init__(self, embedding_dim: int, num_classes: int) -> None:
        super().__init__()
        if embedding_dim < 1 or num_classes < 1:
            raise WorkbenchError(
                f"embedding_dim and num_classes must be positive, got {embedding_dim} and {num_classes}"
            )
        self.embedding_dim = embedding_dim
        self.num_classes = num_classes
        self.ramp = 1.0
        self.terms = nn.ModuleDict()
        self._values: dict[str, Tensor] = {}

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
        self._check(embeddings)
        self._check_labels(embeddings, labels)
        with torch.autocast(embeddings.device.type, enabled=False):
            if len(labels) == 0:
                return sum(
                    (parameter.sum() * 0.0 for parameter in self.parameters()),
                    embeddings.float().sum() * 0.0,
                )
            embeddings = at_least_float32(embeddings)
            if self.training:
                with torch.no_grad():
                    self.observe(embeddings.detach(), labels)
            total = self.value(embeddings, labels)
            for name, term in self._terms():
                term.ramp = self.ramp
                value = term(embeddings, labels, self)
                self._values[name] = value.detach()
                total = total + term.weight * value
            return total

    def observe(self, embeddings: Tensor, labels: Tensor) -> None:
        """Update what the loss keeps count of (a buffer, so that it is saved with the weights). Called without gradient
        before each training batch; not in evaluation mode."""

    @abstractmethod
    def value(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """(N, D) float32 or float64, (N,) -> the loss of a batch of at least one, as a scalar, without added terms."""

    def advice(self, steps: int) -> list[str]:
        """What somebody who trains with it for that many steps should know beforehand: sentences, most often none."""
        return []

    @torch.no_grad()
    def measure(self, embeddings: Tensor, labels: Tensor) -> dict[str, float]:
        """What is worth logging of a batch, beside the loss: columns of metrics.jsonl. Called after the training step.

        Here: the values of added terms, without their weights, in the batch seen last.
        """
        row = {name: value.item() for name, value in self._values.items()}
        for _, term in self._terms():
            row |= term.measure(embeddings, labels)
        return row

    def add(self, name: str, part: Term | Reweighting) -> None:
        """Add a term under a name.

        Raises:
            WorkbenchError: the name is taken, or the loss cannot have such a part.
        """
        if not isinstance(part, Term):
            raise WorkbenchError(
                f"{name!r} weighs the samples of a classification loss; {type(self).__name__} is none"
            )
        if part.needs_centres and not isinstance(self, ClassificationLoss):
            raise WorkbenchError(
                f"{name!r} needs class centres, which {type(self).__name__} has not"
            )
        if name in self.terms:
            raise WorkbenchError(f"{name!r} is added twice")
        self.terms[name] = part
        wanted = (self.images_per_identity, part.images_per_identity)
        self.images_per_identity = max(
            (count for count in wanted if count is not None), default=None
        )

    def _terms(self) -> list[tuple[str, Term]]:
        return [(name, term) for name, term in self.terms.items() if isinstance(term, Term)]

    def extra_repr(self) -> str:
        return f"embedding_dim={self.embedding_dim}, num_classes={self.num_classes}"

    def _check(self, embeddings: Tensor) -> None:
        _check_type("embeddings", embeddings)
        if embeddings.ndim != 2 or embeddings.shape[1] != self.embedding_dim:
            raise WorkbenchError(
                f"embeddings have shape {tuple(embeddings.shape)}, expected (N, {self.embedding_dim})"
            )
        if not embeddings.is_floating_point():
            raise WorkbenchError(
                f"embeddings are {embeddings.dtype}, expected a floating-point type"
            )

    def _check_labels(self, embeddings: Tensor, labels: Tensor) -> None:
        _check_type("labels", labels)
        if labels.dtype != torch.int64 or labels.shape != embeddings.shape[:1]:
            raise WorkbenchError(
                f"labels are {labels.dtype} of shape {tuple(labels.shape)}, expected int64 of shape ({len(embeddings)},)"
            )
        # On a GPU looking at the values would wait for the device at every step; CUDA's own assertion guards there.
        if labels.device.type == "cpu" and not torch.compiler.is_compiling() and len(labels):
            low, high = int(labels.min()), int(labels.max())
            if low < 0 or high >= self.num_classes:
                raise WorkbenchError(
                    f"labels run from {low} to {high}, expected 0 to {self.num_classes - 1}"
                )


class ClassificationLoss(Loss):
    """Cross-entropy of a classifier with one trainable centre (prototype) per class.

    Args:
        embedding_dim, num_classes: as in `Loss`.

    Attributes:
        weight: (C, D) class centres.
        head: how the other classes are gone through, see `use_head`.
        sample_rate: share of the classes that a sampled head sees.
        reweightings: which samples count (`normface+ohem`), by name.
    """

    can_stream: ClassVar[bool] = True

    def __init__(self, embedding_dim: int, num_classes: int) -> None:
        super().__init__(embedding_dim, num_classes)
        self.weight = nn.Parameter(torch.empty(num_classes, embedding_dim))
        nn.init.xavier_normal_(self.weight)
        self.head: HeadName = "auto"
        self.sample_rate = 0.1
        self.reweightings = nn.ModuleDict()

    def use_head(self, head: HeadName = "auto", sample_rate: float = 0.1) -> None:
        """Choose how the other classes are gone through.

        Args:
            head: "plain" has the (N, C) logits in memory; "streamed" goes through the classes in chunks and gives the same
                to float32 rounding, but has no second derivatives and knows no `torch.func` transforms; "sampled" sees, in
                training, the batch's own classes and a random part of the others, which saves time: the gradient still has a
                row for every class, and momentum and weight decay move them all; "auto" is plain for few classes and
                streamed for many.
            sample_rate: that part, as a share of all classes, 0..1.

        Raises:
            WorkbenchError: unknown head, a share out of range, or a loss that cannot be streamed.
        """
        if head not in get_args(HeadName):
            raise unknown_name("head", head, get_args(HeadName))
        if head == "streamed" and not self.can_stream:
            raise WorkbenchError(
                f"{type(self).__name__} cannot be streamed, give head 'plain', 'sampled' or 'auto'"
            )
        self.head = head
        self.sample_rate = in_range("sample_rate", sample_rate, 0.0, 1.0)

    @property
    def classes_seen(self) -> int:
        """Number of classes that the loss of a training batch goes over, as far as it does not depend on the batch."""
        share = self.sample_rate if self.head == "sampled" else 1.0
        return max(math.ceil(share * self.num_classes), 1)

    def add(self, name: str, part: Term | Reweighting) -> None:
        if not isinstance(part, Reweighting):
            super().add(name, part)
        elif name in self.reweightings:
            raise WorkbenchError(f"{name!r} is added twice")
        else:
            self.reweightings[name] = part

    def value(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Mean over the batch, or over what its reweighting leaves of it."""
        losses = self.per_sample(embeddings, labels)
        for reweighting in self.reweightings.values():
            losses = reweighting(losses)
        return losses.mean()

    @abstractmethod
    def per_sample(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """(N, D), (N,) -> (N,) the loss of each sample, >= 0."""

    def against_others(
        self,
        queries: Tensor,
        labels: Tensor,
        *,
        scale: float | Tensor = 1.0,
        bias: Tensor | None = None,
        others: Others | None = None,
        normalised: bool = True,
        reduction: Reduction = "log_sum_exp",
    ) -> tuple[Tensor, Tensor]:
        """Products with the own class centre, and the reduced logits of all others: see `head.plain`, and `use_head`."""
        weight = self.weight.to(queries.dtype)
        bias = None if bias is None else bias.to(queries.dtype)
        scale = scale.to(queries.dtype) if isinstance(scale, Tensor) else scale
        if self.head == "sampled" and self.training:
            rows, labels = sample_classes(labels, self.num_classes, self.sample_rate)
            weight, bias = (
                weight.index_select(0, rows),
                None if bias is None else bias.index_select(0, rows),
            )
        can_stream = self.can_stream and not _trains(others)
        if self.head == "streamed" and not can_stream:
            raise WorkbenchError(
                f"{type(self).__name__}: `others` has a trained parameter; give head 'plain', which trains it"
            )
        many = can_stream and len(queries) * len(weight) > PLAIN_LOGITS
        go = streamed if self.head == "streamed" or (self.head != "plain" and many) else plain
        return go(queries, weight, labels, scale, bias, others, normalised, reduction)

    def predict(self, embeddings: Tensor) -> Tensor:
        """Logits as they stand at test time, without margin: (N, D) -> (N, C). Labels are never an input."""
        self._check(embeddings)
        with torch.autocast(embeddings.device.type, enabled=False):
            return self.logits(at_least_float32(embeddings))

    @abstractmethod
    def logits(self, embeddings: Tensor, classes: slice = slice(None)) -> Tensor:
        """(N, D) -> (N, C) logits without margin, or those of some classes."""

    @torch.no_grad()
    def predicted_class(self, embeddings: Tensor) -> Tensor:
        """(N, D) -> (N,) the class of the highest logit, without margin. Takes no (N, C) memory."""
        self._check(embeddings)
        embeddings = at_least_float32(embeddings)
        best, found = (
            embeddings.new_full((len(embeddings),), -torch.inf),
            embeddings.new_zeros(len(embeddings), dtype=torch.int64),
        )
        step = max(PLAIN_LOGITS // max(len(embeddings), 1), 1)
        with torch.autocast(embeddings.device.type, enabled=False):
            for begin in range(0, self.num_classes, step):
                high, where = self.logits(embeddings, slice(begin, begin + step)).max(1)
                found = torch.where(high > best, where + begin, found)
                best = torch.maximum(high, best)
        return found

    @property
    def centres(self) -> Tensor:
        """(C, D) one centre of each class, for angles and pictures."""
        return self.weight

    @torch.no_grad()
    def cosines(self, embeddings: Tensor) -> Tensor:
        """Cosine of each embedding to each class centre: (N, D) -> (N, C) in [-1, 1]."""
        self._check(embeddings)
        embeddings = at_least_float32(embeddings)
        return cosines(unit(embeddings), self.weight.to(embeddings.dtype))

    @torch.no_grad()
    def own_cosines(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Cosine of each embedding to its own class centre: (N, D), (N,) -> (N,) in [-1, 1].

        Raises:
            WorkbenchError: as of `forward`.
        """
        self._check(embeddings)
        self._check_labels(embeddings, labels)
        embeddings = at_least_float32(embeddings)
        own = unit(self.weight[labels].to(embeddings.dtype)).view(
            len(labels), self.weight[0].numel() // self.embedding_dim, -1
        )
        return torch.einsum("nkd,nd->nk", own, unit(embeddings)).amax(1).clamp(-1.0, 1.0)

    @torch.no_grad()
    def measure(self, embeddings: Tensor, labels: Tensor) -> dict[str, float]:
        """Accuracy without margin, and angles to the own class centre in degrees."""
        own = self.own_cosines(embeddings, labels).acos().rad2deg()
        return super().measure(embeddings, labels) | {
            "accuracy": (self.predicted_class(embeddings) == labels).float().mean().item(),
            "target_angle_mean": own.mean().item(),
            "target_angle_std": own.std(correction=0).item(),
        }


class MarginSoftmax(ClassificationLoss):
    """Softmax over scaled cosines, where a margin makes the target class harder: logit s * margin(cos theta_y).

    A margin that only bends the curve of the own class says `margin`. One that depends on the embedding too says
    `own_margin`, one that treats other classes differently `others`, one whose scale is no number `scales`.

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

    def scales(self, embeddings: Tensor) -> float | Tensor:
        """The scale for each embedding: (N, D) -> a number, or an (N, 1) tensor."""
        return self.scale

    def margin(self, cosine: Tensor) -> Tensor:
        """The margin curve psi: cosines to the own class centre -> what stands in their place, element by element."""
        raise NotImplementedError(f"{type(self).__name__} does not say margin(cosine)")

    def own_margin(self, cosine: Tensor, embeddings: Tensor) -> Tensor:
        """`margin` where it depends on more than the angle: (N, 1) cosines to the own class, (N, D) -> (N, 1)."""
        return self.margin(cosine)

    def others(self, cosine: Tensor, own: Tensor) -> Tensor:
        """What stands in place of the cosines to other classes, element by element.

        A streamed head calls it again in backward, on a copy of the loss as it was in forward, and trains no parameter in it
        (`auto` is plain then).

        Args:
            cosine: (N, K) cosines to K classes.
            own: (N, 1) cosines to the own class, without gradient.
        """
        return cosine

    def target_logit(self, cosine: Tensor) -> Tensor:
        """s * psi(cosine), the logit of the own class, for any shape of cosines in [-1, 1]: the loss's curve, for plots."""
        return self.scale * self.margin(at_least_float32(cosine))

    def logits(self, embeddings: Tensor, classes: slice = slice(None)) -> Tensor:
        return self.scales(embeddings) * cosines(
            unit(embeddings), self.weight[classes].to(embeddings.dtype)
        )

    def per_sample(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Cross-entropy: log(1 + sum over the other classes of exp(logit_j - logit_y))."""
        scale = self.scales(embeddings)
        own, rest = self.against_others(
            unit(embeddings), labels, scale=scale, others=self.frozen_others()
        )
        target = scale * self.own_margin(own[:, None], embeddings)
        return F.softplus(rest - target[:, 0])

    def frozen_others(self) -> Others | None:
        """`others` of a copy of the loss as it is now; None where it changes nothing."""
        if type(self).others is MarginSoftmax.others:
            return None
        frozen = copy.copy(self)  # what it keeps count of may move on before backward comes
        frozen._buffers = {
            name: None if buffer is None else buffer.clone()
            for name, buffer in self._buffers.items()
        }
        return frozen.others

    def measure(self, embeddings: Tensor, labels: Tensor) -> dict[str, float]:
        """As for every classifier; the share of the margin and the scale in force."""
        scale = self.scale.item() if isinstance(self.scale, Tensor) else self.scale
        return super().measure(embeddings, labels) | {"margin_ramp": self.ramp, "scale": scale}

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, s={self.s:g}, m={self.m:g}"


def sine(cosine: Tensor) -> Tensor:
    """sin theta >= 0 from cos theta, with a finite derivative everywhere.

    The derivative -cos/sin grows without bound towards theta = 0 and pi; at the two points themselves it is taken as 0.
    In between float32 cannot come closer than sin theta = 3.5e-4, and the derivative of the cosine with respect to the
    embedding shrinks by the same factor, so the product stays of order 1.
    """
    return (1.0 - cosine * cosine).clamp_min(torch.finfo(cosine.dtype).tiny).sqrt()


def angle(cosine: Tensor) -> Tensor:
    """theta in [0, pi] from cos theta, with a finite derivative everywhere: see `sine`."""
    return torch.atan2(sine(cosine), cosine)


def at_least_float32(values: Tensor) -> Tensor:
    """float64 stays, anything else becomes float32."""
    return values if values.dtype == torch.float64 else values.float()


def _check_type(what: str, value: object) -> None:
    if not isinstance(value, Tensor):
        raise WorkbenchError(f"{what} are of type {type(value).__name__}, expected a tensor")


def moved(average: Tensor, value: Tensor, rate: float) -> Tensor:
    """A moving average after one more value; one that is not finite, as of a batch that overflowed, leaves it as it was."""
    step = rate * (value - average)
    return average + torch.where(step.isfinite(), step, 0.0).to(average.dtype)


def _trains(others: Others | None) -> bool:
    """Whether what is made of the other classes' cosines depends on something that takes a gradient."""
    if others is None or not torch.is_grad_enabled():
        return False
    owner = getattr(others, "__self__", None)
    like = next(owner.parameters(), None) if isinstance(owner, nn.Module) else None
    probe = torch.zeros(1, 1) if like is None else like.new_zeros(1, 1)
    return others(probe, probe).requires_grad


def in_range(name: str, value: float, low: float, high: float = math.inf) -> float:
    """The value as a number.

    Raises:
        WorkbenchError: it is not a finite number between the bounds, which are allowed.
    """
    if not (isinstance(value, int | float) and math.isfinite(value) and low <= value <= high):
        bounds = f">= {low:g}" if high == math.inf else f"from {low:g} to {high:g}"
        raise WorkbenchError(f"{name} must be a number {bounds}, got {value!r}")
    return float(value)
