"""The training loop, from top to bottom."""

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

SHARES = {"accuracy": "accuracy", "active_triplets": "active triplets"}
"""Columns of metrics.jsonl that the progress bar shows, where the loss has them."""


def train(
    config: TrainConfig | str | Path | Mapping[str, Any] | None = None,
    *,
    resume: str | Path | runs.Run | None = None,
    changes: Mapping[str, Any] | None = None,
    progress: bool = True,
) -> runs.Run:
    """Train a backbone under a loss, or go on with a run that stopped.

    Args:
        config: settings, a mapping of them, or the path of a YAML file. Left out when resuming.
        resume: a run directory; its own config.yaml says what to do. On a CPU it goes on bit for bit. A finished run goes on
            where it is to have more epochs than it had.
        changes: settings that are to be different from now on when resuming, one of `resuming.MAY_CHANGE`: more epochs,
            another device, another place of the same data. They are written to config.yaml.
        progress: show a bar with loss, accuracy, learning rate and images a second.

    Returns:
        The run, finished.

    Raises:
        WorkbenchError: bad settings, data or checkpoint, a setting that cannot be changed any more, a run that another process
            trains, a folder that cannot be written to or has no room (nothing is written then); numbers became NaN or
            infinite, or the disk is full (the run has failed then, and keeps the checkpoint before).
        KeyboardInterrupt: Ctrl-C or SIGTERM; the run is saved and can be resumed.
    """
    if (config is None) == (resume is None):
        raise WorkbenchError("train: give either a config or a run to resume")
    if resume is None:
        if changes:
            raise WorkbenchError(
                "train: changes are for a run that is resumed; put them into the config"
            )
        return _begin(_as_config(config), progress)
    run = runs.open(resume)
    with run.lock():
        return _go_on(run, changes or {}, progress)


def _begin(config: TrainConfig, progress: bool) -> runs.Run:
    name = config.name or runs.timestamped(
        re.sub(r"[^A-Za-z0-9._+-]+", "-", f"{config.loss}-{config.backbone}")
    )
    runs.check_name(name)
    config = with_head_scale(config)
    with _own_random_state(config.seed):
        work = _prepare(config)
        checkpoint.check_space(Path(config.runs_dir), work.net, work.loss)
        run = runs.create(config.runs_dir, name, config.plain())
        with (
            run.lock(),
            _ends(
                run, Status(run, config.epochs * work.steps_an_epoch, step=0, saved=None)
            ) as status,
        ):
            run.write_environment(
                environment(work.device, work.precision, work.data, work.without_partner)
            )
            _loop(run, config, work, status, 0, progress)
    return run


def _go_on(run: runs.Run, changes: Mapping[str, Any], progress: bool) -> runs.Run:
    """What `train` does to resume a run whose lock is held."""
    config = resumed_settings(run, changes)
    finished = run.status.get("state") == "finished"
    if finished and not changes and not (run.path / runs.CHECKPOINT).exists():
        return run  # its owner has kept the model alone
    state = checkpoint.read(run)
    different = (
        changed(run, config, state["config"]) if "config" in state else {}
    )  # older checkpoints do not say
    if (
        finished
        and "config" in state
        and "data" not in changes
        and not {"epochs", "data"} & set(different)
    ):
        return run
    with _own_random_state(config.seed):
        work = _prepare(config, run, new_data="data" in changes)
        recorded = run.environment.get("data")
        if not isinstance(recorded, dict) or recorded.get("fingerprint") != work.data.fingerprint():
            raise WorkbenchError(
                f"{run.path}: {config.data!r} is not the data the run began with; start a new run"
            )
        step, total = state["step"], config.epochs * work.steps_an_epoch
        check_steps(run, config, step, work.steps_an_epoch)
        checkpoint.restore(run, state, work.net, work.loss, work.optimizer, work.clipper)
        if finished and step == total:
            if "data" in changes or "data" in different:
                _record_resumption(run, config, work, step, different, new_data="data" in changes)
            return run
        checkpoint.check_space(run.path, work.net, work.loss)
        with _ends(run, Status(run, total, step=step, saved=step)) as status:
            _record_resumption(run, config, work, step, different, new_data="data" in changes)
            _loop(run, config, work, status, state["metrics_bytes"], progress)
    return run


def _record_resumption(
    run: runs.Run,
    config: TrainConfig,
    work: _Work,
    step: int,
    different: Mapping[str, Any],
    new_data: bool,
) -> None:
    """Bring config.yaml and environment.json up to date with how the run goes on."""
    if new_data:
        run.environment["data"]["folder"] = str(Path.cwd())
    now = environment(work.device, work.precision, work.data, work.without_partner)
    said = {key: now[key] for key in ("workbench", "torch", "device", "precision")}
    resumed = [
        *run.environment.get("resumed", []),
        {"step": step, **said, "changes": dict(different)},
    ]
    run.write_environment(run.environment | {"resumed": resumed})
    if config.plain() != run.config:
        run.write_config(config.plain())


@contextmanager
def _own_random_state(seed: int) -> Iterator[None]:
    """The caller's random state is what it was before when this is left."""
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(seed)
        yield


@contextmanager
def _ends(run: runs.Run, status: Status) -> Iterator[Status]:
    """However training ends, status.json says so."""
    try:
        yield status
        status.finished()
    except KeyboardInterrupt:
        status.stopped()
        raise
    except BaseException as error:
        status.failed(error)
        raise


@dataclass
class _Work:
    """What a step needs."""

    data: data.Dataset
    net: backbones.Backbone
    loss: losses.Loss
    optimizer: torch.optim.Optimizer
    clipper: Clipper
    device: torch.device
    precision: str
    batch_size: int
    steps_an_epoch: int
    images_per_identity: int | None
    without_partner: int | None
    """Identities with one image, where the loss compares images of one identity."""

    def order_of_epoch(self, epoch: int, seed: int) -> NDArray[np.int64]:
        length = self.steps_an_epoch * self.batch_size
        if self.images_per_identity is None:
            shard_of = shards_to_fetch(self.data.images)
            order = (
                order_of_epoch(len(self.data), epoch, seed)
                if shard_of is None
                else order_by_shard(shard_of, epoch, seed)
            )
            return order[:length]
        identities = self.data.identities
        return order_by_identity(
            identities, self.images_per_identity, self.batch_size, length, epoch, seed
        )


def _as_config(config: TrainConfig | str | Path | Mapping[str, Any] | None) -> TrainConfig:
    if isinstance(config, TrainConfig):
        return config
    if isinstance(config, str | Path):
        return TrainConfig.read(config)
    return TrainConfig(**{str(key): value for key, value in (config or {}).items()})


def _prepare(config: TrainConfig, run: runs.Run | None = None, new_data: bool = False) -> _Work:
    """Open and build everything; bad settings fail here, before a run directory exists.

    Args:
        run: the one that is resumed; its data and weights are there already.
        new_data: whether its data stand at a place that the caller has given, not its config.yaml.
    """
    device = resolve_device(config.device)
    precision = resolve_precision(config.precision, device)
    if run is None or new_data:
        dataset = data.open(config.data)
    else:
        remedy = "where the data have moved, give their new place, e.g. workbench train --resume RUN --data folder:DIR"
        dataset = data.open_stored(
            config.data, run.data_folder, str(run.path / runs.CONFIG), remedy
        )
    if len(dataset) < 2 or dataset.num_identities < 2:
        raise WorkbenchError(
            f"{config.data}: {len(dataset)} image(s) of {dataset.num_identities} identity; two of each are the least"
        )
    for setting, options, taken in (
        ("backbone_options", config.backbone_options, ("name", "embedding_dim", "image_size")),
        ("loss_options", config.loss_options, ("name", "embedding_dim", "num_classes")),
    ):
        for option in taken:
            if option in options:
                raise WorkbenchError(
                    f"{setting}: {option!r} is not set there; it follows from the other settings and the data"
                )
    options = (
        config.backbone_options
        if run is None
        else backbones.without_fetching(config.backbone_options)
    )
    net = (
        backbones.create(
            config.backbone,
            embedding_dim=config.embedding_dim,
            image_size=config.image_size,
            **options,
        )
        .to(device)
        .to(memory_format=torch.channels_last)
    )
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
        fused=device.type
        in (
            "cpu",
            "cuda",
        ),  # needs no copy of the gradients, which a million class centres would feel
    )
    clipper = Clipper(net, loss, config.clip_norm, config.clip_norm_loss)
    batch_size, steps_an_epoch, together = _batches(config, loss, len(dataset))
    alone = _without_partner(config, loss, dataset)
    return _Work(
        dataset,
        net,
        loss,
        optimizer,
        clipper,
        device,
        precision,
        batch_size,
        steps_an_epoch,
        together,
        alone,
    )


def _without_partner(config: TrainConfig, loss: losses.Loss, dataset: data.Dataset) -> int | None:
    """Number of identities with one image, where the loss compares images of one identity; None where it does not."""
    if loss.images_per_identity is None:
        return None
    alone = int(np.count_nonzero(np.bincount(dataset.identities) == 1))
    if alone == dataset.num_identities:
        raise WorkbenchError(
            f"{config.data}: no identity has two images, but {config.loss} compares images of one identity; give data with "
            "more, or a loss with class centres such as arcface"
        )
    return alone


def _batches(config: TrainConfig, loss: losses.Loss, count: int) -> tuple[int, int, int | None]:
    """Images a batch, batches an epoch, and images of an identity side by side in a batch (None: any order)."""
    together = (
        loss.images_per_identity
        if config.images_per_identity is None
        else config.images_per_identity
    )
    if together is None:
        batch_size = min(config.batch_size, count)
        return (
            batch_size,
            count // batch_size,
            None,
        )  # a smaller last batch is left out: batch normalisation needs company
    if loss.images_per_identity is not None and together < 2:
        raise WorkbenchError(
            f"images_per_identity is {together}: {config.loss} compares images of one identity, at least 2"
        )
    people, rest = divmod(config.batch_size, together)
    if rest or people < 2:
        near = sorted({max(people, 2) * together, max(people + 1, 2) * together})
        raise WorkbenchError(
            f"batch_size {config.batch_size} is not two or more identities of {together} images each (images_per_identity); "
            f"give e.g. {' or '.join(map(str, near))}"
        )
    batch_size = min(people, max(count // together, 2)) * together
    return batch_size, max(count // batch_size, 1), together


def _loop(
    run: runs.Run,
    config: TrainConfig,
    work: _Work,
    status: Status,
    metrics_bytes: int,
    progress: bool,
) -> None:
    net, loss, optimizer, clipper = work.net, work.loss, work.optimizer, work.clipper
    identities = torch.from_numpy(work.data.identities)
    batch_size, steps_an_epoch = work.batch_size, work.steps_an_epoch
    step, total = status.step, status.total
    warmup = round(config.warmup_epochs * steps_an_epoch)
    ramp = round(config.margin_ramp_epochs * steps_an_epoch)
    workers = loader_workers(config.workers, work.device)
    pictures = kept(work.data.images, net.image_size, workers)
    seen: Tensor | None = None  # the images of the last update, its loss and its gradient's norm
    value = norm = torch.zeros(())
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
            _write_notes(config, work, total, bar)
        since, images_since = time.perf_counter(), 0
        while step < total:
            epoch, begin = divmod(step, steps_an_epoch)
            order = work.order_of_epoch(epoch, config.seed)[begin * batch_size :]
            updates = 0
            for images, numbers in _read(
                config, pictures, order, net.image_size, batch_size, workers, left_out
            ):
                if loss.images_per_identity is not None:
                    images, numbers = without_copies(images, numbers)
                lr = learning_rate(step, total, warmup, config.lr)
                for group in optimizer.param_groups:
                    group["lr"] = lr
                loss.ramp = margin_ramp(step, ramp)

                usable = len(images) >= 2  # batch normalisation needs company
                if usable:
                    seen = images = images.to(work.device, non_blocking=True)
                    labels = identities[numbers].to(work.device, non_blocking=True)
                    if config.flip:
                        images = mirror_some(
                            images, torch.Generator().manual_seed(seed_of_step(step, config.seed))
                        )
                    with torch.autocast(
                        work.device.type, torch.bfloat16, enabled=work.precision == "bf16"
                    ):
                        embeddings = net(
                            to_network(images, config.pixel_mean, config.pixel_std, config.channels)
                        )
                    value = loss(embeddings, labels)
                    optimizer.zero_grad(set_to_none=True)
                    value.backward()
                    norm = clipper.clip()
                    optimizer.step()
                    updates += 1

                step += 1
                images_since += len(images)
                epoch_done = step % steps_an_epoch == 0
                status.beat(step)
                if usable and (step % config.log_every == 0 or epoch_done):
                    _check_finite(value, norm, config, status)
                    row = {"step": step, "epoch": step / steps_an_epoch, "loss": value.item()}
                    row |= loss.measure(embeddings.detach(), labels) | clipper.shares()
                    row |= {
                        "lr": lr,
                        "images_per_second": images_since / (time.perf_counter() - since),
                    }
                    since, images_since = time.perf_counter(), 0
                    metrics.append(row)
                    learned = "".join(
                        f"{word} {row[key]:.1%}, " for key, word in SHARES.items() if key in row
                    )
                    bar.set_postfix_str(
                        f"loss {row['loss']:.3f}, {learned}lr {lr:.4f}, {row['images_per_second']:.0f} images/s"
                    )
                bar.update()
                if step == total or request.signal or status.checkpoint_due(epoch_done):
                    _check_finite(value, norm, config, status)
                    _check_embeddings(seen, config, work, status)
                    remedy = _remedy(config, status)
                    checkpoint.save(
                        run,
                        config.plain(),
                        net,
                        loss,
                        optimizer,
                        clipper,
                        step,
                        metrics.length,
                        remedy,
                    )
                    status.checkpointed()
                if request.signal:
                    raise KeyboardInterrupt(request.signal.name)
            if not updates and not begin:
                raise WorkbenchError(
                    f"{config.data}: no batch of epoch {epoch + 1} has two images that can be read; see {left_out.path}"
                )


def _read(
    config: TrainConfig,
    pictures: data.Images,
    order: NDArray[np.int64],
    size: tuple[int, int],
    batch_size: int,
    workers: int,
    left_out: LeftOut,
) -> Iterator[tuple[Tensor, Tensor]]:
    """The batches of an order; an error of theirs says how to go on."""
    try:
        yield from batches(
            pictures, order, size, batch_size, workers, broken=config.broken, report=left_out
        )
    except WorkbenchError as error:
        raise WorkbenchError(
            f"{error}; to go on without such images set broken: skip, to find them all `workbench data info {config.data} --verify`"
        ) from None


def _write_notes(config: TrainConfig, work: _Work, total: int, bar: tqdm[NoReturn]) -> None:
    """Say before the first step what the settings and the data bring with them."""
    if work.without_partner:
        bar.write(_said_without_partner(work), file=sys.stderr)
    for line in notes(config, work.loss, total):
        bar.write(f"note: {line}", file=sys.stderr)


def _said_without_partner(work: _Work) -> str:
    alone, of = work.without_partner or 0, work.data.num_identities
    return (
        f"note: {alone:,} of {of:,} identities ({alone / of:.0%}) have one image; as anchors they have no partner, and are seen as "
        "images of others only"
    )


def _check_finite(value: Tensor, norm: Tensor, config: TrainConfig, status: Status) -> None:
    """Of the last update; the gradient can overflow where the loss did not, and takes the weights with it."""
    for what, number in (("loss", value), ("gradient", norm)):
        if not torch.isfinite(number):
            raise WorkbenchError(
                f"the {what} became {number.item()} at step {status.step}; {_remedy(config, status)}"
            )


@torch.no_grad()
def _check_embeddings(
    images: Tensor | None, config: TrainConfig, work: _Work, status: Status
) -> None:
    """Of images of the last update, made as evaluation makes them, with the running statistics of batch normalisation."""
    if images is None:
        return
    work.net.eval()
    embeddings = work.net(to_network(images, config.pixel_mean, config.pixel_std, config.channels))
    work.net.train()
    wrong = int((~embeddings.isfinite()).any(1).sum())
    if wrong:
        raise WorkbenchError(
            f"at step {status.step}, {wrong} of {len(images)} embeddings of training images hold NaN or infinity when the network "
            f"is used as in evaluation; {_remedy(config, status)}"
        )


def _remedy(config: TrainConfig, status: Status) -> str:
    return (
        f"in a new run, lower lr (it was {config.lr:g}), lengthen warmup_epochs or margin_ramp_epochs, or lower the scale s "
        f"({status.last_checkpoint()})"
    )
