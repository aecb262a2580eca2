"""The margin losses as curves over the angle, for figures: what each asks for, and how hard it pulls."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from workbench.arrays import Floats
from workbench.errors import WorkbenchError
from workbench.losses.base import MarginSoftmax
from workbench.losses.compose import create
from workbench.losses.registry import LOSSES, PARTS

Asked = str | Iterable[str] | Mapping[str, tuple[str, Mapping[str, Any]]]
"""A name or names of losses, or {label: (name, options)}."""


def curves(
    losses: Asked, degrees: ArrayLike | None = None, *, scaled: bool = False
) -> dict[str, tuple[Floats, Floats]]:
    """Target logits of margin losses over the angle to the own class centre: `wb.plots.margin_curves` draws them.

    Args:
        losses: names, or {label: (name, options)}. The options are those of `create`, and those of the loss's own
            `target_logit`: a length of the embedding as `norm` (`adaface`, `magface`), `annealing` (`sphereface`).
        degrees: angles, 0..180; by default every whole one.
        scaled: with the scale s (`adacos` has its first one for two classes). Without it losses of different scales can be
            compared.

    Returns:
        {label: (degrees, logits)}, in float64.

    Raises:
        WorkbenchError: unknown name or option, a loss that is no softmax over cosines, or an angle out of range.
    """
    angles = _angles(degrees, np.arange(181.0))
    with torch.no_grad():
        return {
            label: (angles, _curve(name, options, _cosines(angles), scaled).numpy())
            for label, (name, options) in _labelled(losses).items()
        }


def slopes(losses: Asked, degrees: ArrayLike | None = None) -> dict[str, tuple[Floats, Floats]]:
    """d psi / d cos theta as the backward pass has it, s psi the target logit: `wb.plots.margin_slopes` draws them.

    Without margin it is 1 everywhere. Where a loss cuts its curve off the graph (`sphereface_r`, `circle`), it is not the slope of
    what `curves` gives.

    Args, Returns, Raises: as for `curves`; by default every whole angle between 0 and 180, where cosines have no slope.
    """
    angles = _angles(degrees, np.arange(1.0, 180.0))
    found = {}
    for label, (name, options) in _labelled(losses).items():
        cosine = _cosines(angles).requires_grad_()
        (slope,) = torch.autograd.grad(_curve(name, options, cosine, scaled=False).sum(), cosine)
        found[label] = (angles, slope.numpy())
    return found


def _labelled(losses: Asked) -> Mapping[str, tuple[str, Mapping[str, Any]]]:
    if isinstance(losses, str):
        losses = [losses]
    return losses if isinstance(losses, Mapping) else {name: (name, {}) for name in losses}


def _angles(degrees: ArrayLike | None, usual: Floats) -> Floats:
    angles = usual if degrees is None else np.asarray(degrees, dtype=np.float64)
    if not ((angles >= 0) & (angles <= 180)).all():
        raise WorkbenchError("degrees must be angles from 0 to 180")
    return angles


def _cosines(angles: Floats) -> Tensor:
    return torch.from_numpy(np.cos(np.radians(angles)))


def _curve(name: str, options: Mapping[str, Any], cosine: Tensor, scaled: bool) -> Tensor:
    first = name.split("+", maxsplit=1)[0]
    factory = LOSSES.get(first) if first not in PARTS.names() else None
    if not (isinstance(factory, type) and issubclass(factory, MarginSoftmax)):
        raise WorkbenchError(f"loss {name!r} has no margin curve: it is no softmax over cosines")
    of_the_curve = set(inspect.signature(factory.target_logit).parameters) - {"self", "cosine"}
    with torch.random.fork_rng(
        devices=[]
    ):  # class centres are drawn, though the curve does not depend on them
        loss = create(
            name,
            embedding_dim=2,
            num_classes=2,
            **{key: value for key, value in options.items() if key not in of_the_curve},
        )
    assert isinstance(loss, MarginSoftmax)
    logits = loss.target_logit(
        cosine, **{key: value for key, value in options.items() if key in of_the_curve}
    )
    scale = loss.scale.detach() if isinstance(loss.scale, Tensor) else loss.scale
    return logits if scaled else logits / scale
