"""What becomes of the cosine where a margin takes the angle past 180 degrees: ArcFace's way and SphereFace's."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from workbench.losses.base import sine


def add_angle(cosine: Tensor, m: float | Tensor) -> Tensor:
    """cos(theta + m), and cos theta - m sin m where theta + m would pass pi and the curve turn up again.

    Args:
        cosine: cosines of theta, any shape.
        m: margin in radians, 0..pi: a number, or a tensor that fits the shape, through which the gradient flows too.
    """
    cos_m, sin_m = (m.cos(), m.sin()) if isinstance(m, Tensor) else (math.cos(m), math.sin(m))
    return torch.where(cosine > -cos_m, cosine * cos_m - sine(cosine) * sin_m, cosine - m * sin_m)


def turned(cosine: Tensor, m: float) -> Tensor:
    """cos(theta + m) as it is, which turns up again where theta + m passes pi.

    Args:
        cosine: cosines of theta, any shape.
        m: margin in radians, 0..pi.
    """
    return cosine * math.cos(m) - sine(cosine) * math.sin(m)


def falling_cosine(theta: Tensor) -> Tensor:
    """The cosine, going on downwards past pi: (-1)^k cos(theta) - 2k with k = floor(theta / pi), for theta >= 0.

    Liu et al., "SphereFace: Deep hypersphere embedding for face recognition", CVPR 2017, eq. 7. Each piece falls by 2 and has
    slope 0 at both its ends, so the curve and its slope are continuous.
    """
    k = (theta.detach() / math.pi).floor()
    return (theta - k * math.pi).cos() - 2.0 * k
