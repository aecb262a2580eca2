"""The settings of a training run, which are checked before anything starts."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from workbench.backbones.base import LARGEST_SIDE
from workbench.errors import WorkbenchError, unknown_name
from workbench.runs import IMPORTED, read_settings
from workbench.scaling import PerChannel, per_channel

Positive = Annotated[int, Field(gt=0)]
Side = Annotated[int, Field(gt=0, le=LARGEST_SIDE)]
Mean = Annotated[PerChannel, BeforeValidator(partial(per_channel, name="it"))]
Std = Annotated[PerChannel, BeforeValidator(partial(per_channel, name="it", positive=True))]


class TrainConfig(BaseModel):
    """The settings of one training run.

    Only `data` has no default. The settings are written to the config.yaml of the run, from which
    `workbench train --config` repeats it. A config cannot be changed after it was created.

    Args:
        settings: The settings by name. Each is described below.

    Raises:
        WorkbenchError: if a setting is unknown (the message suggests the nearest one), has the
            wrong type, or is out of range.

    Example:
        >>> from workbench import TrainConfig
        >>> config = TrainConfig(data="synthfaces", loss="cosface", loss_options={"m": 0.35})
        >>> config.batch_size, config.lr
        (128, 0.1)
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True
    )

    # Data, backbone and loss.

    data: str
    """Training set: KIND:PATH, such as folder:DIR, or a name without a path, such as synthfaces."""

    backbone: str = "smallresnet"
    """Network that makes the embeddings: a name from `workbench backbones`, or timm:NAME or
    torchvision:NAME. The default is small enough to train on a CPU within minutes."""

    backbone_options: dict[str, Any] = {}
    """Options of the backbone by name. `embedding_dim` and `image_size` are settings of their own
    and are not allowed here."""

    loss: str = "arcface"
    """Loss: a name from `workbench losses`, or a loss with parts, such as normface+ohem."""

    loss_options: dict[str, Any] = {}
    """Options of the loss by name, such as {s: 32, m: 0.4, head: streamed}. The options of a part
    are a mapping under its name: {ohem: {keep: 0.5}}."""

    embedding_dim: Positive = 128
    """Length of an embedding, at least 1. 128 is the length in FaceNet (Schroff et al. 2015);
    ArcFace (Deng et al. 2019) uses 512 for millions of images."""

    # Input of the network.

    image_size: Side | tuple[Side, Side] = 112
    """Size of the images in pixels: one side, or [height, width]; from 1 to 4096. Images of other
    sizes are cropped centrally to these proportions and resized. 112 is the size of aligned faces
    in insightface and AdaFace."""

    pixel_mean: Mean = 127.5
    """Number that is subtracted from pixel values 0..255; or a list of three, in the order of
    `channels`. 127.5 for both mean and standard deviation gives inputs from -1 to 1."""

    pixel_std: Std = 127.5
    """Number, or list of three, by which pixel values are divided after `pixel_mean` has been
    subtracted; greater than 0."""

    channels: Literal["rgb", "bgr"] = "rgb"
    """Order of the colour channels in the input, "rgb" or "bgr"."""

    # Duration, batches, optimiser and augmentation.

    epochs: Positive = 20
    """Number of passes over the data, at least 1. 20 is the number in the configurations of
    arcface_torch for MS1MV3."""

    batch_size: Annotated[int, Field(ge=2)] = 128
    """Number of images in a batch, at least 2, as batch normalisation needs more than one. If the
    data set has fewer images, each batch contains all of them. If you change the batch size, scale
    `lr` in proportion."""

    images_per_identity: Positive | None = None
    """Number of images of the same identity in a batch, at least 1; `batch_size` must be a
    multiple of it. By default (null) the images of a batch are drawn at random, but losses that
    compare images of one identity, such as triplet, use 4."""

    lr: float = Field(0.1, gt=0)
    """Highest learning rate of SGD, greater than 0. After the warm-up, the rate falls to 0 along
    half a period of a cosine. 0.1 is the value in ArcFace (Deng et al. 2019, section 3.1)."""

    momentum: float = Field(0.9, ge=0, lt=1)
    """Momentum of SGD, from 0 to below 1. 0.9 is the value in ArcFace."""

    weight_decay: float = Field(5e-4, ge=0)
    """Factor of the L2 penalty on all weights, at least 0. 5e-4 is the value in ArcFace."""

    clip_norm: float = Field(5.0, gt=0)
    """Largest norm of the gradient of the backbone, greater than 0; longer gradients are scaled
    down to it. 5 is the value in arcface_torch."""

    clip_norm_loss: float | None = Field(None, gt=0)
    """Largest norm of the gradient of the weights of the loss (mainly the class centres), greater
    than 0. By default (null) it is not limited, as in arcface_torch, because this norm grows with
    the number of classes."""

    warmup_epochs: float = Field(1.0, ge=0)
    """Number of epochs over which the learning rate rises linearly from 0, at least 0; fractions
    are allowed. It prevents large steps while the class centres are still random."""

    margin_ramp_epochs: float = Field(0.0, ge=0)
    """Number of epochs over which the margin grows linearly from 0 to its full value, at least 0;
    fractions are allowed. A few epochs help a large margin on a small data set to converge."""

    flip: bool = True
    """Whether each image is mirrored with a probability of 0.5. Mirrored faces are plausible
    faces; switch it off for images such as digits."""

    # Computation.

    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Number format of the backbone: "fp32", "bf16" (mixed precision with bfloat16), or "auto" for
    bf16 if the hardware computes in it. The loss is always computed in float32."""

    device: str = "auto"
    """Device: "cpu", "cuda", "cuda:N", "mps", or "auto" for the first GPU, else the CPU."""

    seed: int = Field(0, ge=0, lt=2**63)
    """Seed of the initial weights, the order of the images and the augmentation; from 0 to
    2**63 - 1."""

    workers: int | None = Field(None, ge=0)
    """Number of worker processes that decode images, at least 0. By default (null) none on a CPU,
    whose cores are busy with training, and up to 8 on a GPU."""

    broken: Literal["stop", "skip"] = "stop"
    """What to do at an image that cannot be read: "stop" with an error, or "skip" it and name it in
    the run's broken.txt."""

    # Output files.

    log_every: Positive = 10
    """Number of steps between two lines of metrics.jsonl, at least 1."""

    runs_dir: str = "runs"
    """Folder in which the run directory is created."""

    name: str | None = None
    """Name of the run directory. By default (null) the loss, the backbone, the date and the
    time."""

    def __init__(self, **settings: Any) -> None:
        if settings.get("loss") == IMPORTED:
            raise WorkbenchError(
                f"loss {IMPORTED!r} means that the model was imported; such a run cannot be "
                "trained or resumed"
            )
        for name, value in settings.items():
            # pydantic would accept true as the number 1.
            field = type(self).model_fields.get(name)
            if isinstance(value, bool) and field is not None and field.annotation is not bool:
                raise WorkbenchError(
                    f"setting {name!r} is {str(value).lower()}, but it does not take true or false"
                )
        try:
            super().__init__(**settings)
        except ValidationError as error:
            raise _as_workbench_error(error) from None

    @classmethod
    def read(cls, path: str | Path, **overrides: Any) -> TrainConfig:
        """Reads a YAML file of settings.

        Args:
            path: The file.
            overrides: Settings that replace those in the file.

        Returns:
            The settings.

        Raises:
            WorkbenchError: if the file is missing or is not YAML, or if a setting is unknown or
                out of range.
        """
        settings = read_settings(Path(path))
        return cls(**{str(key): value for key, value in settings.items()} | overrides)

    def plain(self) -> dict[str, Any]:
        """Returns all settings as plain values, as they are written to config.yaml."""
        return self.model_dump(mode="json")


def _as_workbench_error(error: ValidationError) -> WorkbenchError:
    """Returns the first error of pydantic as one line."""
    errors = error.errors()
    setting_path = errors[0]["loc"][:1]
    same_setting = [one for one in errors if one["loc"][:1] == setting_path]
    # For a setting that can have several types, pydantic returns an error for each type. The error
    # with the longest location belongs to the type that was most likely intended.
    first = max(same_setting, key=lambda one: len(one["loc"]) if one["type"] != "missing" else 0)
    setting = str(first["loc"][0]) if first["loc"] else "settings"
    if first["type"] == "extra_forbidden":
        return unknown_name("setting", setting, TrainConfig.model_fields)
    if first["type"] == "missing":
        description = " ".join((TrainConfig.model_fields[setting].description or "").split())
        return WorkbenchError(
            f"setting {setting!r} is missing: {description[:1].lower()}{description[1:]}"
        )
    return WorkbenchError(f"setting {setting!r} is {first['input']!r}: {first['msg'].lower()}")
