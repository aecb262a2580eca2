"""What the loss asks of the network and of the length of a training, and what to say where it does not get it."""

from __future__ import annotations

from workbench import backbones, losses
from workbench.training.config import TrainConfig

SCALES = {
    "trained": "it looks at the lengths of embeddings, which can grow or shrink on the whole only where that scale is trained",
    "none": "it measures the lengths of embeddings against their own average, which its authors leave to the network alone",
}
"""Why a loss asks for a scale of the network's closing batch normalisation."""


def with_head_scale(config: TrainConfig) -> TrainConfig:
    """The settings with the backbone's option `scale` as the loss asks for it, unless it is set, or there is no such option."""
    wanted = losses.head_scale(config.loss)
    if (
        wanted is None
        or "scale" in config.backbone_options
        or not backbones.accepts(config.backbone, "scale")
    ):
        return config
    return config.model_copy(
        update={"backbone_options": {**config.backbone_options, "scale": wanted}}
    )


def notes(config: TrainConfig, loss: losses.Loss, steps: int) -> list[str]:
    """What should be known before a training begins, in sentences.

    Args:
        config: its settings, from `with_head_scale`.
        loss: the loss made from them.
        steps: number of steps from the beginning to the end.
    """
    found = loss.advice(steps)
    wanted = losses.head_scale(config.loss)
    scale = config.backbone_options.get("scale")
    if wanted is not None and scale is not None and scale != wanted:
        found.append(
            f"{config.loss} and the backbone option scale: {scale} do not fit together; {SCALES[wanted]}: scale: {wanted}"
        )
    return found
