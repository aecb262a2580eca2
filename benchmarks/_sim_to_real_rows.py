"""The rows of the study `sim_to_real.py`: what each changes, and how long it takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from workbench import presets
from workbench.backbones.cost import cost
from workbench.data.rendered.synthfaces import parse
from workbench.synthfaces import VERSION
from workbench.training import TrainConfig

BASE: dict[str, Any] = {
    "data": "synthfaces",
    "backbone": "smallresnet",
    "image_size": 48,
    "loss": "arcface",
    "loss_options": {"s": 32.0, "m": 0.35},
    "margin_ramp_epochs": 6.4,
    "epochs": 16,
    "batch_size": 128,
    "augment": "mirror",
}
"""The settings of the row `base`."""
SECONDS_PER_BILLION = 0.22
"""Seconds of training per image and billion multiply-adds of the network, on one thread of an AMD
EPYC without AVX-512 and without a GPU."""
RENDERED_PER_SECOND = 50
"""Images that one core renders in a second."""
EVALUATED = 2 * 11_000
"""Images that the evaluations of a row embed, each with its mirror image."""


@dataclass(frozen=True)
class Row:
    """A row of the study.

    Attributes:
        name: Its name.
        group: Kind of change, by which rows are selected too.
        words: What differs from the row `base`, for the table.
        changes: Settings that differ from those of the reference row.
        reference: Name of the row that it is compared with: "base", or a row that differs from it.
        preset: Name of the preset that is trained instead of `BASE`.
        needs: What is missing to run the row; empty if it can be run.
    """

    name: str
    group: str
    words: str
    changes: Mapping[str, Any] = field(default_factory=dict)
    reference: str = "base"
    preset: str = ""
    needs: str = ""

    @property
    def run_name(self) -> str:
        """Name of the run directory of the row with the present renderer."""
        return f"{self.name}-v{VERSION}"

    def config(self, runs_dir: Path) -> TrainConfig:
        """Returns the settings of the row."""
        place = {"name": self.run_name, "runs_dir": str(runs_dir)}
        if self.preset:
            return presets.load(self.preset, **place)
        reference = {} if self.reference == "base" else row_named(self.reference).changes
        return TrainConfig(**{**BASE, **reference, **self.changes, **place})


def _ramped(epochs: int) -> dict[str, Any]:
    """Returns the settings of a longer training, whose margin also grows for 40 % of it."""
    return {"epochs": epochs, "margin_ramp_epochs": 0.4 * epochs}


ROWS = (
    Row("base", "base", "200 people x 40, 48 px, mirrored images, 16 epochs"),
    Row("mild", "augmentation", "augmentation `mild`", {"augment": "mild"}),
    Row("adaface", "augmentation", "augmentation `adaface`", {"augment": "adaface"}),
    Row("digiface", "augmentation", "augmentation `digiface`", {"augment": "digiface"}),
    Row("strong", "augmentation", "augmentation `strong`", {"augment": "strong"}),
    Row(
        "random-convolution",
        "augmentation",
        "`flip` and `random_convolution`",
        {"augment": ["flip", "random_convolution"]},
    ),
    Row("1000x8", "people", "1,000 people x 8", {"data": "synthfaces:1000x8"}),
    Row("2000x4", "people", "2,000 people x 4", {"data": "synthfaces:2000x4"}),
    Row("2000x20", "people", "2,000 people x 20", {"data": "synthfaces:2000x20"}),
    *(
        Row(f"stem-{kind}", "stem", f"stem `{kind}`", {"backbone_options": {"stem": kind}})
        for kind in ("ibn", "instance", "mixstyle", "standardised")
    ),
    Row("softmax", "training", "softmax loss", {"loss": "softmax", "loss_options": {}}),
    Row("32-epochs", "training", "32 epochs", _ramped(32)),
    Row("width-32", "network", "twice the channels", {"backbone_options": {"width": 32}}),
    Row("mobilefacenet", "network", "`mobilefacenet`", {"backbone": "mobilefacenet"}),
    Row("64-px", "network", "64 px", {"image_size": 64}),
    Row("112-px", "network", "112 px", {"image_size": 112}),
    Row("yaw", "renderer", "smaller yaw", needs="the renderer has no switch for it"),
    Row(
        "hair-background",
        "renderer",
        "the same hair and background in all images of a person",
        needs="the renderer has no switch for it",
    ),
    *(
        Row(f"digiface-{name}", "with-digiface", f"`digiface` and {words}", changes, "digiface")
        for name, words, changes in (
            ("1000x8", "1,000 people x 8", {"data": "synthfaces:1000x8"}),
            ("2000x4", "2,000 people x 4", {"data": "synthfaces:2000x4"}),
            (
                "random-convolution",
                "`random_convolution`",
                {"augment": ["digiface", "random_convolution"]},
            ),
            ("ibn", "stem `ibn`", {"backbone_options": {"stem": "ibn"}}),
            ("mixstyle", "stem `mixstyle`", {"backbone_options": {"stem": "mixstyle"}}),
            ("48-epochs", "48 epochs", _ramped(48)),
            ("width-32", "twice the channels", {"backbone_options": {"width": 32}}),
            ("64-px", "64 px", {"image_size": 64}),
        )
    ),
    Row("synthfaces-cpu", "preset", "preset `synthfaces-cpu`", preset="synthfaces-cpu"),
    Row("synthfaces-gpu", "preset", "preset `synthfaces-gpu`", preset="synthfaces-gpu"),
)
"""The rows in the order of the table. Except in the group `preset`, a row differs from its
reference row in one thing."""


def row_named(name: str) -> Row:
    """Returns the row with a name, which must exist."""
    return next(row for row in ROWS if row.name == name)


@dataclass(frozen=True)
class Estimate:
    """What a row costs.

    Attributes:
        images: Number of images of the training set.
        parameters: Number of weights of the network.
        hours: Hours on one thread, with rendering, training and evaluation.
    """

    images: int
    parameters: int
    hours: float


def estimate(config: TrainConfig) -> Estimate:
    """Estimates what a row costs from the multiply-adds of its network.

    Args:
        config: The settings of the row, whose training set is rendered.
    """
    kind, _, path = config.data.partition(":")
    rendered = parse(kind, path)
    images = rendered.people * rendered.images
    net = cost(config.backbone, config.embedding_dim, config.image_size, **config.backbone_options)
    per_image = SECONDS_PER_BILLION * net.multiply_adds / 1e9
    # The backward pass takes twice the time of the forward pass, which alone an evaluation needs.
    seconds = images * config.epochs * per_image + EVALUATED * per_image / 3
    seconds += images / RENDERED_PER_SECOND
    return Estimate(images, net.parameters, seconds / 3600)
