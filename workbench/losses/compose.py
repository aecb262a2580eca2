"""Creates losses by name: `arcface`, or compositions such as `normface+ohem`."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from workbench.errors import WorkbenchError, unknown_name
from workbench.losses.base import ClassificationLoss, HeadScale, Loss, Term
from workbench.losses.guessing import Guess
from workbench.losses.head import HeadName
from workbench.losses.registry import LOSSES, PARTS
from workbench.registry import check_options

DEFAULT_LOSS = "softmax"
"""The loss that a part is added to if no loss is named. For example, `center` is `softmax+center`,
as in the paper of the centre loss."""


class LossTerm(Term):
    """A whole loss as a term, such as the triplet loss in `softmax+triplet`.

    Args:
        loss: A loss without class centres.
        weight: Factor of the term in the total loss, >= 0.

    Raises:
        WorkbenchError: If the weight is negative or not finite.
    """

    def __init__(self, loss: Loss, weight: float = 1.0) -> None:
        super().__init__(weight)
        self.loss = loss
        self.images_per_identity = loss.images_per_identity

    def forward(self, embeddings: Tensor, labels: Tensor, loss: Loss) -> Tensor:
        """Returns the value of the added loss; see `Term.forward`."""
        self.loss.ramp = self.ramp
        return self.loss.value(embeddings, labels)

    def measure(self, embeddings: Tensor, labels: Tensor) -> dict[str, float]:
        """Returns the figures of the added loss; see `Loss.measure`."""
        return self.loss.measure(embeddings, labels)

    def guess(self, embeddings: Tensor, labels: Tensor) -> Guess | None:
        """Returns the values of the added loss; see `Loss.guess`."""
        self.loss.ramp = self.ramp
        return self.loss.guess(embeddings, labels)


def names() -> list[str]:
    """Returns the names of all registered losses and parts, sorted.

    Example:
        >>> import workbench as wb
        >>> wb.losses.names()[:4]
        ['adacos', 'adaface', 'arcface', 'center']
    """
    return sorted([*LOSSES.names(), *PARTS.names()])


def is_known(name: object) -> bool:
    """Returns whether `create` knows a name, including every part of a composition.

    Args:
        name: Name of a loss or a composition. Anything but a string is unknown.

    Example:
        >>> import workbench as wb
        >>> wb.losses.is_known("normface+ohem"), wb.losses.is_known("normface+typo")
        (True, False)
    """
    return isinstance(name, str) and all(part in names() for part in name.split("+"))


def head_scale(name: str) -> HeadScale | None:
    """Returns the value of the backbones' option `scale` that a loss requires.

    Args:
        name: Name of a loss or a composition. In a composition the first loss decides.

    Returns:
        "trained", "none", or None if the loss does not depend on the lengths of the embeddings.

    Raises:
        WorkbenchError: If the name is unknown. The message suggests the nearest name.

    Example:
        >>> import workbench as wb
        >>> wb.losses.head_scale("magface")
        'trained'
    """
    scale: HeadScale | None = getattr(LOSSES.get(_split(name)[0]), "head_scale", None)
    return scale


def create(
    name: str,
    *,
    embedding_dim: int,
    num_classes: int,
    head: HeadName = "auto",
    sample_rate: float = 0.1,
    **options: Any,
) -> Loss:
    """Creates a loss by name.

    The name of a composition lists a loss and the parts that are added to it, joined by "+". A part
    alone is added to `softmax`. The options of the loss are given directly or under its name, and
    those of a part under the name of the part.

    Args:
        name: Name of a loss, a part or a composition; see `names`.
        embedding_dim: Length D of an embedding, >= 1.
        num_classes: Number C of classes, >= 1.
        head: "auto", "plain", "streamed" or "sampled"; see `ClassificationLoss.use_head`. Only
            losses with class centres accept another value than "auto".
        sample_rate: Share of the classes that the head "sampled" uses, 0..1.
        **options: Options of the loss, and for each part a mapping with the options of that part.

    Returns:
        The loss, a `torch.nn.Module` that maps embeddings and labels to a scalar.

    Raises:
        WorkbenchError: If a name or an option is unknown (the message suggests the nearest one), or
            a value is out of range.

    Example:
        >>> import workbench as wb
        >>> loss = wb.losses.create(
        ...     "normface+ohem", embedding_dim=8, num_classes=10, s=32.0, ohem={"keep": 0.5}
        ... )
        >>> loss.s, loss.reweightings["ohem"].keep
        (32.0, 0.5)
    """
    first, *added = _split(name)
    nested = {
        part: _options_of(part, options.pop(part, {}))
        for part in (first, *added)
        if part in options
    }
    sizes = {"embedding_dim": embedding_dim, "num_classes": num_classes}
    _check_option_places(first, added, sizes, options, nested)
    loss = LOSSES.create(first, **sizes, **options, **nested.get(first, {}))
    for part in added:
        part_options = nested.get(part, {})
        if part in LOSSES.names():
            loss.add(part, _loss_term(part, sizes, part_options))
        else:
            parameters = _parameters(part)
            part_sizes = {key: size for key, size in sizes.items() if key in parameters}
            loss.add(part, PARTS.create(part, **part_sizes, **part_options))
    if isinstance(loss, ClassificationLoss):
        loss.use_head(head, sample_rate)
    elif head != "auto":
        raise WorkbenchError(
            f"loss {first!r} has no class centres, so no head can be selected for it"
        )
    check_options(f"loss {name!r}", create, {"head": head, "sample_rate": sample_rate})
    return loss


def _split(name: str) -> list[str]:
    """Splits the name of a composition into a loss and its parts, and checks them."""
    parts = name.split("+") if isinstance(name, str) else [name]
    for part in parts:
        if part not in names():
            raise unknown_name("loss", part, names())
    if len(set(parts)) < len(parts):
        raise WorkbenchError(f"loss {name!r} names a part twice")
    if parts[0] in LOSSES.names():
        return parts
    losses = [part for part in parts if part in LOSSES.names()]
    if losses:
        reordered = "+".join([losses[0], *(part for part in parts if part != losses[0])])
        raise WorkbenchError(f"loss {name!r}: name the loss first, e.g. {reordered!r}")
    return [DEFAULT_LOSS, *parts]


def _options_of(part: str, options: object) -> dict[str, Any]:
    if not isinstance(options, Mapping):
        raise WorkbenchError(
            f"options of {part!r} are {options!r}, expected a mapping of names to values"
        )
    return {str(key): value for key, value in options.items()}


def _check_option_places(
    first: str,
    added: list[str],
    sizes: Mapping[str, int],
    options: Mapping[str, Any],
    nested: Mapping[str, Mapping[str, Any]],
) -> None:
    """Raises an error for an option that is given twice, or directly instead of under its part."""
    for part, part_options in nested.items():
        for option in part_options:
            if option in sizes or (part == first and option in options):
                raise WorkbenchError(
                    f"{option!r} is given twice, once of them among the options of {part!r}"
                )
    for option in options:
        for part in added:
            is_of_part = part in PARTS.names() and option in _parameters(part)
            if is_of_part and option not in _parameters(first):
                raise WorkbenchError(
                    f"{option!r} is an option of {part!r}: give {part}={{{option!r}: ...}}"
                )


def _parameters(name: str) -> Mapping[str, inspect.Parameter]:
    """Returns the parameters of a loss or a part."""
    registry = PARTS if name in PARTS.names() else LOSSES
    return inspect.signature(registry.get(name)).parameters


def _loss_term(name: str, sizes: dict[str, int], options: dict[str, Any]) -> LossTerm:
    """Creates a loss that is added to another one."""
    weight = options.pop("weight", 1.0)
    check_options(f"loss {name!r}", LossTerm, {"weight": weight})
    loss = LOSSES.create(name, **sizes, **options)
    if isinstance(loss, ClassificationLoss):
        without_centres = [other for other in LOSSES.names() if not _has_centres(other)]
        addable = ", ".join(sorted([*PARTS.names(), *without_centres]))
        raise WorkbenchError(
            f"loss {name!r} has class centres of its own and cannot be added; "
            f"these can be added: {addable}"
        )
    return LossTerm(loss, weight)


def _has_centres(name: str) -> bool:
    factory = LOSSES.get(name)
    return isinstance(factory, type) and issubclass(factory, ClassificationLoss)
