"""The training loop: `train` prepares a run and trains it, or resumes one."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm.auto import tqdm

from workbench import backbones, data, losses, runs
from workbench.data.batches import batches, kept, mirror_some, to_network
from workbench.data.sources.webdataset import shards_to_fetch
from workbench.devices import resolve_device
from workbench.errors import WorkbenchError
from workbench.training import checkpoint
from workbench.training.clipping import Clipper
from workbench.training.config import TrainConfig
from workbench.training.hardware import environment, loader_workers, resolve_precision
from workbench.training.interrupt import stop_on_signal
from workbench.training.recommendations import notes, with_head_scale
from workbench.training.records import LeftOut, Metrics, Status
from workbench.training.resuming import changed, check_steps, resumed_settings
from workbench.training.schedule import (
    learning_rate,
    margin_ramp,
    order_by_identity,
    order_by_shard,
    order_of_epoch,
    seed_of_step,
    without_copies,
)

MEASURES_IN_BAR = {"accuracy": "accuracy", "active_triplets": "active triplets"}
"""{column of metrics.jsonl: name in the progress bar} of the measures that the bar shows."""


def train(
    config: TrainConfig | str | Path | Mapping[str, Any] | None = None,
    *,
    resume: str | Path | runs.Run | None = None,
    changes: Mapping[str, Any] | None = None,
    progress: bool = True,
) -> runs.Run:
    """Trains a backbone with a loss, or resumes a run that was stopped.

    Ctrl-C and SIGTERM stop the training after the current step, with a checkpoint. On a CPU, a
    resumed run gives the same weights, bit for bit, as one that was never stopped.

    Args:
        config: Settings, as a `TrainConfig`, a mapping, or the path of a YAML file. Must be None
            when a run is resumed.
        resume: Run directory to resume, with the settings in its config.yaml. A finished run is
            trained further only if `changes` give it more epochs.
        changes: New values of settings, which replace those of the resumed run and are written to
            its config.yaml. Only the settings in `workbench.training.resuming.MAY_CHANGE` may be
            changed, such as `epochs`, `device`, or `data` if the same data have a new place.
        progress: Whether to show a progress bar, and notes on the settings.

    Returns:
        The finished run.

    Raises:
        WorkbenchError: before training, if settings, data or checkpoint are invalid, if a setting
            must not change, if another process trains the run, if the folder cannot be written to,
            or if the disk has too little space. During training, if the loss, a gradient or an
            embedding becomes NaN or infinite, or if the disk is full; the run then has the state
            "failed" and keeps its last checkpoint.
        KeyboardInterrupt: if the user stopped the training; the run can be resumed.

    Example:
        >>> import workbench as wb
        >>> config = wb.TrainConfig(data="synthfaces-mini", image_size=64, epochs=1)
        >>> run = wb.train(config)  # doctest: +SKIP
        >>> run.metrics()["loss"].iloc[-1]  # doctest: +SKIP
        3.21
    """
    if (config is None) == (resume is None):
        raise WorkbenchError("train: give either a config or a run to resume")
    if resume is None:
        if changes:
            raise WorkbenchError(
                "train: changes are for a run that is resumed; put them into the config"
            )
        return _start(_as_config(config), progress)
    run = runs.open(resume)
    with run.lock():
        return _resume(run, changes or {}, progress)


def _start(config: TrainConfig, progress: bool) -> runs.Run:
    """Creates a run directory and trains the run."""
    name = config.name
    if not name:
        loss_and_backbone = f"{config.loss}-{config.backbone}"
        name = runs.timestamped(re.sub(r"[^A-Za-z0-9._+-]+", "-", loss_and_backbone))
    runs.check_name(name)
    config = with_head_scale(config)
    with _seeded(config.seed):
        setup = _prepare(config)
        checkpoint.check_space(Path(config.runs_dir), setup.net, setup.loss)
        run = runs.create(config.runs_dir, name, config.plain())
        status = Status(run, config.epochs * setup.steps_per_epoch, step=0, saved=None)
        with run.lock(), _final_state(status):
            run.write_environment(
                environment(
                    setup.device, setup.precision, setup.data, setup.single_image_identities
                )
            )
            _loop(run, config, setup, status, 0, progress)
    return run


def _resume(run: runs.Run, changes: Mapping[str, Any], progress: bool) -> runs.Run:
    """Resumes a run whose lock this process holds."""
    config = resumed_settings(run, changes)
    is_finished = run.status.get("state") == "finished"
    if is_finished and not changes and not (run.path / runs.CHECKPOINT).exists():
        return run  # there is nothing to do, and last.ckpt may have been deleted to save space
    state = checkpoint.read(run)
    different: dict[str, Any] = {}
    if "config" in state:  # checkpoints of earlier versions do not contain their settings
        different = changed(run, config, state["config"])
        has_work = "data" in changes or {"epochs", "data"} & set(different)
        if is_finished and not has_work:
            return run
    with _seeded(config.seed):
        setup = _prepare(config, run, new_data="data" in changes)
        recorded = run.environment.get("data")
        fingerprint = recorded.get("fingerprint") if isinstance(recorded, dict) else None
        if fingerprint != setup.data.fingerprint():
            raise WorkbenchError(
                f"{run.path}: {config.data!r} is not the data the run began with; start a new run"
            )
        step, total = state["step"], config.epochs * setup.steps_per_epoch
        check_steps(run, config, step, setup.steps_per_epoch)
        checkpoint.restore(run, state, setup.net, setup.loss, setup.optimizer, setup.clipper)
        if is_finished and step == total:
            if "data" in changes or "data" in different:
                _record_resumption(run, config, setup, step, different, new_data="data" in changes)
            return run
        checkpoint.check_space(run.path, setup.net, setup.loss)
        status = Status(run, total, step=step, saved=step)
        with _final_state(status):
            _record_resumption(run, config, setup, step, different, new_data="data" in changes)
            _loop(run, config, setup, status, state["metrics_bytes"], progress)
    return run


def _record_resumption(
    run: runs.Run,
    config: TrainConfig,
    setup: _Setup,
    step: int,
    different: Mapping[str, Any],
    new_data: bool,
) -> None:
    """Adds the resumption to environment.json, and writes changed settings to config.yaml."""
    if new_data:
        run.environment["data"]["folder"] = str(Path.cwd())
    now = environment(setup.device, setup.precision, setup.data, setup.single_image_identities)
    resumption = {
        "step": step,
        **{key: now[key] for key in ("workbench", "torch", "device", "precision")},
        "changes": dict(different),
    }
    resumed = [*run.environment.get("resumed", []), resumption]
    run.write_environment(run.environment | {"resumed": resumed})
    if config.plain() != run.config:
        run.write_config(config.plain())


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seeds PyTorch's random generators, and restores the caller's random state afterwards."""
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(seed)
        yield


@contextmanager
def _final_state(status: Status) -> Iterator[None]:
    """Writes the state with which the training ends to status.json."""
    try:
        yield
        status.finished()
    except KeyboardInterrupt:
        status.stopped()
        raise
    except BaseException as error:
        status.failed(error)
        raise


@dataclass
class _Setup:
    """The objects that the training loop works with.

    Attributes:
        data: The training set.
        net: The backbone.
        loss: The loss, with its class centres if it has any.
        optimizer: The optimiser of the weights of the backbone and the loss.
        clipper: The clipper of the gradients of the backbone and the loss.
        device: The device of the training.
        precision: "fp32" or "bf16".
        batch_size: Number of images in a batch.
        steps_per_epoch: Number of batches in an epoch.
        images_per_identity: Number of images of each identity in a batch; None for random batches.
        single_image_identities: Number of identities with a single image, if the loss compares
            images of one identity; else None.
    """

    data: data.Dataset
    net: backbones.Backbone
    loss: losses.Loss
    optimizer: torch.optim.Optimizer
    clipper: Clipper
    device: torch.device
    precision: str
    batch_size: int
    steps_per_epoch: int
    images_per_identity: int | None
    single_image_identities: int | None

    def order_of_epoch(self, epoch: int, seed: int) -> NDArray[np.int64]:
        """Returns the numbers of the images of an epoch, in order."""
        length = self.steps_per_epoch * self.batch_size
        if self.images_per_identity is not None:
            return order_by_identity(
                self.data.identities,
                self.images_per_identity,
                self.batch_size,
                length,
                epoch,
                seed,
            )
        shard_of = shards_to_fetch(self.data.images)
        if shard_of is not None:
            return order_by_shard(shard_of, epoch, seed)[:length]
        return order_of_epoch(len(self.data), epoch, seed)[:length]


def _as_config(config: TrainConfig | str | Path | Mapping[str, Any] | None) -> TrainConfig:
    if isinstance(config, TrainConfig):
        return config
    if isinstance(config, str | Path):
        return TrainConfig.read(config)
    return TrainConfig(**{str(key): value for key, value in (config or {}).items()})


def _prepare(config: TrainConfig, run: runs.Run | None = None, new_data: bool = False) -> _Setup:
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
    backbone_options = config.backbone_options
    if run is not None:  # its weights come from the checkpoint, so none are downloaded
        backbone_options = backbones.without_fetching(backbone_options)
    net = backbones.create(
        config.backbone,
        embedding_dim=config.embedding_dim,
        image_size=config.image_size,
        **backbone_options,
    )
    net = net.to(device).to(memory_format=torch.channels_last)  # faster for convolutions
    loss = losses.create(
        config.loss,
        embedding_dim=config.embedding_dim,
        num_classes=dataset.num_identities,
        **config.loss_options,
    ).to(device)
    optimizer = torch.optim.SGD(
        [*net.parameters(), *loss.parameters()],
        lr=config.lr,
        momentum=config.momentum,
        weight_decay=config.weight_decay,
        # The fused version needs no copies of the gradients, which are large for many classes.
        fused=device.type in ("cpu", "cuda"),
    )
    clipper = Clipper(net, loss, config.clip_norm, config.clip_norm_loss)
    batch_size, steps_per_epoch, images_per_identity = _batches(config, loss, len(dataset))
    return _Setup(
        data=dataset,
        net=net,
        loss=loss,
        optimizer=optimizer,
        clipper=clipper,
        device=device,
        precision=precision,
        batch_size=batch_size,
        steps_per_epoch=steps_per_epoch,
        images_per_identity=images_per_identity,
        single_image_identities=_single_image_identities(config, loss, dataset),
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


def _single_image_identities(
    config: TrainConfig, loss: losses.Loss, dataset: data.Dataset
) -> int | None:
    """Returns the number of identities with a single image.

    It is None for losses that do not compare images of one identity.
    """
    if loss.images_per_identity is None:
        return None
    count = int(np.count_nonzero(np.bincount(dataset.identities) == 1))
    if count == dataset.num_identities:
        raise WorkbenchError(
            f"{config.data}: no identity has two images, but {config.loss} compares images of one "
            "identity; give data with several images of an identity, or a loss with class "
            "centres such as arcface"
        )
    return count


def _batches(config: TrainConfig, loss: losses.Loss, count: int) -> tuple[int, int, int | None]:
    """Determines the batches of an epoch.

    Args:
        config: The settings.
        loss: The loss, which may have a default number of images of an identity.
        count: Number of images in the training set.

    Returns:
        Number of images in a batch, number of batches in an epoch, and number of images of each
        identity in a batch (None for random batches).
    """
    images_per_identity = config.images_per_identity
    if images_per_identity is None:
        images_per_identity = loss.images_per_identity
    if images_per_identity is None:
        # A smaller last batch is left out: with one image, batch normalisation would fail.
        batch_size = min(config.batch_size, count)
        return batch_size, count // batch_size, None
    if loss.images_per_identity is not None and images_per_identity < 2:
        raise WorkbenchError(
            f"images_per_identity is {images_per_identity}: {config.loss} compares images of one "
            "identity and needs at least 2"
        )
    identities, rest = divmod(config.batch_size, images_per_identity)
    if rest or identities < 2:
        valid = {max(number, 2) * images_per_identity for number in (identities, identities + 1)}
        raise WorkbenchError(
            f"batch_size {config.batch_size} cannot be divided into two or more identities of "
            f"{images_per_identity} images each (images_per_identity); "
            f"give e.g. {' or '.join(map(str, sorted(valid)))}"
        )
    batch_size = min(identities, max(count // images_per_identity, 2)) * images_per_identity
    return batch_size, max(count // batch_size, 1), images_per_identity


@dataclass
class _Update:
    """The last update of the weights.

    Attributes:
        images: The images of the batch on the device, before they were mirrored.
        labels: The identities of the images.
        embeddings: The embeddings of the images, after some were mirrored.
        value: The value of the loss.
        norm: The norm of the gradient of the backbone, before it was clipped.
    """

    images: Tensor
    labels: Tensor
    embeddings: Tensor
    value: Tensor
    norm: Tensor


def _loop(
    run: runs.Run,
    config: TrainConfig,
    setup: _Setup,
    status: Status,
    metrics_bytes: int,
    progress: bool,
) -> None:
    """Trains from step `status.step` to step `status.total`.

    Args:
        run: The run directory.
        config: The settings.
        setup: Data, network, loss and optimiser.
        status: The progress of the run.
        metrics_bytes: Length of metrics.jsonl at the last checkpoint.
        progress: Whether to show a progress bar.
    """
    net, loss = setup.net, setup.loss
    batch_size, steps_per_epoch = setup.batch_size, setup.steps_per_epoch
    step, total = status.step, status.total
    # The schedules are functions of the step; fractions of epochs are rounded to whole steps.
    warmup = round(config.warmup_epochs * steps_per_epoch)
    ramp = round(config.margin_ramp_epochs * steps_per_epoch)
    # A small data set is decoded once and kept in memory.
    workers = loader_workers(config.workers, setup.device)
    images_source = kept(setup.data.images, net.image_size, workers)
    update: _Update | None = None
    net.train()

    bar = tqdm(
        total=total,
        initial=step,
        desc=run.name,
        unit="step",
        disable=not progress,
        dynamic_ncols=True,
    )
    left_out = LeftOut(run, bar)
    with (
        Metrics(run.path / runs.METRICS, metrics_bytes) as metrics,
        bar,
        stop_on_signal() as request,
    ):
        if progress:
            _write_notes(config, setup, total, bar)
        logged_at, images_since = time.perf_counter(), 0
        while step < total:
            # One epoch, or the rest of it after resuming: the order follows from seed and epoch.
            epoch, steps_done = divmod(step, steps_per_epoch)
            order = setup.order_of_epoch(epoch, config.seed)[steps_done * batch_size :]
            updates = 0
            for images, numbers in _read(
                config, images_source, order, net.image_size, batch_size, workers, left_out
            ):
                if loss.images_per_identity is not None:
                    images, numbers = without_copies(images, numbers)

                # Set the learning rate and the share of the margin of this step.
                lr = learning_rate(step, total, warmup, config.lr)
                for group in setup.optimizer.param_groups:
                    group["lr"] = lr
                loss.ramp = margin_ramp(step, ramp)

                # Update the weights, unless too few images of the batch could be read: batch
                # normalisation needs two.
                usable = len(images) >= 2
                if usable:
                    update = _update(config, setup, images, numbers, step)
                    updates += 1

                # Count the step, even if its batch was not usable.
                step += 1
                images_since += len(images)
                epoch_done = step % steps_per_epoch == 0
                status.beat(step)

                # Log a row at regular steps and at the end of each epoch.
                if update is not None and usable and (step % config.log_every == 0 or epoch_done):
                    _check_finite(update, config, status)
                    row = {"step": step, "epoch": step / steps_per_epoch}
                    row |= {"loss": update.value.item()}
                    row |= loss.measure(update.embeddings.detach(), update.labels)
                    row |= setup.clipper.shares()
                    speed = images_since / (time.perf_counter() - logged_at)
                    row |= {"lr": lr, "images_per_second": speed}
                    logged_at, images_since = time.perf_counter(), 0
                    metrics.append(row)
                    bar.set_postfix_str(_for_bar(row))
                bar.update()

                # Save a checkpoint now and then, and before the training ends for any reason.
                if step == total or request.signal or status.checkpoint_due(epoch_done):
                    _save(run, config, setup, status, update, metrics.length)

                # Stop after a complete step if the user asked for it.
                if request.signal:
                    raise KeyboardInterrupt(request.signal.name)
            if not updates and not steps_done:
                raise WorkbenchError(
                    f"{config.data}: no batch of epoch {epoch + 1} has two images that can be "
                    f"read; see {left_out.path}"
                )


def _update(
    config: TrainConfig, setup: _Setup, images: Tensor, numbers: Tensor, step: int
) -> _Update:
    """Computes the loss of a batch and updates the weights of the backbone and the loss.

    Args:
        config: The settings.
        setup: Data, network, loss and optimiser.
        images: (N, 3, H, W) uint8, on the CPU.
        numbers: (N,) numbers of the images in the training set.
        step: Number of steps done before this one, which determines the seed of the mirroring.
    """
    images = images.to(setup.device, non_blocking=True)
    labels = torch.from_numpy(setup.data.identities)[numbers].to(setup.device, non_blocking=True)
    augmented = images
    if config.flip:
        generator = torch.Generator().manual_seed(seed_of_step(step, config.seed))
        augmented = mirror_some(images, generator)
    # Only the backbone is computed in bfloat16. The loss needs float32: near a cosine of 1,
    # bfloat16 has a resolution of 1/256, which is coarser than the effect of a margin.
    with torch.autocast(setup.device.type, torch.bfloat16, enabled=setup.precision == "bf16"):
        embeddings = setup.net(
            to_network(augmented, config.pixel_mean, config.pixel_std, config.channels)
        )
    value = setup.loss(embeddings, labels)
    setup.optimizer.zero_grad(set_to_none=True)
    value.backward()
    norm = setup.clipper.clip()
    setup.optimizer.step()
    return _Update(images, labels, embeddings, value, norm)


def _for_bar(row: Mapping[str, Any]) -> str:
    """Returns the text of the progress bar for a row of metrics.jsonl."""
    measures = "".join(
        f"{name} {row[key]:.1%}, " for key, name in MEASURES_IN_BAR.items() if key in row
    )
    return (
        f"loss {row['loss']:.3f}, {measures}lr {row['lr']:.4f}, "
        f"{row['images_per_second']:.0f} images/s"
    )


def _save(
    run: runs.Run,
    config: TrainConfig,
    setup: _Setup,
    status: Status,
    update: _Update | None,
    metrics_bytes: int,
) -> None:
    """Saves a checkpoint, after checking that loss, gradient and embeddings are finite."""
    if update is not None:
        _check_finite(update, config, status)
        _check_embeddings(update, config, setup, status)
    checkpoint.save(
        run,
        config.plain(),
        setup.net,
        setup.loss,
        setup.optimizer,
        setup.clipper,
        status.step,
        metrics_bytes,
        _remedy(config, status),
    )
    status.checkpointed()


def _read(
    config: TrainConfig,
    images: data.Images,
    order: NDArray[np.int64],
    size: tuple[int, int],
    batch_size: int,
    workers: int,
    left_out: LeftOut,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yields the batches of an epoch.

    If an image cannot be read, the error message also says how to train without such images.
    """
    try:
        yield from batches(
            images, order, size, batch_size, workers, broken=config.broken, report=left_out
        )
    except WorkbenchError as error:
        raise WorkbenchError(
            f"{error}; to train without such images set broken: skip, to find all of them run "
            f"`workbench data info {config.data} --verify`"
        ) from None


def _write_notes(config: TrainConfig, setup: _Setup, total: int, bar: tqdm[NoReturn]) -> None:
    """Prints notes on the data and the settings above the progress bar."""
    if setup.single_image_identities:
        count, identities = setup.single_image_identities, setup.data.num_identities
        bar.write(
            f"note: {count:,} of {identities:,} identities ({count / identities:.0%}) have one "
            "image; they form no genuine pairs and are used in impostor pairs only",
            file=sys.stderr,
        )
    for line in notes(config, setup.loss, total):
        bar.write(f"note: {line}", file=sys.stderr)


def _check_finite(update: _Update, config: TrainConfig, status: Status) -> None:
    """Checks the loss and the gradient of the last update.

    The gradient can be infinite although the loss is finite; it would destroy the weights.
    """
    for name, number in (("loss", update.value), ("gradient", update.norm)):
        if not torch.isfinite(number):
            raise WorkbenchError(
                f"the {name} became {number.item()} at step {status.step}; "
                f"{_remedy(config, status)}"
            )


@torch.no_grad()
def _check_embeddings(update: _Update, config: TrainConfig, setup: _Setup, status: Status) -> None:
    """Checks the embeddings of the last images, computed as in an evaluation.

    An evaluation uses the running statistics of batch normalisation, which may be NaN or infinite
    although the loss, which uses the statistics of the batch, is finite.
    """
    images = to_network(update.images, config.pixel_mean, config.pixel_std, config.channels)
    setup.net.eval()
    embeddings = setup.net(images)
    setup.net.train()
    wrong = int((~embeddings.isfinite()).any(1).sum())
    if wrong:
        raise WorkbenchError(
            f"at step {status.step}, {wrong} of {len(images)} embeddings of training images "
            "contain NaN or infinity when the network is used as in evaluation; "
            f"{_remedy(config, status)}"
        )


def _remedy(config: TrainConfig, status: Status) -> str:
    """Returns what the user can do if the training diverges."""
    return (
        f"in a new run, lower lr (it was {config.lr:g}), lengthen warmup_epochs or "
        f"margin_ramp_epochs, or lower the scale s ({status.last_checkpoint()})"
    )
