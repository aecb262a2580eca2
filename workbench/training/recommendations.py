"""What a loss recommends for the network and the training, and the notes if it is not met."""

from __future__ import annotations

from workbench import backbones, losses
from workbench.training.config import TrainConfig

SCALES = {
    "trained": "it uses the norms of embeddings, whose mean can change only if that scale is "
    "trained",
    "none": "it compares the norms of embeddings with their own mean, for which its authors use "
    "no scale",
}
"""Why a loss recommends a value of `scale`, an option of the last batch normalisation."""


def with_head_scale(config: TrainConfig) -> TrainConfig:
    """Sets the backbone's option `scale` to the value that the loss recommends.

    Args:
        config: The settings.

    Returns:
        The settings with that option; or unchanged if the loss recommends nothing, if the option
        is set already, or if the backbone does not have it.
    """
    recommended = losses.head_scale(config.loss)
    if (
        recommended is None
        or "scale" in config.backbone_options
        or not backbones.accepts(config.backbone, "scale")
    ):
        return config
    return config.model_copy(
        update={"backbone_options": {**config.backbone_options, "scale": recommended}}
    )


def notes(config: TrainConfig, loss: losses.Loss, steps: int) -> list[str]:
    """Returns notes for the user, to be shown before the training begins.

    Args:
        config: The settings, from `with_head_scale`.
        loss: The loss that was created from them.
        steps: Total number of steps of the training.

    Returns:
        One sentence for each recommendation of the loss that is not met.
    """
    unmet = loss.advice(steps)
    recommended = losses.head_scale(config.loss)
    scale = config.backbone_options.get("scale")
    if recommended is not None and scale is not None and scale != recommended:
        unmet.append(
            f"{config.loss} and the backbone option scale: {scale} do not fit together; "
            f"{SCALES[recommended]}: use scale: {recommended}"
        )
    return unmet
