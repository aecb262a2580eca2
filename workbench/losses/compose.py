"""From a name to a loss: `arcface`, or a loss with parts, as `normface+ohem` or `sphereface+mhe`."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from workbench.errors import WorkbenchError, unknown_name
from workbench.losses.base import ClassificationLoss, HeadScale, Loss, Term
from workbench.losses.head import HeadName
from workbench.losses.registry import LOSSES, PARTS
from workbench.registry import check_options

ALONE = "softmax"
"""What a part is added to where no loss is named: `center` is softmax with centre loss, as in its paper."""


class Added(Term):
    """A whole loss as a term, as the triplet loss in `softmax+triplet`.

    Args:
        loss: one without class centres.
        weight: what it is multiplied with, >= 0.
    """

    def __init__(self, loss: Loss, weight: float = 1.0) -> None:
        super().__init__(weight)
        self.loss = loss
        self.images_per_identity = loss.images_per_identity

    def forward(self, embeddings: Tensor, labels: Tensor, loss: Loss) -> Tensor:
        self.loss.ramp = self.ramp
        return self.loss.value(embeddings, labels)

    def measure(self, embeddings: Tensor, labels: Tensor) -> dict[str, float]:
        return self.loss.measure(embeddings, labels)


def names() -> list[str]:
    """Registered losses and parts, sorted."""
    return sorted([*LOSSES.names(), *PARTS.names()])


def is_known(name: object) -> bool:
    """Whether `create` knows the name, each part of it if it is a composition."""
    return isinstance(name, str) and all(part in names() for part in name.split("+"))


def head_scale(name: str) -> HeadScale | None:
    """What a loss asks of the network's closing batch normalisation, `Loss.head_scale` of the first in a composition.

    Raises:
        WorkbenchError: unknown name; the nearest is suggested.
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
    """Make a loss by name, e.g. `create("arcface", embedding_dim=512, num_classes=85742, s=64.0, m=0.5)`.

    A composition names a loss and what is added to it: `create("normface+ohem", ..., s=32.0, ohem={"keep": 0.5})`. The loss's
    options stand beside the sizes, or under its name as a part's do. A part by itself is added to softmax.

    Args:
        name: see `names()`.
        embedding_dim: D.
        num_classes: C.
        head: "auto", "plain", "streamed" or "sampled", see `ClassificationLoss.use_head`.
        sample_rate: share of the classes that a sampled head sees.
        options: of the loss, and under the name of each part a mapping with those of the part.

    Raises:
        WorkbenchError: unknown name or option (the nearest is suggested), or a value out of range.
    """
    first, *added = _split(name)
    chosen = {
        part: _options_of(part, options.pop(part, {}))
        for part in (first, *added)
        if part in options
    }
    sizes = {"embedding_dim": embedding_dim, "num_classes": num_classes}
    for part, own in chosen.items():
        for option in own:
            if option in sizes or (part == first and option in options):
                raise WorkbenchError(
                    f"{option!r} is given twice, once of them among the options of {part!r}"
                )
    for option in options:
        for part in added:
            if part in PARTS.names() and option in _taken(part) and option not in _taken(first):
                raise WorkbenchError(
                    f"{option!r} is an option of {part!r}: give {part}={{{option!r}: ...}}"
                )
    loss = LOSSES.create(first, **sizes, **options, **chosen.get(first, {}))
    for part in added:
        if part in LOSSES.names():
            loss.add(part, _as_term(part, sizes, chosen.get(part, {})))
        else:
            taken = {key: size for key, size in sizes.items() if key in _taken(part)}
            loss.add(part, PARTS.create(part, **taken, **chosen.get(part, {})))
    if isinstance(loss, ClassificationLoss):
        loss.use_head(head, sample_rate)
    elif head != "auto":
        raise WorkbenchError(
            f"loss {first!r} has no class centres, so no head can be chosen for it"
        )
    check_options(f"loss {name!r}", create, {"head": head, "sample_rate": sample_rate})
    return loss


def _split(name: str) -> list[str]:
    """The names of a composition, a loss first."""
    parts = name.split("+") if isinstance(name, str) else [name]
    for part in parts:
        if part not in names():
            raise unknown_name("loss", part, names())
    if len(set(parts)) < len(parts):
        raise WorkbenchError(f"loss {name!r} names a part twice")
    if parts[0] in LOSSES.names():
        return parts
    rest = [part for part in parts if part in LOSSES.names()]
    if rest:
        ordered = "+".join([rest[0], *(part for part in parts if part != rest[0])])
        raise WorkbenchError(f"loss {name!r}: name the loss first, e.g. {ordered!r}")
    return [ALONE, *parts]


def _options_of(part: str, options: object) -> dict[str, Any]:
    if not isinstance(options, Mapping):
        raise WorkbenchError(
            f"options of {part!r} are {options!r}, expected a mapping of names to values"
        )
    return {str(key): value for key, value in options.items()}


def _taken(name: str) -> Mapping[str, inspect.Parameter]:
    """Options of a loss or a part."""
    return inspect.signature((PARTS if name in PARTS.names() else LOSSES).get(name)).parameters


def _as_term(name: str, sizes: dict[str, int], options: dict[str, Any]) -> Term:
    weight = options.pop("weight", 1.0)
    check_options(f"loss {name!r}", Added, {"weight": weight})
    loss = LOSSES.create(name, **sizes, **options)
    if isinstance(loss, ClassificationLoss):
        raise WorkbenchError(
            f"loss {name!r} has class centres of its own and cannot be added; what can: {_addable()}"
        )
    return Added(loss, weight)


def _addable() -> str:
    return ", ".join(
        sorted([*PARTS.names(), *(name for name in LOSSES.names() if not _has_centres(name))])
    )


def _has_centres(name: str) -> bool:
    factory = LOSSES.get(name)
    return isinstance(factory, type) and issubclass(factory, ClassificationLoss)
