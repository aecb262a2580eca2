"""Functions that add a margin to an angle, and define the curve where the angle exceeds pi."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from workbench.losses.base import sine


def add_angle(cosine: Tensor, m: float | Tensor) -> Tensor:
    """Returns cos(theta + m), continued so that it never increases with the angle.

    Where theta + m exceeds pi, cos(theta + m) would increase again. There the function returns
    cos theta - m sin m, as in the first release of the ArcFace authors' code.

    Args:
        cosine: Cosines of theta, any shape.
        m: Margin in radians, 0..pi: a number, or a tensor that broadcasts to the shape and also
            receives a gradient.

    Returns:
        Values of the same shape.

    Example:
        >>> import math, torch
        >>> add_angle(torch.tensor([0.5, 0.0]), math.pi / 6)
        tensor([ 0.0000, -0.5000])
    """
    cos_m: float | Tensor
    sin_m: float | Tensor
    if isinstance(m, Tensor):
        cos_m, sin_m = m.cos(), m.sin()
    else:
        cos_m, sin_m = math.cos(m), math.sin(m)
    return torch.where(cosine > -cos_m, cosine * cos_m - sine(cosine) * sin_m, cosine - m * sin_m)


def add_angle_unbounded(cosine: Tensor, m: float) -> Tensor:
    """Returns cos(theta + m) itself, which increases again where theta + m exceeds pi.

    Args:
        cosine: Cosines of theta, any shape.
        m: Margin in radians, 0..pi.

    Returns:
        Values of the same shape.

    Example:
        >>> import math, torch
        >>> add_angle_unbounded(torch.tensor([0.0, -1.0]), math.pi / 6)
        tensor([-0.5000, -0.8660])
    """
    return cosine * math.cos(m) - sine(cosine) * math.sin(m)


def falling_cosine(theta: Tensor) -> Tensor:
    """Returns (-1)^k cos(theta) - 2k with k = floor(theta / pi): a cosine that keeps decreasing.

    Liu et al., "SphereFace: Deep hypersphere embedding for face recognition", CVPR 2017, eq. 7.
    On each interval of length pi the curve decreases by 2 and has slope 0 at both ends, so the
    curve and its slope are continuous.

    Args:
        theta: Angles in radians, >= 0, any shape.

    Returns:
        Values of the same shape.

    Example:
        >>> import math, torch
        >>> falling_cosine(torch.tensor([0.0, math.pi, 2 * math.pi]))
        tensor([ 1., -1., -3.])
    """
    k = (theta.detach() / math.pi).floor()
    return (theta - k * math.pi).cos() - 2.0 * k
