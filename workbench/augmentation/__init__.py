"""Augmentation of batches: `create(spec)` makes one, `names()` and `presets()` list the choices.

Random numbers are drawn for each image on the CPU, so that a CPU and a GPU draw the same. The
images are changed on the device on which they are.
"""

from __future__ import annotations

from workbench.augmentation.affine import Affine
from workbench.augmentation.base import ColourStep, GeometricStep, LinearColour, PixelStep, Step
from workbench.augmentation.blur import Blur
from workbench.augmentation.colour import Colour
from workbench.augmentation.compose import Augmentation, create, names
from workbench.augmentation.crop import crop
from workbench.augmentation.erase import Erase
from workbench.augmentation.flip import Flip
from workbench.augmentation.jpeg import Jpeg
from workbench.augmentation.low_resolution import LowResolution
from workbench.augmentation.mixup import Mixing, Mixup
from workbench.augmentation.noise import Noise
from workbench.augmentation.presets import PRESETS, presets
from workbench.augmentation.random_convolution import RandomConvolution
from workbench.augmentation.registry import AUGMENTATIONS, register
from workbench.augmentation.warp import Warp

__all__ = [
    "AUGMENTATIONS",
    "PRESETS",
    "Affine",
    "Augmentation",
    "Blur",
    "Colour",
    "ColourStep",
    "Erase",
    "Flip",
    "GeometricStep",
    "Jpeg",
    "LinearColour",
    "LowResolution",
    "Mixing",
    "Mixup",
    "Noise",
    "PixelStep",
    "RandomConvolution",
    "Step",
    "Warp",
    "create",
    "crop",
    "names",
    "presets",
    "register",
]
