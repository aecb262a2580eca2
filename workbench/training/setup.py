"""The objects that a training needs: data, network, loss, optimiser and what belongs to them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from workbench import augmentation, backbones, data, losses, runs
from workbench.data.sources.webdataset import shards_to_fetch
from workbench.devices import resolve_device
from workbench.errors import WorkbenchError
from workbench.training.averaging import Average
from workbench.training.clipping import Clipper
from workbench.training.config import TrainConfig
from workbench.training.freezing import Freezer
from workbench.training.hardware import resolve_precision
from workbench.training.initialising import Initialised, initialise
from workbench.training.multitask import (
    Mixture,
    Objective,
    counts_of,
    objective_of,
    sources_of,
    trains_recognition,
)
from workbench.training.optimisers import create_optimizer, parameter_groups
from workbench.training.ordering import order_by_identity, order_by_shard, order_of_epoch
from workbench.training.schedules import Schedule, create_schedule
from workbench.training.snapshots import ImageSet, open_sets


@dataclass
class Setup:
    """The objects that the training loop works with.

    Attributes:
        data: The training set.
        mixture: The images of the training set and of the data sets of tasks.
        net: The backbone.
        loss: The loss, with its class centres if it has any.
        objective: What is minimised: the loss and those of the tasks.
        optimizer: The optimiser of the weights of the backbone and the loss.
        schedule: The schedule of the learning rate.
        clipper: The clipper of the gradients of the backbone and the loss.
        average: The moving average of the weights of the backbone; None if there is none.
        freezer: Sets what is trained in a step.
        initialised: What was taken over from `init`; None if there is none, or in a resumed run.
        augment: The augmentation of the images of a batch.
        device: The device of the training.
        precision: "fp32" or "bf16".
        batch_size: Number of images in a batch, with all the parts whose gradients are accumulated.
        steps_per_epoch: Number of batches in an epoch.
        total: Number of batches in all epochs.
        images_per_identity: Number of images of each identity in a batch; None for random batches.
        single_image_identities: Number of identities with a single image, if the loss compares
            images of one identity; else None.
        snapshot_sets: The image sets of the setting `snapshots`.
    """

    data: data.Dataset
    mixture: Mixture
    net: backbones.Backbone
    loss: losses.Loss
    objective: Objective
    optimizer: torch.optim.Optimizer
    schedule: Schedule
    clipper: Clipper
    average: Average | None
    freezer: Freezer
    initialised: Initialised | None
    augment: augmentation.Augmentation
    device: torch.device
    precision: str
    batch_size: int
    steps_per_epoch: int
    total: int
    images_per_identity: int | None
    single_image_identities: int | None
    snapshot_sets: list[ImageSet]

    @property
    def modules(self) -> dict[str, nn.Module]:
        """The modules with trained weights, by the prefix of their names in model.safetensors."""
        modules: dict[str, nn.Module] = {"backbone": self.net, "loss": self.loss}
        if self.objective.heads is not None:
            modules[runs.TASKS] = self.objective.heads
        return modules

    @property
    def state_holders(self) -> dict[str, Any]:
        """The other objects whose state belongs into a checkpoint, by their names in it."""
        holders: dict[str, Any] = {"clipped": self.clipper, "schedule": self.schedule}
        if self.average is not None:
            holders["average"] = self.average
        return holders

    def order_of_epoch(self, epoch: int, seed: int) -> NDArray[np.int64]:
        """Returns the numbers of the images of an epoch in `mixture`, in order."""
        return self.mixture.order(self._order_of_leading(epoch, seed), epoch, seed)

    def _order_of_leading(self, epoch: int, seed: int) -> NDArray[np.int64]:
        """Returns the numbers of the images of the data set that determines the epoch."""
        dataset, batch_size = self.mixture.leading, self.mixture.counts[0]
        length = self.steps_per_epoch * batch_size
        if self.images_per_identity is not None:
            return order_by_identity(
                dataset.identities, self.images_per_identity, batch_size, length, epoch, seed
            )
        shard_of = shards_to_fetch(dataset.images)
        if shard_of is not None:
            return order_by_shard(shard_of, epoch, seed)[:length]
        return order_of_epoch(len(dataset), epoch, seed)[:length]


def prepare(config: TrainConfig, run: runs.Run | None = None, new_data: bool = False) -> Setup:
    """Opens the data and creates network, loss and optimiser.

    Errors in the settings are raised here, before a run directory exists.

    Args:
        config: The settings.
        run: The run that is resumed; None for a new one.
        new_data: Whether the caller gives the data, so that those in the run's config.yaml are not
            used.
    """
    device = resolve_device(config.device)
    precision = resolve_precision(config.precision, device)
    dataset = _open_data(config, None if new_data else run)
    _check_options(config)
    net = _create_network(config, device, run)
    loss = _create_loss(config, dataset.num_identities, device)
    initialised = None
    if config.init is not None and run is None:
        initialised = initialise(config, net, loss, dataset)
    augment = augmentation.create(config.augment)
    _check_mixing(config, augment, loss)
    mixture, steps_per_epoch, images_per_identity = _batches(config, loss, dataset, run)
    objective = objective_of(config, mixture, loss, device)
    optimizer = _create_optimizer(config, net, loss, objective, device)
    return Setup(
        data=dataset,
        mixture=mixture,
        net=net,
        loss=loss,
        objective=objective,
        optimizer=optimizer,
        schedule=_create_schedule(config, steps_per_epoch),
        clipper=Clipper(net, loss, config.clip_norm, config.clip_norm_loss, objective.heads),
        average=None if config.ema is None else Average(net, config.ema),
        freezer=_create_freezer(config, net, objective, optimizer, steps_per_epoch),
        initialised=initialised,
        augment=augment,
        device=device,
        precision=precision,
        batch_size=mixture.batch_size,
        steps_per_epoch=steps_per_epoch,
        total=config.epochs * steps_per_epoch,
        images_per_identity=images_per_identity,
        single_image_identities=_single_image_identities(config, loss, dataset),
        snapshot_sets=open_sets(config.snapshots, dataset, run),
    )


def _create_network(
    config: TrainConfig, device: torch.device, run: runs.Run | None
) -> backbones.Backbone:
    """Creates the backbone on the device."""
    options = config.backbone_options
    if run is not None:  # its weights come from the checkpoint, so none are downloaded
        options = backbones.without_fetching(options)
    net = backbones.create(
        config.backbone,
        embedding_dim=config.embedding_dim,
        image_size=config.image_size,
        **options,
    )
    return net.to(device).to(memory_format=torch.channels_last)  # faster for convolutions


def _create_loss(config: TrainConfig, num_classes: int, device: torch.device) -> losses.Loss:
    """Creates the loss on the device."""
    loss = losses.create(
        config.loss,
        embedding_dim=config.embedding_dim,
        num_classes=num_classes,
        **config.loss_options,
    ).to(device)
    if config.label_smoothing:
        loss.label_smoothing = config.label_smoothing
    return loss


def _create_optimizer(
    config: TrainConfig,
    net: backbones.Backbone,
    loss: losses.Loss,
    objective: Objective,
    device: torch.device,
) -> torch.optim.Optimizer:
    """Creates the optimiser of the weights of the backbone, the loss and the heads of tasks."""
    groups = parameter_groups(
        net,
        loss,
        weight_decay=config.weight_decay,
        decay_norm_and_bias=config.decay_norm_and_bias,
        lr_factor_loss=config.lr_factor_loss,
        layer_decay=config.layer_decay,
        extra=objective.heads,
    )
    return create_optimizer(
        config.optimizer, groups, config.lr, config.momentum, config.optimizer_options, device
    )


def _create_schedule(config: TrainConfig, steps_per_epoch: int) -> Schedule:
    """Creates the schedule of the learning rate."""
    return create_schedule(
        config.schedule,
        config.schedule_options,
        total=config.epochs * steps_per_epoch,
        warmup=round(config.warmup_epochs * steps_per_epoch),
        steps_per_epoch=steps_per_epoch,
        peak_lr=config.lr,
    )


def _create_freezer(
    config: TrainConfig,
    net: backbones.Backbone,
    objective: Objective,
    optimizer: torch.optim.Optimizer,
    steps_per_epoch: int,
) -> Freezer:
    """Creates the object that sets what is trained in a step."""
    return Freezer(
        net,
        optimizer,
        steps=round(config.freeze_epochs * steps_per_epoch),
        stages=config.freeze_stages,
        batch_norm=config.batch_norm == "frozen",
        whole=objective.trunk_is_frozen,
    )


def _open_data(config: TrainConfig, run: runs.Run | None) -> data.Dataset:
    """Opens the training set.

    Args:
        config: The settings.
        run: The run whose config.yaml gives the data; None if the caller gives them. Paths in a
            config.yaml are relative to the folder in which the training of that run was started.
    """
    if run is None:
        dataset = data.open(config.data)
    else:
        remedy = (
            "if the data have moved, give their new place, e.g. "
            "workbench train --resume RUN --data folder:DIR"
        )
        dataset = data.open_stored(
            config.data, run.data_folder, str(run.path / runs.CONFIG), remedy
        )
    if len(dataset) < 2 or dataset.num_identities < 2:
        raise WorkbenchError(
            f"{config.data}: {len(dataset)} image(s) of {dataset.num_identities} identity; "
            "training needs at least two of each"
        )
    return dataset


def _check_options(config: TrainConfig) -> None:
    """Refuses options of the backbone and the loss that other settings determine."""
    reserved = {
        "backbone_options": ("name", "embedding_dim", "image_size"),
        "loss_options": ("name", "embedding_dim", "num_classes"),
    }
    for setting, names in reserved.items():
        for name in names:
            if name in getattr(config, setting):
                raise WorkbenchError(
                    f"{setting}: {name!r} is not allowed here; it follows from the other settings "
                    "and the data"
                )
    is_new = config.init is None and not config.backbone_options.get("pretrained")
    if config.batch_norm == "frozen" and is_new:
        raise WorkbenchError(
            "batch_norm is 'frozen', but the running statistics of a new network are those of no "
            "images; give init, or batch_norm: local"
        )


def _check_mixing(
    config: TrainConfig, augment: augmentation.Augmentation, loss: losses.Loss
) -> None:
    """Refuses mixed images for losses that compare images, as such an image has two identities."""
    compares = loss.images_per_identity is not None
    if augment.mixes and (compares or not isinstance(loss, losses.ClassificationLoss)):
        raise WorkbenchError(
            f"augment: mixup gives an image two identities, but {config.loss} compares images of "
            "one identity; leave mixup out, or train with a loss with class centres only, such as "
            "arcface"
        )


def _single_image_identities(
    config: TrainConfig, loss: losses.Loss, dataset: data.Dataset
) -> int | None:
    """Returns the number of identities with a single image.

    It is None for losses that do not compare images of one identity.
    """
    if loss.images_per_identity is None or not trains_recognition(config):
        return None
    count = int(np.count_nonzero(np.bincount(dataset.identities) == 1))
    if count == dataset.num_identities:
        raise WorkbenchError(
            f"{config.data}: no identity has two images, but {config.loss} compares images of one "
            "identity; give data with several images of an identity, or a loss with class "
            "centres such as arcface"
        )
    return count


def _batches(
    config: TrainConfig, loss: losses.Loss, dataset: data.Dataset, run: runs.Run | None
) -> tuple[Mixture, int, int | None]:
    """Determines the batches of an epoch.

    Args:
        config: The settings.
        loss: The loss, which may have a default number of images of an identity.
        dataset: The training set.
        run: The run that is resumed; None for a new one.

    Returns:
        The images of a batch, the number of batches in an epoch, and the number of images of each
        identity in a batch (None for random batches).
    """
    images_per_identity = _images_per_identity(config, loss)
    if images_per_identity is not None:
        _check_identities(config.batch_size, images_per_identity)
    sources = sources_of(config, dataset, run)
    counts = counts_of(sources, config.batch_size, images_per_identity or 1)
    count, first = len(sources[0].dataset), counts[0]
    others = tuple(config.accumulate * number for number in counts[1:])
    if images_per_identity is None:
        # A smaller last batch is left out: with one image, batch normalisation would fail.
        first = min(first * config.accumulate, count)
        return Mixture(sources, (first, *others)), count // first, None
    identities = first // images_per_identity
    identities = min(identities * config.accumulate, max(count // images_per_identity, 2))
    first = identities * images_per_identity
    return Mixture(sources, (first, *others)), max(count // first, 1), images_per_identity


def _check_identities(batch_size: int, images_per_identity: int) -> None:
    """Checks that a batch can be divided into identities of the same number of images."""
    identities, rest = divmod(batch_size, images_per_identity)
    if rest or identities < 2:
        valid = {max(number, 2) * images_per_identity for number in (identities, identities + 1)}
        raise WorkbenchError(
            f"batch_size {batch_size} cannot be divided into two or more identities of "
            f"{images_per_identity} images each (images_per_identity); "
            f"give e.g. {' or '.join(map(str, sorted(valid)))}"
        )


def _images_per_identity(config: TrainConfig, loss: losses.Loss) -> int | None:
    """Returns the number of images of each identity in a batch; None for random batches."""
    if not trains_recognition(config):
        return None
    if config.accumulate > 1 and loss.images_per_identity is not None:
        raise WorkbenchError(
            f"accumulate is {config.accumulate}: {config.loss} compares the images of a batch with "
            "each other, so several small batches do not equal a large one; raise batch_size "
            "instead"
        )
    if config.images_per_identity is None:
        return loss.images_per_identity
    if loss.images_per_identity is not None and config.images_per_identity < 2:
        raise WorkbenchError(
            f"images_per_identity is {config.images_per_identity}: {config.loss} compares images "
            "of one identity and needs at least 2"
        )
    return config.images_per_identity
