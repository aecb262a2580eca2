"""Beginning a training with the weights of an earlier one, for fine-tuning."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from workbench import backbones, losses
from workbench.data import Dataset
from workbench.errors import WorkbenchError
from workbench.finite import check_tensors
from workbench.training.config import TrainConfig
from workbench.training.init_centres import per_class, take_over_centres
from workbench.training.init_sources import Source, read_source, scaling_of
from workbench.weights.order import COUNTER
from workbench.weights.state_dict import few


@dataclass(frozen=True)
class Initialised:
    """What a training took over from `init`.

    Attributes:
        source: The value of `init`.
        kind: "run", "file" or "torchvision".
        sha256: SHA-256 hash of the weights, which identifies the source.
        tensors: Number of tensors of the backbone that were taken over.
        centres: Number of identities whose class centres were taken over.
        notes: What was taken over and what begins anew, one sentence each.
    """

    source: str
    kind: str
    sha256: str
    tensors: int
    centres: int
    notes: list[str]

    def plain(self) -> dict[str, Any]:
        """Returns the entry `init` of environment.json."""
        return {
            "source": self.source,
            "kind": self.kind,
            "sha256": self.sha256,
            "tensors": self.tensors,
            "centres": self.centres,
            "notes": self.notes,
        }


def initialise(
    config: TrainConfig, net: backbones.Backbone, loss: losses.Loss, dataset: Dataset
) -> Initialised:
    """Loads the weights that `config.init` names into a new backbone and a new loss.

    All weights of the backbone outside its head must be in the source. Weights of the head are
    taken over if the source has the same kind of head and they have the same shape. Class centres
    are taken over for identities that have the same name in both training sets, unless the layer
    that makes the embedding is new. Other state of the loss, such as moving averages, begins anew.

    Args:
        config: The settings, with `init` and `init_centres`.
        net: The backbone, which is changed.
        loss: The loss, which is changed.
        dataset: The training set.

    Returns:
        What was taken over.

    Raises:
        WorkbenchError: if the source cannot be read, if it is of another backbone, or if weights
            are not finite.

    Example:
        >>> import tempfile, torch, numpy as np, workbench as wb
        >>> from workbench.training.initialising import initialise
        >>> images = [np.zeros((16, 16, 3), np.uint8)] * 2
        >>> dataset = wb.data.Dataset("toy", images, np.array([0, 1]), ["anna", "bert"])
        >>> options = {"embedding_dim": 4, "image_size": 16}
        >>> trained, net = (wb.backbones.create("smallresnet", **options) for _ in range(2))
        >>> loss = wb.losses.create("arcface", embedding_dim=4, num_classes=2)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = f"{folder}/net.pth"
        ...     torch.save(trained.state_dict(), path)
        ...     config = wb.TrainConfig(data="toy", init=path, **options)
        ...     initialised = initialise(config, net, loss, dataset)
        >>> torch.equal(net.head[3].weight, trained.head[3].weight), initialised.centres
        (True, 0)
    """
    # The reading creates networks with random weights; the random numbers of the training must not
    # depend on it.
    with torch.random.fork_rng(devices=[]):
        source = read_source(config, net)
    weights, new = _weights_of_backbone(source, config, net)
    check_tensors(weights, f"init {source.name!r}", "give weights of a training that went well")
    net.load_state_dict(net.state_dict() | weights)
    notes = [*source.notes, f"{len(weights)} tensors of the backbone come from {source.name}"]
    if new:
        notes.append(f"{len(new)} tensors of the backbone are new: {few(new)}")
    scaling = scaling_of(config.plain())
    if source.scaling and source.scaling != scaling:
        notes.append(
            f"the weights were trained with the input {source.scaling}, but this run scales it to "
            f"{scaling}: set pixel_mean, pixel_std and channels to those of the weights"
        )
    centres, reason = 0, "init_centres is false"
    if config.init_centres:
        centres, reason = take_over_centres(source, config, loss, dataset, is_new_head=bool(new))
    total = dataset.num_identities
    if centres:
        notes.append(f"the class centres of {centres:,} of {total:,} identities are taken over")
    elif per_class(loss, total):
        notes.append(f"all class centres are new, because {reason}")
    return Initialised(source.name, source.kind, source.sha256, len(weights), centres, notes)


def _weights_of_backbone(
    source: Source, config: TrainConfig, net: backbones.Backbone
) -> tuple[dict[str, Tensor], list[str]]:
    """Determines the weights of the backbone that are taken over.

    Returns:
        The weights by name, and the names of the weights that are new.
    """
    if source.backbone != config.backbone:
        raise WorkbenchError(
            f"init {source.name!r}: its backbone is {source.backbone}, but the setting backbone is "
            f"{config.backbone}; set backbone: {source.backbone}"
        )
    expected = net.state_dict()
    in_head = _names_in_head(net)
    is_same_head = source.backbone_options.get("head") == config.backbone_options.get("head")
    weights = {
        name: source.tensors[name]
        for name, tensor in expected.items()
        if name in source.tensors
        and source.tensors[name].shape == tensor.shape
        and (is_same_head or name not in in_head)
    }
    new = [name for name in expected if name not in weights and not name.endswith(COUNTER)]
    missing = [name for name in new if name not in in_head and name not in source.may_be_new]
    unexpected = [
        name
        for name in source.tensors
        if name not in expected
        and not name.endswith(COUNTER)
        and name.partition(".")[0] not in net.head_layers
    ]
    if missing or unexpected:
        options = dict(source.backbone_options)
        raise WorkbenchError(
            f"init {source.name!r}: its weights do not fit {config.backbone} with these settings "
            f"({few([*missing, *unexpected])}); only the head may differ: set backbone_options: "
            f"{options} and the image_size of the weights"
        )
    return weights, new


def _names_in_head(net: backbones.Backbone) -> set[str]:
    """Returns the names of the weights and statistics in the last stage of a backbone."""
    head = net.stages()[-1]
    tensors = {id(parameter) for parameter in head.parameters}
    for module in head.modules:
        tensors |= {id(buffer) for buffer in module.buffers()}
    return {
        name
        for name, tensor in [*net.named_parameters(), *net.named_buffers()]
        if id(tensor) in tensors
    }
