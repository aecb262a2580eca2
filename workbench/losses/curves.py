"""Curves of the margin losses over the angle, for figures: target logits and their slopes."""

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

LossSelection = str | Iterable[str] | Mapping[str, tuple[str, Mapping[str, Any]]]
"""One or several names of losses, or a mapping {label: (name, options)}."""


def curves(
    losses: LossSelection, degrees: ArrayLike | None = None, *, scaled: bool = False
) -> dict[str, tuple[Floats, Floats]]:
    """Returns the target logits of margin losses as functions of the angle to the class centre.

    `wb.plots.margin_curves` draws them.

    Args:
        losses: Names of losses, or a mapping {label: (name, options)}. The options are those of
            `create`, and those of the loss's own `target_logit`: the length of the embedding as
            `norm` (`adaface`, `magface`), and `annealing` (`sphereface`).
        degrees: Angles in degrees, 0..180; by default all whole numbers.
        scaled: Whether the logits contain the scale s. Without it, losses with different scales can
            be compared. `adacos` has its initial scale for two classes.

    Returns:
        {label: (degrees, logits)}, in float64.

    Raises:
        WorkbenchError: If a name or an option is unknown, a loss is not a softmax over cosines, or
            an angle is out of range.

    Example:
        >>> import workbench as wb
        >>> degrees, logits = wb.losses.curves("cosface", [0, 60, 90])["cosface"]
        >>> logits.round(2).tolist()
        [0.65, 0.15, -0.35]
    """
    angles = _checked_angles(degrees, default=np.arange(181.0))
    with torch.no_grad():
        return {
            label: (angles, _curve(name, options, _cosines(angles), scaled).numpy())
            for label, (name, options) in _labelled(losses).items()
        }


def slopes(
    losses: LossSelection, degrees: ArrayLike | None = None
) -> dict[str, tuple[Floats, Floats]]:
    """Returns the derivative d psi / d cos theta that the backward pass uses.

    The target logit is s psi. `wb.plots.margin_slopes` draws the derivatives. Without margin they
    are 1 everywhere. For losses that detach part of their curve from the graph (`sphereface_r`,
    `circle`), they differ from the slope of what `curves` returns.

    Args:
        losses: As in `curves`.
        degrees: Angles in degrees, 0..180. By default all whole numbers from 1 to 179, because
            cosines have no slope at 0 and 180 degrees.

    Returns:
        {label: (degrees, slopes)}, in float64.

    Raises:
        WorkbenchError: As in `curves`.

    Example:
        >>> import workbench as wb
        >>> degrees, slopes = wb.losses.slopes("arcface", [30, 60, 90])["arcface"]
        >>> slopes.round(2).tolist()  # sin(theta + m) / sin theta
        [1.71, 1.15, 0.88]
    """
    angles = _checked_angles(degrees, default=np.arange(1.0, 180.0))
    slopes_of = {}
    for label, (name, options) in _labelled(losses).items():
        cosine = _cosines(angles).requires_grad_()
        (slope,) = torch.autograd.grad(_curve(name, options, cosine, scaled=False).sum(), cosine)
        slopes_of[label] = (angles, slope.numpy())
    return slopes_of


def _labelled(losses: LossSelection) -> Mapping[str, tuple[str, Mapping[str, Any]]]:
    """Returns {label: (name, options)} for any form of selection."""
    if isinstance(losses, Mapping):
        return losses
    if isinstance(losses, str):
        losses = [losses]
    return {name: (name, {}) for name in losses}


def _checked_angles(degrees: ArrayLike | None, default: Floats) -> Floats:
    angles = default if degrees is None else np.asarray(degrees, dtype=np.float64)
    if not ((angles >= 0) & (angles <= 180)).all():
        raise WorkbenchError("degrees must be angles from 0 to 180")
    return angles


def _cosines(angles: Floats) -> Tensor:
    return torch.from_numpy(np.cos(np.radians(angles)))


def _curve(name: str, options: Mapping[str, Any], cosine: Tensor, scaled: bool) -> Tensor:
    """Returns the target logits of a loss, with its scale or divided by it."""
    first = name.split("+", maxsplit=1)[0]
    factory = LOSSES.get(first) if first not in PARTS.names() else None
    if not (isinstance(factory, type) and issubclass(factory, MarginSoftmax)):
        raise WorkbenchError(
            f"loss {name!r} has no margin curve, as it is not a softmax over cosines"
        )
    curve_parameters = inspect.signature(factory.target_logit).parameters.keys()
    curve_options = {
        key: value
        for key, value in options.items()
        if key in curve_parameters and key not in ("self", "cosine")
    }
    loss_options = {key: value for key, value in options.items() if key not in curve_options}
    # Creating a loss initialises class centres at random, though the curve does not depend on them.
    with torch.random.fork_rng(devices=[]):
        loss = create(name, embedding_dim=2, num_classes=2, **loss_options)
    assert isinstance(loss, MarginSoftmax)
    logits = loss.target_logit(cosine, **curve_options)
    scale = loss.scale.detach() if isinstance(loss.scale, Tensor) else loss.scale
    return logits if scaled else logits / scale
