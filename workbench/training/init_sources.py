"""Where a training can begin: the weights of a run, of a file, or of torchvision (`init`)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from workbench import backbones, data, runs
from workbench.backbones.resnet import ResNet
from workbench.errors import WorkbenchError, unknown_name
from workbench.scaling import formula, per_channel
from workbench.training.config import TrainConfig
from workbench.weights import fitting_backbone, read_checkpoint

TORCHVISION = "torchvision:"
"""Beginning of an `init` that names pretrained weights of torchvision."""
IMAGENET = {"pixel_mean": [123.675, 116.28, 103.53], "pixel_std": [58.395, 57.12, 57.375]}
"""Scaling of the input with which most weights of torchvision were trained."""


@dataclass(frozen=True)
class Source:
    """The weights that a training begins with, and what is known about them.

    Attributes:
        name: The value of `init`.
        kind: "run", "file" or "torchvision".
        sha256: SHA-256 hash of the file of the weights.
        backbone: Name of the backbone.
        backbone_options: Its options.
        tensors: The weights of the backbone by name.
        scaling: Text that describes the scaling of the input; empty if it is unknown.
        loss: Name of the loss; empty if there is none.
        loss_tensors: The weights of the loss by name.
        identity_names: Names of the identities, in the order of the class centres; None if they
            are unknown.
        data: Spec of the training set; empty if it is unknown.
        fingerprint: Fingerprint of the training set; empty if it is unknown.
        may_be_new: Names of weights outside the head that the backbone may have in addition.
        notes: What was understood when the weights were read, one sentence each.
    """

    name: str
    kind: str
    sha256: str
    backbone: str
    backbone_options: Mapping[str, Any]
    tensors: Mapping[str, Tensor]
    scaling: str = ""
    loss: str = ""
    loss_tensors: Mapping[str, Tensor] = field(default_factory=dict)
    identity_names: Sequence[str] | None = None
    data: str = ""
    fingerprint: str = ""
    may_be_new: Sequence[str] = ()
    notes: Sequence[str] = ()


def read_source(config: TrainConfig, net: backbones.Backbone) -> Source:
    """Reads the weights that `config.init` names.

    Args:
        config: The settings, with `init`.
        net: The backbone that is trained.

    Returns:
        The weights.

    Raises:
        WorkbenchError: if there is no such run or file, if it contains no weights or those of an
            ONNX network, or if torchvision's weights cannot be obtained.
    """
    name = str(config.init)
    if name.startswith(TORCHVISION):
        return _from_torchvision(name, config, net)
    path = Path(name).expanduser()
    if (path / runs.CONFIG).is_file():
        return _from_run(name, runs.open(path))
    if path.is_file():
        return _from_file(name, path, config)
    raise WorkbenchError(
        f"init {name!r}: there is no run directory and no file of weights of this name; give e.g. "
        "runs/NAME, a .pth, .pt, .ckpt or .safetensors file, or torchvision:DEFAULT"
    )


def scaling_of(config: Mapping[str, Any]) -> str:
    """Returns a text that describes how a run scales the input of its network.

    Args:
        config: The settings of the run.

    Example:
        >>> scaling_of({"pixel_mean": 127.5, "pixel_std": 127.5})
        '(x - 127.5) / 127.5, RGB'
    """
    mean, std = (per_channel(config.get(key, 127.5), key) for key in ("pixel_mean", "pixel_std"))
    return f"{formula(mean, std)}, {str(config.get('channels', 'rgb')).upper()}"


def _from_run(name: str, run: runs.Run) -> Source:
    """Reads the weights of a run of the workbench or of an imported one."""
    config = run.config
    if config.get("backbone") == runs.ONNX:
        raise WorkbenchError(
            f"init {name!r}: the network of this run was imported from an ONNX file, which cannot "
            "be trained further; import its PyTorch checkpoint instead"
        )
    path = run.path / runs.MODEL
    tensors, metadata = _safetensors(path, name)
    notes = []
    averaged_path = run.path / runs.AVERAGED_MODEL
    if averaged_path.is_file():
        tensors |= _safetensors(averaged_path, name)[0]
        path = averaged_path
        notes.append("the averaged weights (ema) of the run are used")
    made_with = {**config, **_made_with(metadata)}
    recorded = run.environment.get("data")
    return Source(
        name=name,
        kind="run",
        sha256=_sha256(path),
        backbone=str(made_with.get("backbone")),
        backbone_options=made_with.get("backbone_options") or {},
        tensors=_under("backbone.", tensors),
        scaling=scaling_of(made_with),
        loss=str(made_with.get("loss", "")),
        loss_tensors=_under("loss.", tensors),
        identity_names=_identity_names(run),
        data=str(config.get("data", "")),
        fingerprint=str(recorded.get("fingerprint", "")) if isinstance(recorded, dict) else "",
        notes=notes,
    )


def _from_file(name: str, path: Path, config: TrainConfig) -> Source:
    """Reads a file of weights that fits the backbone of the settings.

    The image size of the file may be another one than that of the settings.
    """
    checkpoint = read_checkpoint(path)
    options = dict(config.backbone_options)
    try:
        fit = fitting_backbone(checkpoint, name, config.backbone, config.image_size, options)
    except WorkbenchError as error:
        try:
            fit = fitting_backbone(checkpoint, name, config.backbone, None, options)
        except WorkbenchError:
            raise error from None
    return Source(
        name=name,
        kind="file",
        sha256=_sha256(path),
        backbone=fit.name,
        backbone_options=fit.options,
        tensors=fit.net.state_dict(),
        notes=fit.notes,
    )


def _from_torchvision(name: str, config: TrainConfig, net: backbones.Backbone) -> Source:
    """Reads pretrained weights of torchvision, and downloads them if they are not at hand."""
    if isinstance(net, ResNet):
        model = net.torchvision_name
    elif config.backbone.startswith(TORCHVISION):
        model = config.backbone.removeprefix(TORCHVISION)
    else:
        raise WorkbenchError(
            f"init {name!r}: {config.backbone!r} is not a network of torchvision; give "
            "backbone: resnet18, resnet34, resnet50 or torchvision:NAME"
        )
    from torchvision import models  # imported here because it takes seconds

    available = models.get_model_weights(model)
    member = name.removeprefix(TORCHVISION)
    if member not in available.__members__:
        raise unknown_name(f"weights of {model} in torchvision", member, available.__members__)
    weights = available[member]
    try:
        tensors = weights.get_state_dict(progress=False, check_hash=True)
    except Exception as error:  # a missing connection or a damaged file raise errors of any type
        reason = " ".join(str(error).split())[:160]
        raise WorkbenchError(
            f"init {name!r}: {weights.url} is not in the cache of torch.hub and cannot be "
            f"downloaded ({reason})"
        ) from None
    expected = net.state_dict()
    trunk = {f"trunk.{key}": tensor for key, tensor in tensors.items()}
    # The classifier of torchvision has no place here, and the stem "face" has another first layer.
    stem = "trunk.conv1.weight"
    is_other_stem = isinstance(net, ResNet) and trunk[stem].shape != expected[stem].shape
    return Source(
        name=name,
        kind="torchvision",
        sha256=_hash_of(trunk),
        backbone=config.backbone,
        backbone_options={},
        tensors={key: tensor for key, tensor in trunk.items() if key in expected},
        scaling=scaling_of(IMAGENET),
        may_be_new=[stem] if is_other_stem else [],
        notes=[f"the weights are {weights} of torchvision"],
    )


def _identity_names(run: runs.Run) -> Sequence[str] | None:
    """Returns the names of the identities of a run.

    Runs of earlier versions did not store them; their training set is opened for them if it is
    still there.
    """
    names = run.identity_names()
    if names is not None or "data" not in run.config:
        return names
    try:
        dataset = data.open_stored(str(run.config["data"]), run.data_folder, str(run.path), "")
    except WorkbenchError:
        return None
    recorded = run.environment.get("data")
    is_same = isinstance(recorded, dict) and recorded.get("fingerprint") == dataset.fingerprint()
    return dataset.identity_names if is_same else None


def _safetensors(path: Path, name: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Returns the tensors and the metadata of a file of weights of a run."""
    if not path.is_file():
        raise WorkbenchError(
            f"init {name!r}: {path.name} is missing; the run has not saved a checkpoint yet"
        )
    try:
        with safe_open(path, "pt") as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            return tensors, file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise WorkbenchError(
            f"{path}: damaged or cannot be read ({' '.join(str(error).split())[:120]})"
        ) from None


def _made_with(metadata: Mapping[str, str]) -> dict[str, Any]:
    """Returns the settings that are stored with the weights; none in files of other programs."""
    try:
        stored = json.loads(metadata.get(runs.MADE_WITH, "{}"))
    except ValueError:
        return {}
    return stored if isinstance(stored, dict) else {}


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Returns the tensors whose names have a prefix, without it."""
    return {
        key.removeprefix(prefix): tensor
        for key, tensor in tensors.items()
        if key.startswith(prefix)
    }


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _hash_of(tensors: Mapping[str, Tensor]) -> str:
    """Returns the SHA-256 hash of tensors that were not read from a single file."""
    digest = hashlib.sha256()
    for name, tensor in tensors.items():
        digest.update(name.encode())
        digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()
