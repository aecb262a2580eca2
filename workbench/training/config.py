"""The settings of a training run, which are checked before anything starts."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SerializeAsAny,
    ValidationError,
    model_validator,
)

from workbench.errors import WorkbenchError, unknown_name
from workbench.runs import IMPORTED, read_settings
from workbench.scaling import LARGEST_SIDE, PerChannel, per_channel
from workbench.tasks import RECOGNITION, AnyTask, parse

OPTIMIZERS = ("SGD", "Adam", "AdamW")
"""Names of the optimisers, which are those of the classes in `torch.optim`."""
SCHEDULES = ("auto", "constant", "cosine", "multi-step", "one-cycle", "polynomial", "step")
"""Names of the schedules of the learning rate."""
TRACKERS = ("mlflow", "tensorboard", "trackio", "wandb")
"""Names of the experiment trackers; see `workbench.training.trackers`."""
GROUPS: dict[str, tuple[str, ...]] = {
    "data": ("data", "batch_size", "images_per_identity", "broken", "workers"),
    "model": (
        "backbone",
        "backbone_options",
        "embedding_dim",
        "image_size",
        "pixel_mean",
        "pixel_std",
        "channels",
        "init",
        "init_centres",
        "freeze_epochs",
        "freeze_stages",
        "batch_norm",
    ),
    "loss": ("loss", "loss_options", "label_smoothing", "margin_ramp_epochs"),
    "optimisation": (
        "epochs",
        "optimizer",
        "optimizer_options",
        "lr",
        "lr_factor_loss",
        "layer_decay",
        "momentum",
        "weight_decay",
        "decay_norm_and_bias",
        "schedule",
        "schedule_options",
        "warmup_epochs",
        "accumulate",
        "clip_norm",
        "clip_norm_loss",
        "ema",
    ),
    "augmentation": ("augment",),
    "tasks": ("tasks", "task"),
    "computation": ("device", "precision", "seed"),
    "logging": ("runs_dir", "name", "log_every", "trackers", "snapshots"),
}
"""The settings by group, in the order in which the help of `workbench train` shows them."""


def _canonical(kind: str, names: tuple[str, ...], name: object) -> str:
    """Returns the name in `names` that differs from `name` at most in capital letters."""
    for one in names:
        if isinstance(name, str) and name.lower() == one.lower():
            return one
    raise unknown_name(kind, name, names)


def _as_list(value: object) -> object:
    """Returns a single name as a list."""
    return [value] if isinstance(value, str) else value


Positive = Annotated[int, Field(gt=0)]
Side = Annotated[int, Field(gt=0, le=LARGEST_SIDE)]
Optimizer = Annotated[str, BeforeValidator(partial(_canonical, "optimizer", OPTIMIZERS))]
Schedule = Annotated[str, BeforeValidator(partial(_canonical, "schedule", SCHEDULES))]
Tracker = Annotated[str, BeforeValidator(partial(_canonical, "tracker", TRACKERS))]
Mean = Annotated[PerChannel, BeforeValidator(partial(per_channel, name="it"))]
Tasks = Annotated[dict[str, SerializeAsAny[AnyTask]], BeforeValidator(parse)]
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

    # Data.

    data: str
    """Training set: KIND:PATH, such as folder:DIR, or a name without a path, such as synthfaces.
    folder:DIR@100x20 is a part of a set (100 identities with 20 images each), and A+B joins two
    sets."""

    batch_size: Annotated[int, Field(ge=2)] = 128
    """Number of images in a batch, at least 2, as batch normalisation needs more than one. If the
    data set has fewer images, each batch contains all of them. If you change the batch size, scale
    `lr` in proportion."""

    images_per_identity: Positive | None = None
    """Number of images of the same identity in a batch, at least 1; `batch_size` must be a
    multiple of it. By default (null) the images of a batch are drawn at random, but losses that
    compare images of one identity, such as triplet, use 4."""

    broken: Literal["stop", "skip"] = "stop"
    """What to do at an image that cannot be read: "stop" with an error, or "skip" it and name it in
    the run's broken.txt."""

    workers: int | None = Field(None, ge=0)
    """Number of worker processes that decode images, at least 0. By default (null) none on a CPU,
    whose cores are busy with training, and up to 8 on a GPU."""

    # Model and input of the network.

    backbone: str = "smallresnet"
    """Network that makes the embeddings: a name from `workbench backbones`, or timm:NAME or
    torchvision:NAME. The default is small enough to train on a CPU within minutes."""

    backbone_options: dict[str, Any] = {}
    """Options of the backbone by name. `embedding_dim` and `image_size` are settings of their own
    and are not allowed here."""

    embedding_dim: Positive = 128
    """Length of an embedding, at least 1. 128 is the length in FaceNet (Schroff et al. 2015);
    ArcFace (Deng et al. 2019) uses 512 for millions of images."""

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

    init: str | None = None
    """Weights to begin with, for fine-tuning: a run directory, or a file of weights. By default
    (null) training begins with random weights."""

    init_centres: bool = True
    """Whether `init` also sets the class centres of the identities that the earlier run was trained
    on, which are matched by name. Other identities begin with random class centres."""

    freeze_epochs: float = Field(0.0, ge=0)
    """Number of epochs in which the first stages of the backbone are not trained, at least 0;
    fractions are allowed. A few epochs let new class centres settle before `init` weights move."""

    freeze_stages: int | None = Field(None, ge=1)
    """Number of stages, counted from the input, that `freeze_epochs` concerns. By default (null)
    all stages but the last, which makes the embedding."""

    batch_norm: Literal["local", "synchronised", "frozen"] = "local"
    """Statistics of batch normalisation: "local" uses those of the batch of each process,
    "synchronised" those of the batches of all processes together (which is the same with one
    process), and "frozen" the running statistics of the `init` weights, which then stay as they
    are."""

    # Loss.

    loss: str = "arcface"
    """Loss: a name from `workbench losses`, or a loss with parts, such as normface+ohem."""

    loss_options: dict[str, Any] = {}
    """Options of the loss by name, such as {s: 32, m: 0.4, head: streamed}. The options of a part
    are a mapping under its name: {ohem: {keep: 0.5}}."""

    label_smoothing: float = Field(0.0, ge=0, lt=1)
    """Share of the target distribution that is spread evenly over all classes, from 0 to below 1
    (Szegedy et al. 2016). 0 means that it is all on the true class."""

    margin_ramp_epochs: float = Field(0.0, ge=0)
    """Number of epochs over which the margin grows linearly from 0 to its full value, at least 0;
    fractions are allowed. A few epochs help a large margin on a small data set to converge."""

    # Optimisation.

    epochs: Positive = 20
    """Number of passes over the data, at least 1. 20 is the number in the configurations of
    arcface_torch for MS1MV3."""

    optimizer: Optimizer = "SGD"
    """Optimiser: SGD, Adam or AdamW, as in `torch.optim`."""

    optimizer_options: dict[str, Any] = {}
    """Further options of the optimiser's class in `torch.optim` by name, such as {nesterov: true}
    for SGD or {betas: [0.9, 0.99]} for Adam and AdamW."""

    lr: float = Field(0.1, gt=0)
    """Highest learning rate, greater than 0, which the warm-up ends at and from which the schedule
    starts. 0.1 for SGD is the value in ArcFace (Deng et al. 2019, section 3.1); for Adam and AdamW
    0.001 is usual."""

    lr_factor_loss: float = Field(1.0, gt=0)
    """Learning rate of the weights of the loss, mainly the class centres, divided by that of the
    backbone; greater than 0."""

    layer_decay: float = Field(1.0, gt=0, le=1)
    """Factor of the learning rate from a stage of the backbone to the one before it, greater than 0
    and at most 1. Below 1, stages near the input learn more slowly than those near the output,
    which preserves the weights of `init`."""

    momentum: float = Field(0.9, ge=0, lt=1)
    """Momentum of SGD, from 0 to below 1; Adam and AdamW ignore it. 0.9 is the value in ArcFace."""

    weight_decay: float = Field(5e-4, ge=0)
    """Factor of the L2 penalty on weights (AdamW: of the decay), at least 0. 5e-4 is the value in
    ArcFace."""

    decay_norm_and_bias: bool = False
    """Whether `weight_decay` also holds for normalisation layers, biases and PReLU slopes, as in
    older recipes. By default they do not decay."""

    schedule: Schedule = "cosine"
    """Course of the learning rate after the warm-up: constant, step, multi-step, polynomial,
    cosine, one-cycle, or auto, which lowers it when the loss stops falling."""

    schedule_options: dict[str, Any] = {}
    """Options of the schedule by name, such as {epochs: [4, 10, 18], factor: 0.1} for
    multi-step."""

    warmup_epochs: float = Field(1.0, ge=0)
    """Number of epochs over which the learning rate rises linearly from 0, at least 0; fractions
    are allowed. It prevents large steps while the class centres are still random."""

    accumulate: Positive = 1
    """Number of batches whose gradients are accumulated for one update of the weights, at least 1.
    It gives the gradient of a batch that is so many times larger in the memory of a small one.
    Statistics of a batch, such as those of batch normalisation or adaface, remain those of a small
    one, and losses that compare the images of a batch, such as triplet, do not allow it."""

    clip_norm: float | None = Field(5.0, gt=0)
    """Largest norm of the gradient of the backbone, greater than 0; longer gradients are scaled
    down to it. 5 is the value in arcface_torch; null means no limit."""

    clip_norm_loss: float | None = Field(None, gt=0)
    """Largest norm of the gradient of the weights of the loss (mainly the class centres), greater
    than 0. By default (null) it is not limited, as in arcface_torch, because this norm grows with
    the number of classes."""

    ema: float | None = Field(None, gt=0, lt=1)
    """Decay of an exponential moving average of the backbone's weights, between 0 and 1, such as
    0.999. The averaged weights are saved in addition to the last ones, and evaluations use them. By
    default (null) there is no average."""

    # Augmentation.

    augment: str | list[Any] = "mirror"
    """Random changes to the training images: a preset (none, mirror, mild, adaface, digiface,
    strong), or a list of augmentations, each a name or {name: {option: value}}. The default mirrors
    each image with a probability of 0.5; use none for images such as digits."""

    # Tasks.

    tasks: Tasks = {}
    """Further tasks by name, which are trained together with recognition: attributes such as gender
    and age. {gender: {kind: classes}, age: {kind: regression}} trains two heads on columns of the
    training set. The kinds are classes, ordinal and regression. Each task may have data of its own
    (`data`, `share`), a `loss` and a `weight`. The entry `fr` gives the weight of recognition."""

    task: str | None = None
    """The only task to train: fr for recognition, or a name in `tasks`. By default (null) all."""

    # Computation.

    device: str = "auto"
    """Device: "cpu", "cuda", "cuda:N", "mps", or "auto" for the first GPU, else the CPU."""

    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Number format of the backbone: "fp32", "bf16" (mixed precision with bfloat16), or "auto" for
    bf16 if the hardware computes in it. The loss is always computed in float32."""

    seed: int = Field(0, ge=0, lt=2**63)
    """Seed of the initial weights, the order of the images and the augmentation; from 0 to
    2**63 - 1."""

    # Logging and output files.

    runs_dir: str = "runs"
    """Folder in which the run directory is created."""

    name: str | None = None
    """Name of the run directory. By default (null) the loss, the backbone, the date and the
    time."""

    log_every: Positive = 10
    """Number of steps between two lines of metrics.jsonl, at least 1."""

    trackers: Annotated[list[Tracker], BeforeValidator(_as_list)] = []
    """Experiment trackers that also receive the metrics, by name: tensorboard, wandb, mlflow,
    trackio. Each needs the extra of its name. By default none."""

    snapshots: Annotated[list[str], BeforeValidator(_as_list)] = []
    """Image sets whose embeddings are stored after every epoch: train for the training set, and
    specs of benchmarks or data sets of other people, such as synthfaces-frontal. Of each set, up to
    20 identities with up to 10 images each are used. By default none."""

    @model_validator(mode="after")
    def _task_is_known(self) -> Self:
        if self.task is not None and self.task not in (RECOGNITION, *self.tasks):
            raise unknown_name("task", self.task, [RECOGNITION, *self.tasks])
        return self

    def __init__(self, **settings: Any) -> None:
        settings = from_earlier_version(settings)
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
    if first["type"] == "value_error" and isinstance(first["ctx"]["error"], WorkbenchError):
        return WorkbenchError(f"setting {setting!r}: {first['ctx']['error']}")
    return WorkbenchError(f"setting {setting!r} is {first['input']!r}: {first['msg'].lower()}")


def from_earlier_version(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Returns settings with those of earlier versions under their present names.

    Args:
        settings: Settings by name. The former setting `flip` becomes `augment`.

    Example:
        >>> from workbench.training.config import from_earlier_version
        >>> from_earlier_version({"data": "orl", "flip": True})
        {'data': 'orl', 'augment': 'mirror'}
    """
    current = dict(settings)
    if isinstance(current.get("flip"), bool) and "augment" not in current:
        current["augment"] = "mirror" if current.pop("flip") else "none"
    return current
