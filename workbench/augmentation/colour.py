"""Brightness, contrast, saturation, hue, grey and gamma."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from workbench.augmentation.base import (
    GREY_WEIGHTS,
    ColourStep,
    LinearColour,
    between,
    between_ratios,
)
from workbench.augmentation.options import number
from workbench.augmentation.registry import register

STANDARD = {"brightness": 0.5, "contrast": 0.5, "saturation": 0.5}
"""The components that are applied if none is named: the values of AdaFace's published code."""

_YIQ = torch.tensor(
    [GREY_WEIGHTS, (0.5959, -0.2746, -0.3213), (0.2115, -0.5227, 0.3112)], dtype=torch.float64
)
"""Maps RGB to YIQ, in which a change of the hue is a rotation of I and Q (FCC, 1953)."""
_FROM_YIQ: Tensor = torch.linalg.inv(_YIQ)
_TO_GREY = torch.tensor([GREY_WEIGHTS] * 3, dtype=torch.float64)
"""Maps a colour to the grey of the same brightness."""


@register("colour")
class Colour(ColourStep):
    """Changes brightness, contrast, saturation, hue, grey and gamma of an image, in this order.

    Only the components that are named are applied. If none is named, brightness, contrast and
    saturation are applied as in `STANDARD`. Brightness, contrast and saturation are defined as in
    torchvision's `ColorJitter`: with the value v, the factor lies between 1 - v and 1 + v. Values
    are limited to 0..255 once, after all components, and not after each of them.

    Args:
        probability: Probability that an image is changed, 0..1.
        brightness: Largest relative change of the brightness, 0..1.
        contrast: Largest relative change of the difference to the mean grey of the image, 0..1.
        saturation: Largest relative change of the difference to the grey of the pixel, 0..1.
        hue: Largest turn of the hue in either direction, in turns of the colour circle, 0..0.5.
            The hue is turned in the colour space YIQ, which keeps the brightness.
        grey: Probability that an image that is changed also becomes grey, 0..1.
        gamma: With the value v, colours scaled to 0..1 are raised to an exponent between
            1 / (1 + v) and 1 + v, 0..4.

    Raises:
        WorkbenchError: if an option is out of range.
    """

    name = "colour"
    numbers = 6

    def __init__(
        self,
        probability: float = 0.2,
        brightness: float | None = None,
        contrast: float | None = None,
        saturation: float | None = None,
        hue: float | None = None,
        grey: float | None = None,
        gamma: float | None = None,
    ) -> None:
        super().__init__(probability)
        options = {
            "brightness": brightness,
            "contrast": contrast,
            "saturation": saturation,
            "hue": hue,
            "grey": grey,
            "gamma": gamma,
        }
        self.named = {name: value for name, value in options.items() if value is not None}
        components = self.named or STANDARD
        highest = {"hue": 0.5, "gamma": 4.0}
        values = {
            name: number(f"colour: {name}", components.get(name, 0.0), 0.0, highest.get(name, 1.0))
            for name in options
        }
        self.brightness, self.contrast = values["brightness"], values["contrast"]
        self.saturation, self.hue = values["saturation"], values["hue"]
        self.grey, self.gamma = values["grey"], values["gamma"]

    @property
    def label(self) -> str:
        """The name and the components; see `Step.label`."""
        return f"colour: {', '.join(self.named)}" if 0 < len(self.named) < 3 else "colour"

    def change(self, colours: LinearColour, uniform: Tensor) -> LinearColour:
        """Adds the drawn changes of this augmentation; see `ColourStep.change`."""
        if self.brightness:
            factor = between((1 - self.brightness, 1 + self.brightness), uniform[:, 0])
            colours = _linear(colours, _factors(factor, torch.zeros(3, 3, dtype=torch.float64)))
        if self.contrast:
            colours = _contrast(
                colours, between((1 - self.contrast, 1 + self.contrast), uniform[:, 1])
            )
        if self.saturation:
            factor = between((1 - self.saturation, 1 + self.saturation), uniform[:, 2])
            colours = _linear(colours, _factors(factor, _TO_GREY))
        if self.hue:
            colours = _linear(colours, _turn(between((-self.hue, self.hue), uniform[:, 3])))
        if self.grey:
            colours = _linear(colours, _factors((uniform[:, 4] >= self.grey).double(), _TO_GREY))
        if self.gamma:
            exponent = between_ratios((1 / (1 + self.gamma), 1 + self.gamma), uniform[:, 5])
            colours = colours._replace(exponent=colours.exponent * exponent)
        return colours


def _factors(factor: Tensor, other: Tensor) -> Tensor:
    """Returns (n, 3, 3) matrices that mix a colour (share `factor`) with a matrix of it."""
    share = factor[:, None, None]
    return share * torch.eye(3, dtype=torch.float64) + (1 - share) * other


def _linear(colours: LinearColour, matrix: Tensor) -> LinearColour:
    """Adds linear maps of the colours, (n, 3, 3)."""
    return colours._replace(pixel=matrix @ colours.pixel, mean=matrix @ colours.mean)


def _contrast(colours: LinearColour, factor: Tensor) -> LinearColour:
    """Adds changes of the contrast, f x + (1 - f) times the mean grey of the image as it is now.

    That image has the mean colour (pixel + mean) m, where m is the mean colour of the original.
    """
    share = factor[:, None, None]
    mean_grey = _TO_GREY @ (colours.pixel + colours.mean)
    return colours._replace(
        pixel=share * colours.pixel, mean=share * colours.mean + (1 - share) * mean_grey
    )


def _turn(turns: Tensor) -> Tensor:
    """Returns (n, 3, 3) matrices that turn the hue; positive turns lead from red to yellow."""
    angle = 2 * math.pi * turns
    rotation = torch.zeros(len(turns), 3, 3, dtype=torch.float64)
    rotation[:, 0, 0] = 1.0
    rotation[:, 1, 1] = rotation[:, 2, 2] = angle.cos()
    rotation[:, 1, 2] = angle.sin()
    rotation[:, 2, 1] = -angle.sin()
    return _FROM_YIQ @ rotation @ _YIQ
