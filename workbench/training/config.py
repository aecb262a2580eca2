"""Everything that decides a training run, checked before anything starts."""

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
    """Settings of one run; written to its config.yaml, from which `workbench train --config` repeats it.

    Unknown names and values out of range raise WorkbenchError, with the nearest known name suggested.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    def __init__(self, **settings: Any) -> None:
        if settings.get("loss") == IMPORTED:
            raise WorkbenchError(
                f"loss {IMPORTED!r} stands for a model from elsewhere; such a run cannot be trained or resumed"
            )
        for name, value in settings.items():  # pydantic takes true for the number 1
            if (
                isinstance(value, bool)
                and (field := type(self).model_fields.get(name))
                and field.annotation is not bool
            ):
                raise WorkbenchError(
                    f"setting {name!r} is {str(value).lower()}: true and false are not among its values"
                )
        try:
            super().__init__(**settings)
        except ValidationError as error:
            raise _one_line(error) from None

    data: str = Field(description="training set, KIND:PATH or a known name")
    backbone: str = Field(
        "smallresnet",
        description="network, a name from `workbench backbones`, or timm:NAME, torchvision:NAME",
    )
    backbone_options: dict[str, Any] = Field({}, description="options of the backbone")
    loss: str = Field(
        "arcface",
        description="loss, a name from `workbench losses`, or one with parts such as normface+ohem",
    )
    loss_options: dict[str, Any] = Field(
        {},
        description="options of the loss, e.g. {s: 32, m: 0.4, head: streamed}; of a part under its name: {ohem: {keep: 0.5}}",
    )
    embedding_dim: Positive = Field(128, description="length of an embedding")
    image_size: Side | tuple[Side, Side] = Field(
        112, description="input in pixels: a side, or [height, width]"
    )
    pixel_mean: Mean = Field(
        127.5,
        description="subtracted from pixel values 0..255; a number, or a list of three in the order of `channels`",
    )
    pixel_std: Std = Field(127.5, description="what they are then divided by; likewise")
    channels: Literal["rgb", "bgr"] = Field("rgb", description="order of the colours in the input")
    epochs: Positive = Field(20, description="passes over the data")
    batch_size: Annotated[int, Field(ge=2)] = Field(128, description="images a step")
    images_per_identity: Positive | None = Field(
        None,
        description="images of an identity side by side in a batch; by default any order, but 4 for triplet",
    )
    lr: float = Field(0.1, gt=0, description="highest learning rate of SGD with momentum")
    momentum: float = Field(0.9, ge=0, lt=1, description="momentum of SGD")
    weight_decay: float = Field(5e-4, ge=0, description="L2 penalty on all weights")
    clip_norm: float = Field(
        5.0, gt=0, description="largest norm of the backbone's gradient; longer ones are shortened"
    )
    clip_norm_loss: float | None = Field(
        None,
        gt=0,
        description="largest norm of the gradient of the loss's own weights (class centres); by default any",
    )
    warmup_epochs: float = Field(
        1.0, ge=0, description="epochs over which the learning rate rises from 0"
    )
    margin_ramp_epochs: float = Field(
        0.0, ge=0, description="epochs over which the margin grows from 0 to its full size"
    )
    flip: bool = Field(True, description="mirror half of the images at random")
    precision: Literal["auto", "fp32", "bf16"] = Field(
        "auto", description="auto: bf16 where the hardware has it"
    )
    device: str = Field("auto", description="auto, cpu, cuda, cuda:1, mps")
    seed: int = Field(
        0, ge=0, lt=2**63, description="of the weights, the order and the augmentation"
    )
    workers: int | None = Field(
        None, ge=0, description="processes that decode; by default none on a CPU, up to 8 on a GPU"
    )
    broken: Literal["stop", "skip"] = Field(
        "stop",
        description="at an image that cannot be read: stop, or go on without it and name it in the run's broken.txt",
    )
    log_every: Positive = Field(10, description="steps between two lines of metrics.jsonl")
    runs_dir: str = Field("runs", description="folder of the run directories")
    name: str | None = Field(
        None, description="name of the run; by default loss, backbone, date and time"
    )

    @classmethod
    def read(cls, path: str | Path, **overrides: Any) -> TrainConfig:
        """Read a YAML file of settings; `overrides` take precedence.

        Raises:
            WorkbenchError: the file is missing or not YAML, or a setting is unknown or out of range.
        """
        settings = read_settings(Path(path))
        return cls(**{str(key): value for key, value in settings.items()} | overrides)

    def plain(self) -> dict[str, Any]:
        """The settings as plain values, for YAML."""
        return self.model_dump(mode="json")


def _one_line(error: ValidationError) -> WorkbenchError:
    first = error.errors()[0]
    # Of a setting that can be of several types, what lies deepest is of the type that was meant.
    same = [one for one in error.errors() if one["loc"][:1] == first["loc"][:1]]
    first = max(same, key=lambda one: len(one["loc"]) if one["type"] != "missing" else 0)
    setting = str(first["loc"][0]) if first["loc"] else "settings"
    if first["type"] == "extra_forbidden":
        return unknown_name("setting", setting, TrainConfig.model_fields)
    if first["type"] == "missing":
        return WorkbenchError(
            f"setting {setting!r} is missing: {TrainConfig.model_fields[setting].description}"
        )
    return WorkbenchError(f"setting {setting!r} is {first['input']!r}: {first['msg'].lower()}")
