"""Base classes of losses: `Loss`, `ClassificationLoss` with class centres, and `MarginSoftmax`.

A loss with a margin is a subclass of `MarginSoftmax` that defines `margin(cosine)`. `Term` and
`Reweighting` are parts that are added to a loss.
"""

from __future__ import annotations

import copy
import math
from abc import abstractmethod
from collections.abc import Callable
from typing import ClassVar, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from workbench.errors import WorkbenchError, unknown_name
from workbench.losses.guessing import (
    Guess,
    RandomCosines,
    expected,
    expected_softmax_loss,
    random_cosines,
)
from workbench.losses.head import (
    MAX_PLAIN_LOGITS,
    HeadName,
    NonTargetFunction,
    Reduction,
    cosines,
    plain,
    sample_classes,
    streamed,
    sum_of_non_targets,
    unit,
)

HeadScale = Literal["trained", "none"]
"""What a loss requires of the last batch normalisation of the network: a value of the backbones'
option `scale`."""
LARGEST_REST = 0.1
"""Loss that may remain with perfect embeddings before the scale counts as too small. It is that of
a target class with a probability of 0.9."""
NEGLIGIBLE = 0.02
"""Weight below which a term of a weighted mean no longer matters, such as the initial value in a
moving average."""


class Term(nn.Module):
    """A term that is added to a loss, multiplied by a weight.

    Subclasses define `forward(embeddings, labels, loss)`.

    Args:
        weight: Factor of the term in the total loss, >= 0.

    Attributes:
        needs_centres: Whether the term can only be added to a loss with class centres.
        images_per_identity: As in `Loss`.
        ramp: As in `Loss`.
        formula: The term in one line.
        paper: As in `Loss`.

    Raises:
        WorkbenchError: If the weight is negative or not finite.

    Example:
        >>> import torch
        >>> class Length(Term):
        ...     def forward(self, embeddings, labels, loss):
        ...         return embeddings.square().sum(1).mean()
        >>> Length(weight=0.1)(torch.ones(2, 3), torch.tensor([0, 1]), loss=None)
        tensor(3.)
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
        """Computes the term, without its weight.

        Args:
            embeddings: (N, D) float32 or float64 embeddings.
            labels: (N,) int64 labels.
            loss: The loss that the term is added to.

        Returns:
            A scalar.
        """

    def measure(self, embeddings: Tensor, labels: Tensor) -> dict[str, float]:
        """Returns figures of a batch to log; see `Loss.measure`."""
        return {}

    def guess(self, embeddings: Tensor, labels: Tensor) -> Guess | None:
        """Returns the value of the term for a network that guesses; see `Loss.guess`.

        None means that the term keeps its value of the last batch.
        """
        return None

    def extra_repr(self) -> str:
        """Returns the options for `repr`."""
        return f"weight={self.weight:g}"


class Reweighting(nn.Module):
    """Selects or weights the samples of a batch before their losses are averaged.

    Subclasses define `forward(losses)`.

    Attributes:
        formula: The reweighted loss in one line.
        paper: As in `Loss`.

    Example:
        >>> import torch
        >>> class Hardest(Reweighting):
        ...     def forward(self, losses):
        ...         return losses.max()[None]
        >>> Hardest()(torch.tensor([0.5, 2.0, 1.0]))
        tensor([2.])
    """

    formula: ClassVar[str] = ""
    paper: ClassVar[str] = ""

    @abstractmethod
    def forward(self, losses: Tensor) -> Tensor:
        """Returns the losses whose mean is minimised.

        Args:
            losses: (N,) losses of the samples, >= 0, with N >= 1.

        Returns:
            (M,) losses with 1 <= M <= N.
        """


class Loss(nn.Module):
    """Base class of all losses: maps a batch of labelled embeddings to a scalar.

    Subclasses define `value(embeddings, labels)`. The loss is computed in float32 even under
    autocast, because bfloat16 resolves a cosine near 1 only to 1/256, which is coarser than the
    effect of a margin there.

    Args:
        embedding_dim: Length D of an embedding, >= 1.
        num_classes: Number C of classes, >= 1.

    Attributes:
        formula: The loss, or the target logit, in one line.
        paper: Authors, title, venue and year in one line.
        images_per_identity: Number of images of an identity that a batch must contain for the loss
            to be useful, or None if any batch will do. Training uses it if its own setting
            `images_per_identity` is not set.
        head_scale: The value of the backbones' option `scale` that the loss requires because it
            depends on the lengths of the embeddings. None if it does not depend on them.
        ramp: Share of the margin that is applied, 0..1. Training can increase it from 0 to 1,
            because large margins are hard to start with. A loss without a margin ignores it.
        terms: The added terms by name, as in `softmax+center`.

    Raises:
        WorkbenchError: If a size is not positive.

    Example:
        >>> import torch
        >>> class Lengths(Loss):
        ...     def value(self, embeddings, labels):
        ...         return embeddings.norm(dim=1).mean()
        >>> loss = Lengths(embedding_dim=2, num_classes=3)
        >>> loss(torch.tensor([[3.0, 4.0]]), torch.tensor([2]))
        tensor(5.)
    """

    formula: ClassVar[str] = ""
    paper: ClassVar[str] = ""
    images_per_identity: int | None = None
    head_scale: ClassVar[HeadScale | None] = None

    def __init__(self, embedding_dim: int, num_classes: int) -> None:
        super().__init__()
        if embedding_dim < 1 or num_classes < 1:
            raise WorkbenchError(
                "embedding_dim and num_classes must be positive, "
                f"got {embedding_dim} and {num_classes}"
            )
        self.embedding_dim = embedding_dim
        self.num_classes = num_classes
        self.ramp = 1.0
        self._label_smoothing = 0.0
        self.terms = nn.ModuleDict()
        self._term_values: dict[str, Tensor] = {}

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Computes the loss of a batch, including the added terms.

        Args:
            embeddings: (N, D) floating-point embeddings.
            labels: (N,) int64 labels in 0..C-1.

        Returns:
            A scalar. For an empty batch it is 0 and still attached to the graph.

        Raises:
            WorkbenchError: If a shape or type does not fit, or a label is out of range.
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
                self._term_values[name] = value.detach()
                total = total + term.weight * value
            return total

    @property
    def label_smoothing(self) -> float:
        """Share of the target distribution that is spread evenly over all classes; 0 by default.

        It is the option of the same name of `torch.nn.functional.cross_entropy` (Szegedy et al.,
        "Rethinking the Inception architecture for computer vision", CVPR 2016, section 7), applied
        to the logits with margin. With the head "sampled", the classes are those of the sample.
        Reweightings such as `ohem` and `focal` act on the smoothed losses.

        Setting it raises a `WorkbenchError` if it is not from 0 to below 1, or if the loss is no
        softmax cross-entropy.

        Example:
            >>> import workbench as wb
            >>> loss = wb.losses.create("arcface", embedding_dim=8, num_classes=10)
            >>> loss.label_smoothing = 0.1
        """
        return self._label_smoothing

    @label_smoothing.setter
    def label_smoothing(self, share: float) -> None:
        share = in_range("label_smoothing", share, 0.0, 1.0)
        if share == 1:
            raise WorkbenchError("label_smoothing must be below 1, so that labels have an effect")
        if share and not self.can_smooth:
            raise WorkbenchError(
                f"label_smoothing is {share:g}, but {type(self).__name__} is no softmax "
                "cross-entropy and has no distribution over classes to smooth; set it to 0"
            )
        self._label_smoothing = share

    @property
    def can_smooth(self) -> bool:
        """Whether `label_smoothing` is supported: whether the loss is a softmax cross-entropy."""
        return False

    def observe(self, embeddings: Tensor, labels: Tensor) -> None:
        """Updates the statistics of the loss, such as a moving average.

        It is called without gradient before the loss of each training batch is computed, and not in
        evaluation mode. Statistics belong in buffers, so that they are saved with the weights.

        Args:
            embeddings: (N, D) float32 or float64 embeddings.
            labels: (N,) int64 labels.
        """

    @abstractmethod
    def value(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Computes the loss of a batch without the added terms.

        Args:
            embeddings: (N, D) float32 or float64 embeddings, N >= 1.
            labels: (N,) int64 labels.

        Returns:
            A scalar.
        """

    def advice(self, steps: int) -> list[str]:
        """Returns warnings about training with this loss for a number of steps.

        Args:
            steps: Number of training steps.

        Returns:
            Sentences for the user; usually none.
        """
        return []

    @torch.no_grad()
    def measure(self, embeddings: Tensor, labels: Tensor) -> dict[str, float]:
        """Returns figures of a batch to log in addition to the loss: columns of metrics.jsonl.

        It is called after the training step. The base class returns the values of the added terms
        in the last batch, without their weights, and what the terms measure themselves.

        Args:
            embeddings: (N, D) embeddings.
            labels: (N,) int64 labels.

        Returns:
            Figures by column name.
        """
        row = {name: value.item() for name, value in self._term_values.items()}
        for _, term in self._terms():
            row |= term.measure(embeddings, labels)
        return row

    @torch.no_grad()
    def value_of_guess(self, embeddings: Tensor, labels: Tensor) -> Guess | None:
        """Returns the value of the loss for a network that guesses, under the current margin.

        A loss that is not below the value of a uniform guess does not show that the network tells
        identities apart. With a margin that value is large: ArcFace with its defaults has 12.4 for
        100 classes, where softmax has ln 100 = 4.6. A random guess is the state before training.

        The value is an expectation over random directions, computed without random numbers. The
        lengths of the embeddings, the class centres' lengths (for `softmax`), biases, the scale and
        `ramp` are those of the loss as it is. Added terms that do not define a guess keep their
        value of the last batch.

        Args:
            embeddings: (N, D) embeddings of a batch. Only their lengths are used.
            labels: (N,) int64 labels of the batch.

        Returns:
            The values, or None if the loss does not define them or the batch is empty.

        Raises:
            WorkbenchError: If a shape or type does not fit, or a label is out of range.

        Example:
            >>> import torch
            >>> import workbench as wb
            >>> loss = wb.losses.create("arcface", embedding_dim=128, num_classes=100)
            >>> guess = loss.value_of_guess(torch.randn(32, 128), torch.arange(32))
            >>> f"{guess.random:.1f} {guess.uniform:.1f}"
            '45.3 12.4'
        """
        self._check(embeddings)
        self._check_labels(embeddings, labels)
        if len(labels) == 0:
            return None
        embeddings, labels = embeddings.detach().cpu().double(), labels.cpu()
        guess = _with_scalars_on_cpu(self).guess(embeddings, labels)
        if guess is None:
            return None
        for name, term in self._terms():
            term.ramp = self.ramp
            of_term = term.guess(embeddings, labels)
            if of_term is None:
                last = self._term_values.get(name)
                value = 0.0 if last is None else last.item()
                of_term = Guess(value, value)
            pairs = zip(guess, of_term, strict=True)
            guess = Guess(*(value + term.weight * added for value, added in pairs))
        return guess

    def guess(self, embeddings: Tensor, labels: Tensor) -> Guess | None:
        """Returns the values of `value_of_guess` without the added terms; by default None.

        It is called on a copy of the loss in evaluation mode, whose buffers and parameters of one
        element are on the CPU.

        Args:
            embeddings: (N, D) float64 embeddings on the CPU, N >= 1.
            labels: (N,) int64 labels on the CPU.
        """
        return None

    def add(self, name: str, part: Term | Reweighting) -> None:
        """Adds a part to the loss.

        Args:
            name: Name of the part, such as "center".
            part: A term. A `ClassificationLoss` also accepts a reweighting.

        Raises:
            WorkbenchError: If a part of that name was already added, or the loss does not support
                the part.
        """
        if not isinstance(part, Term):
            raise WorkbenchError(
                f"{name!r} weights the samples of a classification loss, "
                f"and {type(self).__name__} is not one"
            )
        if part.needs_centres and not isinstance(self, ClassificationLoss):
            raise WorkbenchError(
                f"{name!r} needs class centres, but {type(self).__name__} has none"
            )
        if name in self.terms:
            raise WorkbenchError(f"{name!r} is added twice")
        self.terms[name] = part
        counts = (self.images_per_identity, part.images_per_identity)
        self.images_per_identity = max(
            (count for count in counts if count is not None), default=None
        )

    def _terms(self) -> list[tuple[str, Term]]:
        return [(name, term) for name, term in self.terms.items() if isinstance(term, Term)]

    def extra_repr(self) -> str:
        """Returns the sizes and options for `repr`."""
        return f"embedding_dim={self.embedding_dim}, num_classes={self.num_classes}"

    def _check(self, embeddings: Tensor) -> None:
        _check_type("embeddings", embeddings)
        if embeddings.ndim != 2 or embeddings.shape[1] != self.embedding_dim:
            raise WorkbenchError(
                f"embeddings have shape {tuple(embeddings.shape)}, "
                f"expected (N, {self.embedding_dim})"
            )
        if not embeddings.is_floating_point():
            raise WorkbenchError(
                f"embeddings are {embeddings.dtype}, expected a floating-point type"
            )

    def _check_labels(self, embeddings: Tensor, labels: Tensor) -> None:
        _check_type("labels", labels)
        if labels.dtype != torch.int64 or labels.shape != embeddings.shape[:1]:
            raise WorkbenchError(
                f"labels are {labels.dtype} of shape {tuple(labels.shape)}, "
                f"expected int64 of shape ({len(embeddings)},)"
            )
        # On a GPU, reading the values would wait for the device at every step. There, an assertion
        # inside CUDA catches labels that are out of range.
        if labels.device.type == "cpu" and not torch.compiler.is_compiling() and len(labels):
            low, high = int(labels.min()), int(labels.max())
            if low < 0 or high >= self.num_classes:
                raise WorkbenchError(
                    f"labels run from {low} to {high}, expected 0 to {self.num_classes - 1}"
                )


class ClassificationLoss(Loss):
    """Base class of losses that classify with one trainable class centre for each class.

    Subclasses define `per_sample(embeddings, labels)` and `logits(embeddings, classes)`.

    Args:
        embedding_dim: Length D of an embedding, >= 1.
        num_classes: Number C of classes, >= 1.

    Attributes:
        weight: (C, D) class centres, trained.
        head: How the logits of the non-target classes are computed; see `use_head`.
        sample_rate: Share of the classes that the head "sampled" uses, 0..1.
        reweightings: The added reweightings by name, as in `normface+ohem`.
        can_stream: Whether the head "streamed" is supported.

    Raises:
        WorkbenchError: If a size is not positive.
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
        """Selects how the logits of the non-target classes are computed.

        Args:
            head: "plain" holds the (N, C) logits in memory. "streamed" computes them in chunks of
                classes; the result is the same up to float32 rounding, but second derivatives and
                the transforms of `torch.func` are not supported. "sampled" saves time in training
                by using only the target classes of the batch and a random sample of the others;
                the gradient still has a row for every class, and momentum and weight decay still
                change all class centres. "auto" is "plain" for few logits and "streamed" for many.
            sample_rate: Share of all classes that the head "sampled" uses, 0..1.

        Raises:
            WorkbenchError: If the head is unknown, the share is out of range, or the loss does not
                support the head.

        Example:
            >>> import workbench as wb
            >>> loss = wb.losses.create("arcface", embedding_dim=8, num_classes=1000)
            >>> loss.use_head("sampled", sample_rate=0.2)
            >>> loss.classes_seen
            200
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
        """Number of classes that the loss of a training batch uses.

        The head "sampled" uses more if the batch has more target classes.
        """
        share = self.sample_rate if self.head == "sampled" else 1.0
        return max(math.ceil(share * self.num_classes), 1)

    def add(self, name: str, part: Term | Reweighting) -> None:
        """Adds a term or a reweighting to the loss.

        Args:
            name: Name of the part, such as "ohem".
            part: The part.

        Raises:
            WorkbenchError: If a part of that name was already added.
        """
        if not isinstance(part, Reweighting):
            super().add(name, part)
        elif name in self.reweightings:
            raise WorkbenchError(f"{name!r} is added twice")
        else:
            self.reweightings[name] = part

    def value(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Returns the mean loss of the samples, after the reweightings.

        Args:
            embeddings: (N, D) float32 or float64 embeddings, N >= 1.
            labels: (N,) int64 labels.

        Returns:
            A scalar.
        """
        return self.reweighted(self.per_sample(embeddings, labels)).mean()

    def reweighted(self, losses: Tensor) -> Tensor:
        """Returns the losses of the samples after the reweightings, whose mean is minimised.

        Args:
            losses: (N,) losses.

        Returns:
            (M,) losses with 1 <= M <= N.
        """
        for reweighting in self.reweightings.values():
            losses = reweighting(losses)
        return losses

    @abstractmethod
    def per_sample(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Computes the loss of each sample.

        Args:
            embeddings: (N, D) float32 or float64 embeddings.
            labels: (N,) int64 labels.

        Returns:
            (N,) losses, >= 0.
        """

    def compare_with_centres(
        self,
        embeddings: Tensor,
        labels: Tensor,
        *,
        scale: float | Tensor = 1.0,
        bias: Tensor | None = None,
        non_target: NonTargetFunction | None = None,
        normalised: bool = True,
        reduction: Reduction = "log_sum_exp",
    ) -> tuple[Tensor, Tensor]:
        """Compares embeddings with the class centres through the selected head.

        Args:
            embeddings: (N, D) embeddings, of length 1 if `normalised`.
            labels: (N,) int64 labels.
            scale: Scale of the logits: a number, or a tensor of shape () or (N, 1).
            bias: (C,) biases, or None for no bias.
            non_target: Function that replaces the cosines to non-target classes, or None.
            normalised: Whether the class centres are scaled to length 1.
            reduction: How the non-target logits are reduced to one number.

        Returns:
            The (N,) products with the target class centre, without scale and bias, and the (N,)
            reduced non-target logits; see `head.plain`.

        Raises:
            WorkbenchError: If the head is "streamed" and `non_target` has a trained parameter.
        """
        centres, labels, bias = self._classes_of_batch(embeddings, labels, bias)
        scale = scale.to(embeddings.dtype) if isinstance(scale, Tensor) else scale
        compute = self._function_of_head(embeddings, centres, non_target)
        return compute(embeddings, centres, labels, scale, bias, non_target, normalised, reduction)

    def cross_entropy(
        self,
        embeddings: Tensor,
        labels: Tensor,
        target_logit: Callable[[Tensor], Tensor],
        *,
        scale: float | Tensor = 1.0,
        bias: Tensor | None = None,
        non_target: NonTargetFunction | None = None,
        normalised: bool = True,
    ) -> Tensor:
        """Computes the softmax cross-entropy of each sample, with label smoothing.

        Without smoothing it is log(1 + sum_j exp(z_j - z_y)), where y is the target class and the
        sum runs over the non-target classes j. A `label_smoothing` of e adds e (z_y - mean z),
        where the mean runs over all classes, or over those of the head "sampled".

        Args:
            embeddings: As in `compare_with_centres`.
            labels: As in `compare_with_centres`.
            target_logit: Function from the (N,) products with the target class centre to the (N,)
                target logits z_y.
            scale: As in `compare_with_centres`.
            bias: As in `compare_with_centres`.
            non_target: As in `compare_with_centres`.
            normalised: As in `compare_with_centres`.

        Returns:
            (N,) losses, >= 0.

        Raises:
            WorkbenchError: As in `compare_with_centres`.
        """
        centres, positions, bias = self._classes_of_batch(embeddings, labels, bias)
        scale = scale.to(embeddings.dtype) if isinstance(scale, Tensor) else scale
        arguments = (embeddings, centres, positions, scale, bias, non_target, normalised)
        compute = self._function_of_head(embeddings, centres, non_target)
        product, log_sum_exp = compute(*arguments, "log_sum_exp")
        target = target_logit(product)
        losses = F.softplus(log_sum_exp - target)
        if not self.label_smoothing:
            return losses
        mean = (target + sum_of_non_targets(*arguments)) / len(centres)
        return losses + self.label_smoothing * (target - mean)

    def _classes_of_batch(
        self, embeddings: Tensor, labels: Tensor, bias: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Returns the class centres that a batch is compared with.

        They are all of them, or a sample with the head "sampled". The (N,) positions of the target
        classes in them, and their biases, are returned with them.
        """
        centres = self.weight.to(embeddings.dtype)
        bias = None if bias is None else bias.to(embeddings.dtype)
        if self.head != "sampled" or not self.training:
            return centres, labels, bias
        classes, positions = sample_classes(labels, self.num_classes, self.sample_rate)
        bias = None if bias is None else bias.index_select(0, classes)
        return centres.index_select(0, classes), positions, bias

    def _function_of_head(
        self, embeddings: Tensor, centres: Tensor, non_target: NonTargetFunction | None
    ) -> Callable[..., tuple[Tensor, Tensor]]:
        """Returns `plain` or `streamed`, depending on the head and the number of logits."""
        can_stream = self.can_stream and not _requires_grad(non_target)
        if self.head == "streamed" and not can_stream:
            raise WorkbenchError(
                f"{type(self).__name__}: `non_target` has a trained parameter; "
                "give head 'plain', which trains it"
            )
        many_logits = len(embeddings) * len(centres) > MAX_PLAIN_LOGITS
        stream = self.head == "streamed" or (self.head != "plain" and can_stream and many_logits)
        return streamed if stream else plain

    def predict(self, embeddings: Tensor) -> Tensor:
        """Returns the logits used at test time, without margin and without labels.

        Args:
            embeddings: (N, D) embeddings.

        Returns:
            (N, C) logits.

        Raises:
            WorkbenchError: If the shape or type of the embeddings does not fit.
        """
        self._check(embeddings)
        with torch.autocast(embeddings.device.type, enabled=False):
            return self.logits(at_least_float32(embeddings))

    @abstractmethod
    def logits(self, embeddings: Tensor, classes: slice = slice(None)) -> Tensor:
        """Computes the logits without margin.

        Args:
            embeddings: (N, D) float32 or float64 embeddings.
            classes: The classes to compute; by default all of them.

        Returns:
            (N, K) logits of the K selected classes.
        """

    @torch.no_grad()
    def predicted_class(self, embeddings: Tensor) -> Tensor:
        """Returns the class with the highest logit, without holding (N, C) logits in memory.

        Args:
            embeddings: (N, D) embeddings.

        Returns:
            (N,) int64 classes.

        Raises:
            WorkbenchError: If the shape or type of the embeddings does not fit.
        """
        self._check(embeddings)
        embeddings = at_least_float32(embeddings)
        highest = embeddings.new_full((len(embeddings),), -torch.inf)
        predicted = embeddings.new_zeros(len(embeddings), dtype=torch.int64)
        step = max(MAX_PLAIN_LOGITS // max(len(embeddings), 1), 1)
        with torch.autocast(embeddings.device.type, enabled=False):
            for begin in range(0, self.num_classes, step):
                logit, position = self.logits(embeddings, slice(begin, begin + step)).max(1)
                predicted = torch.where(logit > highest, position + begin, predicted)
                highest = torch.maximum(logit, highest)
        return predicted

    def guess_from_logits(
        self,
        target_logit: Callable[[Tensor], Tensor],
        non_target_logit: Callable[[Tensor, Tensor], Tensor],
        labels: Tensor,
    ) -> Guess:
        """Returns the values of a guess for logits that are functions of cosines.

        Args:
            target_logit: Maps the (K,) cosines to the target class to (K,) target logits.
            non_target_logit: Maps the cosines (J columns) to non-target classes, and the (K, 1)
                cosines to the target class, to (K, J) or (1, J) logits.
            labels: (N,) labels of the batch.

        Returns:
            The values.
        """
        count = max(self.classes_seen, len(torch.unique(labels))) - 1
        target, others = self.random_cosines(32), self.random_cosines(128)
        random = self.expected_losses(
            target_logit(target.cosines),
            non_target_logit(others.cosines[None], target.cosines[:, None]),
            others.probabilities,
            count,
        )
        same = torch.linspace(0.0, math.pi, 181, dtype=torch.float64).cos()
        uniform = self.expected_losses(
            target_logit(same),
            non_target_logit(same[:, None], same[:, None]),
            same.new_ones(1),
            count,
        ).min()
        if not self.reweightings:
            return Guess(expected(target, random), uniform.item())
        # A reweighting depends on how the losses are distributed over the samples of the batch.
        ranks = (torch.arange(len(labels), dtype=torch.float64) + 0.5) / len(labels)
        of_samples = random[torch.searchsorted(target.probabilities.cumsum(0), ranks)]
        return Guess(
            self.reweighted(of_samples).mean().item(),
            self.reweighted(uniform.expand(len(labels))).mean().item(),
        )

    def expected_losses(
        self, target: Tensor, non_target: Tensor, probabilities: Tensor, count: int
    ) -> Tensor:
        """Returns the expected losses of samples whose non-target logits are random.

        By default it is the cross-entropy, with label smoothing; see
        `guessing.expected_softmax_loss`.
        """
        losses = expected_softmax_loss(target, non_target, probabilities, count)
        if not self.label_smoothing:
            return losses
        mean = (target + count * (non_target @ probabilities)) / (count + 1)
        return losses + self.label_smoothing * (target - mean)

    def random_cosines(self, size: int) -> RandomCosines:
        """Returns the distribution of the cosine of a random direction to a random class centre.

        Args:
            size: Number of points of the grid.
        """
        return random_cosines(self.embedding_dim, size)

    @property
    def centres(self) -> Tensor:
        """(C, D) one centre for each class, for angles and figures."""
        return self.weight

    @torch.no_grad()
    def cosines(self, embeddings: Tensor) -> Tensor:
        """Returns the cosine of each embedding to each class centre.

        Args:
            embeddings: (N, D) embeddings.

        Returns:
            (N, C) cosines in [-1, 1].

        Raises:
            WorkbenchError: If the shape or type of the embeddings does not fit.
        """
        self._check(embeddings)
        embeddings = at_least_float32(embeddings)
        return cosines(unit(embeddings), self.weight.to(embeddings.dtype))

    @torch.no_grad()
    def target_cosines(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Returns the cosine of each embedding to its target class centre.

        Args:
            embeddings: (N, D) embeddings.
            labels: (N,) int64 labels.

        Returns:
            (N,) cosines in [-1, 1].

        Raises:
            WorkbenchError: If a shape or type does not fit, or a label is out of range.
        """
        self._check(embeddings)
        self._check_labels(embeddings, labels)
        embeddings = at_least_float32(embeddings)
        centres = unit(self.weight[labels].to(embeddings.dtype)).view(
            len(labels), self.weight[0].numel() // self.embedding_dim, -1
        )
        return torch.einsum("nkd,nd->nk", centres, unit(embeddings)).amax(1).clamp(-1.0, 1.0)

    @torch.no_grad()
    def measure(self, embeddings: Tensor, labels: Tensor) -> dict[str, float]:
        """Adds the accuracy without margin, and the angle to the target class centre.

        Args:
            embeddings: (N, D) embeddings.
            labels: (N,) int64 labels.

        Returns:
            The figures of `Loss.measure`, and `accuracy`, `target_angle_mean` and
            `target_angle_std`, the latter two in degrees.
        """
        angles = self.target_cosines(embeddings, labels).acos().rad2deg()
        return super().measure(embeddings, labels) | {
            "accuracy": (self.predicted_class(embeddings) == labels).float().mean().item(),
            "target_angle_mean": angles.mean().item(),
            "target_angle_std": angles.std(correction=0).item(),
        }


class MarginSoftmax(ClassificationLoss):
    """Softmax cross-entropy over scaled cosines with the target logit s * margin(cos theta_y).

    Here theta_y is the angle between an embedding and its target class centre. Subclasses override
    what they change:

    - `margin(cosine)` if the margin depends on the cosine to the target class centre alone,
    - `target_margin(cosine, embeddings)` if it also depends on the embedding,
    - `non_target(cosine, target)` to change the logits of the non-target classes,
    - `scales(embeddings)` if the scale depends on the embedding.

    Args:
        embedding_dim: Length D of an embedding, >= 1.
        num_classes: Number C of classes, >= 1.
        s: Scale of the logits, > 0.
        m: Size of the margin, >= 0. The subclass defines its unit.

    Raises:
        WorkbenchError: If a size or the scale is not positive, or the margin is negative.

    Example:
        >>> import torch
        >>> class Halved(MarginSoftmax):
        ...     def margin(self, cosine):
        ...         return cosine - self.ramp * self.m * cosine.abs()
        >>> loss = Halved(embedding_dim=8, num_classes=10, s=32.0, m=0.5)
        >>> loss.target_logit(torch.tensor([1.0, 0.5, -0.5]))
        tensor([ 16.,   8., -24.])
    """

    fixed_scale: ClassVar[bool] = True
    """Whether `smallest_loss` holds: the loss is a softmax whose scale is not trained."""

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
        """The current scale of the logits."""
        return self.s

    def scales(self, embeddings: Tensor) -> float | Tensor:
        """Returns the scale of the logits of each embedding.

        Args:
            embeddings: (N, D) embeddings.

        Returns:
            A number, or a tensor of shape () or (N, 1).
        """
        return self.scale

    def margin(self, cosine: Tensor) -> Tensor:
        """Returns the margin curve psi, which replaces the cosine to the target class centre.

        It acts element by element. With `ramp` = 0 it should return the cosine unchanged.

        Args:
            cosine: Cosines of any shape, in [-1, 1].

        Returns:
            Values of the same shape.
        """
        raise NotImplementedError(f"{type(self).__name__} does not define margin(cosine)")

    def target_margin(self, cosine: Tensor, embeddings: Tensor) -> Tensor:
        """Returns the margin curve for given embeddings; by default the same for all of them.

        Args:
            cosine: (N, 1) cosines to the target class centre.
            embeddings: (N, D) embeddings.

        Returns:
            (N, 1) values that replace the cosines.
        """
        return self.margin(cosine)

    def non_target(self, cosine: Tensor, target: Tensor) -> Tensor:
        """Returns what replaces the cosines to non-target classes; by default the cosines.

        It acts element by element. The head "streamed" calls it again in the backward pass, on a
        copy of the loss as it was in the forward pass. A parameter used here is only trained with
        the head "plain", which "auto" selects in that case.

        Args:
            cosine: (N, K) cosines to K classes.
            target: (N, 1) cosines to the target class centre, without gradient.

        Returns:
            (N, K) values that replace the cosines.
        """
        return cosine

    def target_logit(self, cosine: Tensor) -> Tensor:
        """Returns the target logit s * psi(cosine): the curve of the loss, for figures.

        Args:
            cosine: Cosines of any shape, in [-1, 1].

        Returns:
            Logits of the same shape.
        """
        return self.scale * self.margin(at_least_float32(cosine))

    def logits(self, embeddings: Tensor, classes: slice = slice(None)) -> Tensor:
        """Returns the scaled cosines without margin; see `ClassificationLoss.logits`."""
        return self.scales(embeddings) * cosines(
            unit(embeddings), self.weight[classes].to(embeddings.dtype)
        )

    def per_sample(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Returns the cross-entropy log(1 + sum_j exp(logit_j - logit_y)) of each sample.

        The sum runs over the non-target classes j, and y is the target class. For label smoothing
        see `cross_entropy`.

        Args:
            embeddings: (N, D) float32 or float64 embeddings.
            labels: (N,) int64 labels.

        Returns:
            (N,) losses, >= 0.
        """
        scale = self.scales(embeddings)

        def target_logit(cosine: Tensor) -> Tensor:
            return (scale * self.target_margin(cosine[:, None], embeddings))[:, 0]

        return self.cross_entropy(
            unit(embeddings),
            labels,
            target_logit,
            scale=scale,
            non_target=self.frozen_non_target(),
        )

    @property
    def can_smooth(self) -> bool:
        """Whether `label_smoothing` is supported: not if a subclass has another `per_sample`."""
        return type(self).per_sample is MarginSoftmax.per_sample

    def smallest_loss(self) -> float:
        """Returns a lower bound of the mean loss over classes of the same size.

        It is reached if each embedding equals its class centre and the class centres are equally
        far from each other, at the cosine -1 / (C - 1). For small scales it is far above 0. Wang et
        al., "NormFace: L2 hypersphere embedding for face verification", ACM Multimedia 2017,
        proposition 2, here with a margin that is smallest at the angle 0.

        Returns:
            The bound with the whole margin; 0 if the loss has no fixed scale, or another form.

        Example:
            >>> import workbench as wb
            >>> loss = wb.losses.create("normface", embedding_dim=512, num_classes=1000, s=1.0)
            >>> round(loss.smallest_loss(), 2), round(math.log(1000), 2)  # hardly below a guess
            (5.91, 6.91)
        """
        count = self.classes_seen - 1
        if not self.fixed_scale or count < 1:
            return 0.0
        at_rest = copy.copy(self)
        at_rest.ramp = 1.0
        target = float(at_rest.target_logit(self.weight.new_ones(())))
        return math.log1p(count * math.exp(-self.s / count - target))

    def advice(self, steps: int) -> list[str]:
        """Warns if the scale is too small for the number of classes.

        Args:
            steps: Number of training steps.

        Returns:
            At most one sentence.
        """
        smallest = self.smallest_loss()
        if smallest <= LARGEST_REST:
            return []
        count = self.classes_seen - 1
        share = 1.0 / count + float(self.target_logit(self.weight.new_ones(()))) / self.s
        name = f"{type(self).__name__}: the scale s = {self.s:g} is too small"
        if share <= 0:
            return [f"{name} for this margin; use a smaller margin"]
        needed = math.log(count / math.expm1(LARGEST_REST)) / share
        return [
            f"{name} for {count + 1:,} classes: even with perfect embeddings the loss stays above "
            f"{smallest:.2g} (NormFace, proposition 2), and images that are already well placed "
            f"keep dominating the gradient; use s = {math.ceil(needed)} or more"
        ]

    def guess(self, embeddings: Tensor, labels: Tensor) -> Guess | None:
        """Returns the values of a guess for embeddings of the mean length; see `Loss.guess`."""
        length = torch.linalg.vector_norm(embeddings, dim=1).mean()
        scale = float(self.scales(_of_length(length, 1, self.embedding_dim)))

        def target_logit(cosine: Tensor) -> Tensor:
            same_length = _of_length(length, len(cosine), self.embedding_dim)
            return scale * self.target_margin(cosine[:, None], same_length)[:, 0]

        def non_target_logit(cosine: Tensor, target: Tensor) -> Tensor:
            return scale * self.non_target(cosine, target)

        return self.guess_from_logits(target_logit, non_target_logit, labels)

    def frozen_non_target(self) -> NonTargetFunction | None:
        """Returns `non_target` of a copy of the loss, or None if it changes nothing.

        The copy is needed because buffers can change between the forward and the backward pass.
        """
        if type(self).non_target is MarginSoftmax.non_target:
            return None
        frozen = copy.copy(self)
        frozen._buffers = {
            name: None if buffer is None else buffer.clone()
            for name, buffer in self._buffers.items()
        }
        return frozen.non_target

    def measure(self, embeddings: Tensor, labels: Tensor) -> dict[str, float]:
        """Adds the share of the margin that is applied, and the scale.

        Args:
            embeddings: (N, D) embeddings.
            labels: (N,) int64 labels.

        Returns:
            The figures of `ClassificationLoss.measure`, `margin_ramp` and `scale`.
        """
        scale = self.scale.item() if isinstance(self.scale, Tensor) else self.scale
        return super().measure(embeddings, labels) | {"margin_ramp": self.ramp, "scale": scale}

    def extra_repr(self) -> str:
        """Returns the sizes and options for `repr`."""
        return f"{super().extra_repr()}, s={self.s:g}, m={self.m:g}"


def sine(cosine: Tensor) -> Tensor:
    """Returns sin theta >= 0 for cos theta, with a finite derivative everywhere.

    The derivative -cos/sin is unbounded near theta = 0 and pi, and is set to 0 at these two angles.
    At all other angles, float32 gives sin theta >= 3.5e-4. The derivative of the cosine with
    respect to the embedding is proportional to sin theta, so the product of the two stays of
    order 1.

    Args:
        cosine: Cosines of any shape, in [-1, 1].

    Returns:
        Sines of the same shape.

    Example:
        >>> import torch
        >>> sine(torch.tensor([1.0, 0.0, -0.6]))
        tensor([1.0842e-19, 1.0000e+00, 8.0000e-01])
    """
    return (1.0 - cosine * cosine).clamp_min(torch.finfo(cosine.dtype).tiny).sqrt()


def angle(cosine: Tensor) -> Tensor:
    """Returns theta in [0, pi] for cos theta, with a finite derivative everywhere; see `sine`.

    Args:
        cosine: Cosines of any shape, in [-1, 1].

    Returns:
        Angles of the same shape, in radians.

    Example:
        >>> import torch
        >>> angle(torch.tensor([0.5, 0.0, -0.5])).rad2deg()
        tensor([ 60.0000,  90.0000, 120.0000])
    """
    return torch.atan2(sine(cosine), cosine)


def at_least_float32(values: Tensor) -> Tensor:
    """Converts a tensor to float32, unless it is float64."""
    return values if values.dtype == torch.float64 else values.float()


def in_range(name: str, value: float, low: float, high: float = math.inf) -> float:
    """Checks that an option lies in a range.

    Args:
        name: What the value is, for the error message.
        value: The value.
        low: Smallest allowed value.
        high: Largest allowed value; by default there is none.

    Returns:
        The value as a float.

    Raises:
        WorkbenchError: If the value is not a finite number in the range.

    Example:
        >>> in_range("margin m", 1, 0.0, 2.0)
        1.0
    """
    if not (isinstance(value, int | float) and math.isfinite(value) and low <= value <= high):
        bounds = f">= {low:g}" if high == math.inf else f"from {low:g} to {high:g}"
        raise WorkbenchError(f"{name} must be a number {bounds}, got {value!r}")
    return float(value)


def update_average(average: Tensor, value: Tensor, rate: float) -> Tensor:
    """Returns average + rate * (value - average): an exponential moving average after a new value.

    A value that is not finite, as from a batch that overflowed, leaves the average unchanged.

    Args:
        average: () current average.
        value: () new value.
        rate: Weight of the new value, 0..1.

    Returns:
        () new average.

    Example:
        >>> import torch
        >>> update_average(torch.tensor(1.0), torch.tensor(3.0), rate=0.25)
        tensor(1.5000)
    """
    step = rate * (value - average)
    return average + torch.where(step.isfinite(), step, 0.0).to(average.dtype)


def _with_scalars_on_cpu(loss: Loss) -> Loss:
    """Returns a copy in evaluation mode, with tensors of one element in float64 on the CPU."""
    copied = copy.copy(loss)
    copied.training = False
    for kind in ("_buffers", "_parameters"):
        tensors: dict[str, Tensor | None] = getattr(loss, kind)
        scalars = {
            name: tensor.detach().cpu().double()
            for name, tensor in tensors.items()
            if tensor is not None and tensor.ndim == 0
        }
        setattr(copied, kind, tensors | scalars)
    return copied


def _of_length(length: Tensor, count: int, dim: int) -> Tensor:
    """Returns (count, dim) embeddings of a length."""
    embeddings = length.new_zeros(count, dim)
    embeddings[:, 0] = length
    return embeddings


def _check_type(name: str, value: object) -> None:
    if not isinstance(value, Tensor):
        raise WorkbenchError(f"{name} are of type {type(value).__name__}, expected a tensor")


def _requires_grad(non_target: NonTargetFunction | None) -> bool:
    """Whether the result of `non_target` depends on a trained parameter."""
    if non_target is None or not torch.is_grad_enabled():
        return False
    owner = getattr(non_target, "__self__", None)
    parameter = next(owner.parameters(), None) if isinstance(owner, nn.Module) else None
    probe = torch.zeros(1, 1) if parameter is None else parameter.new_zeros(1, 1)
    return non_target(probe, probe).requires_grad
