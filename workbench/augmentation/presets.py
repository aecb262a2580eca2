"""Lists of augmentations with a name. This is the only place in which their values are set."""

from __future__ import annotations

from typing import Any

Spec = str | list[Any]
"""Augmentations as they are written in a config: the name of a preset or of an augmentation, or a
list of names and of mappings {name: {option: value}}."""

PRESETS: dict[str, list[Any]] = {
    # Images remain as they are.
    "none": [],
    # ArcFace and its successors: Deng et al., "ArcFace: Additive angular margin loss for deep face
    # recognition", CVPR 2019; RandomHorizontalFlip in arcface_torch's dataset.py.
    "mirror": ["flip"],
    # A choice of the workbench between mirror and digiface, for small networks and short trainings,
    # which learn more slowly under strong augmentation: small changes of the geometry, and changes
    # of light, lens and file with the ranges of digiface or less. docs/SIM_TO_REAL.md compares it.
    "mild": [
        "flip",
        {"affine": {"probability": 0.5, "scale": [0.93, 1.07], "rotation": 6.0, "shift": 0.03}},
        {"colour": {"probability": 0.4, "brightness": 0.3, "contrast": 0.3, "saturation": 0.4}},
        {"colour": {"probability": 0.05, "grey": 1.0}},
        {"colour": {"probability": 0.2, "gamma": 0.3}},
        {"blur": {"probability": 0.05, "kind": "defocus", "size": [0.02, 0.05]}},
        {"low_resolution": {"probability": 0.1, "side": [0.35, 1.0]}},
        {"noise": {"probability": 0.1, "std": [0.01, 0.04]}},
        {"jpeg": {"probability": 0.1, "quality": [30, 90]}},
    ],
    # Kim et al., "AdaFace: Quality adaptive margin for face recognition", CVPR 2022, and its
    # published code (dataset/augmenter.py): each of three augmentations with a probability of 0.2.
    "adaface": [
        "flip",
        {
            "crop": {
                "probability": 0.2,
                "area": [0.2, 1.0],
                "ratio": [0.75, 1.333],
                "resize": False,
            }
        },
        {"low_resolution": {"probability": 0.2, "side": [0.2, 1.0]}},
        {"colour": {"probability": 0.2, "brightness": 0.5, "contrast": 0.5, "saturation": 0.5}},
    ],
    # Bae et al., "DigiFace-1M: 1 million digital face images for face recognition", WACV 2023. The
    # probabilities are the published ones. The ranges of the values are a choice of the workbench.
    "digiface": [
        "flip",
        {
            "affine": {
                "probability": 1.0,
                "scale": [0.9, 1.1],
                "rotation": 10.0,
                "shift": 0.05,
            }
        },
        {"affine": {"probability": 0.1, "aspect": [0.8, 1.25]}},
        {"warp": {"probability": 1.0, "distance": 0.05}},
        {"colour": {"probability": 0.15, "brightness": 0.4}},
        {"colour": {"probability": 0.3, "contrast": 0.4}},
        {"colour": {"probability": 0.1, "hue": 0.05}},
        {"colour": {"probability": 0.1, "saturation": 0.5}},
        {"colour": {"probability": 0.01, "grey": 1.0}},
        {"blur": {"probability": 0.05, "kind": "defocus", "size": [0.02, 0.06]}},
        {"blur": {"probability": 0.05, "kind": "motion", "size": [0.03, 0.1]}},
        {"low_resolution": {"probability": 0.01, "side": [0.25, 0.75]}},
        {"noise": {"probability": 0.035, "std": [0.01, 0.05]}},
        {"jpeg": {"probability": 0.05, "quality": [20, 80]}},
    ],
    # A choice of the workbench: the augmentations of digiface and adaface with higher
    # probabilities, and random erasing (Zhong et al., AAAI 2020). The order is that in which an
    # image is made: scene, light, lens, sensor, file.
    "strong": [
        "flip",
        {"affine": {"scale": [0.85, 1.15], "rotation": 15.0, "shift": 0.08}},
        {"affine": {"probability": 0.2, "aspect": [0.8, 1.25]}},
        {"warp": {"distance": 0.08}},
        {"crop": {"probability": 0.1}},
        {"erase": {"probability": 0.2, "area": [0.02, 0.25]}},
        {
            "colour": {
                "probability": 0.5,
                "brightness": 0.5,
                "contrast": 0.5,
                "saturation": 0.5,
                "hue": 0.05,
            }
        },
        {"colour": {"probability": 0.2, "gamma": 0.5}},
        {"colour": {"probability": 0.05, "grey": 1.0}},
        {"blur": {"probability": 0.1, "kind": "defocus", "size": [0.02, 0.08]}},
        {"blur": {"probability": 0.1, "kind": "motion", "size": [0.03, 0.12]}},
        {"low_resolution": {"probability": 0.2, "side": [0.2, 1.0]}},
        {"noise": {"probability": 0.1, "std": [0.01, 0.08]}},
        {"jpeg": {"probability": 0.2, "quality": [15, 80]}},
    ],
}
"""The presets by name."""


def presets() -> list[str]:
    """Returns the names of the presets, from the weakest to the strongest."""
    return list(PRESETS)
