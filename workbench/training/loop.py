"""The training loop, from top to bottom."""

from __future__ import annotations

import json
import math
import os
import re
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
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
from workbench.data.webdataset import shards_to_fetch
from workbench.devices import resolve_device
from workbench.errors import WorkbenchError
from workbench.training import checkpoint
from workbench.training.config import TrainConfig
from workbench.training.hardware import environment, loader_workers, resolve_precision
from workbench.training.interrupt import stop_on_signal
from workbench.training.schedule import (
    learning_rate,
    margin_ramp,
    order_by_identity,
    order_by_shard,
    order_of_epoch,
    seed_of_step,
)

CHECKPOINT_SECONDS, EPOCH_CHECKPOINT_SECONDS = 300.0, 15.0
SHARES = {"accuracy": "accuracy", "active_triplets": "active triplets"}
"""Columns of metrics.jsonl that the progress bar shows, where the loss has them."""


def train(
    config: TrainConfig | str | Path | Mapping[str, Any] | None = None,
    *,
    resume: str | Path | runs.Run | None = None,
    progress: bool = True,
) -> runs.Run:
    """Train a backbone under a loss, or go on with a run that stopped.

    Args:
        config: settings, a mapping of them, or the path of a YAML file. Left out when resuming.
        resume: a run directory; its own config.yaml says what to do. On a CPU it goes on bit for bit.
        progress: show a bar with loss, accuracy, learning rate and images a second.

    Returns:
        The run, finished.

    Raises:
        WorkbenchError: bad settings, data or checkpoint (nothing is written then), or the loss became NaN.
        KeyboardInterrupt: Ctrl-C or SIGTERM; the run is saved and can be resumed.
    """
    if (config is None) == (resume is None):
        raise WorkbenchError("train: give either a config or a run to resume")
    if resume is not None:
        run = runs.open(resume)
        settings = _as_config(run.config)
        if run.state == "finished":
            return run
        if run.state == "running":
            raise WorkbenchError(f"{run.path}: is being trained already (its status.json shows a recent heartbeat)")
    else:
        settings = _as_config(config)
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(settings.seed)
        work = _prepare(settings, resuming=resume is not None)
        if resume is not None:
            recorded = run.environment.get("data")
            if not isinstance(recorded, dict) or recorded.get("fingerprint") != work.data.fingerprint():
                raise WorkbenchError(f"{run.path}: {settings.data!r} is not the data the run began with; start a new run")
            step, metrics_bytes = checkpoint.load(run, work.net, work.loss, work.optimizer)
        else:
            name = settings.name or runs.timestamped(re.sub(r"[^A-Za-z0-9._+-]+", "-", f"{settings.loss}-{settings.backbone}"))
            run = runs.create(settings.runs_dir, name, settings.plain())
            runs.write_json(run.path / runs.ENVIRONMENT, environment(work.device, work.precision, work.data))
            step, metrics_bytes = 0, 0
        try:
            _loop(run, settings, work, step, metrics_bytes, progress)
        except KeyboardInterrupt:
            run.set_status("stopped", message=f"interrupted; go on with workbench train --resume {run.path}", **_progress(run))
            raise
        except BaseException as error:
            run.set_status("failed", message=f"{type(error).__name__}: {error}", **_progress(run))
            raise
    return run


def _progress(run: runs.Run) -> dict[str, Any]:
    return {key: value for key, value in run.status.items() if key in ("step", "total")}


@dataclass
class _Work:
    """What a step needs."""

    data: data.Dataset
    net: backbones.Backbone
    loss: losses.Loss
    optimizer: torch.optim.Optimizer
    device: torch.device
    precision: str
    batch_size: int
    steps_an_epoch: int
    images_per_identity: int | None

    def order_of_epoch(self, epoch: int, seed: int) -> NDArray[np.int64]:
        length = self.steps_an_epoch * self.batch_size
        if self.images_per_identity is None:
            shard_of = shards_to_fetch(self.data.images)
            order = order_of_epoch(len(self.data), epoch, seed) if shard_of is None else order_by_shard(shard_of, epoch, seed)
            return order[:length]
        identities = self.data.identities
        return order_by_identity(identities, self.images_per_identity, self.batch_size, length, epoch, seed)


def _as_config(config: TrainConfig | str | Path | Mapping[str, Any] | None) -> TrainConfig:
    if isinstance(config, TrainConfig):
        return config
    if isinstance(config, str | Path):
        return TrainConfig.read(config)
    return TrainConfig(**{str(key): value for key, value in (config or {}).items()})


def _prepare(config: TrainConfig, resuming: bool = False) -> _Work:
    """Open and build everything; bad settings fail here, before a run directory exists."""
    device = resolve_device(config.device)
    precision = resolve_precision(config.precision, device)
    with data.stored_names() if resuming else nullcontext():
        dataset = data.open(config.data)
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
                raise WorkbenchError(f"{setting}: {option!r} is not set there; it follows from the other settings and the data")
    options = backbones.without_fetching(config.backbone_options) if resuming else config.backbone_options
    net = (
        backbones.create(config.backbone, embedding_dim=config.embedding_dim, image_size=config.image_size, **options)
        .to(device)
        .to(memory_format=torch.channels_last)
    )
    loss = losses.create(
        config.loss, embedding_dim=config.embedding_dim, num_classes=dataset.num_identities, **config.loss_options
    ).to(device)
    optimizer = torch.optim.SGD(
        [*net.parameters(), *loss.parameters()],
        lr=config.lr,
        momentum=config.momentum,
        weight_decay=config.weight_decay,
        fused=device.type in ("cpu", "cuda"),  # needs no copy of the gradients, which a million class centres would feel
    )
    batch_size, steps_an_epoch, together = _batches(config, loss, len(dataset))
    return _Work(dataset, net, loss, optimizer, device, precision, batch_size, steps_an_epoch, together)


def _batches(config: TrainConfig, loss: losses.Loss, count: int) -> tuple[int, int, int | None]:
    """Images a batch, batches an epoch, and images of an identity side by side in a batch (None: any order)."""
    together = loss.images_per_identity if config.images_per_identity is None else config.images_per_identity
    if together is None:
        batch_size = min(config.batch_size, count)
        return batch_size, count // batch_size, None  # a smaller last batch is left out: batch normalisation needs company
    if loss.images_per_identity is not None and together < 2:
        raise WorkbenchError(f"images_per_identity is {together}: {config.loss} compares images of one identity, at least 2")
    people, rest = divmod(config.batch_size, together)
    if rest or people < 2:
        near = sorted({max(people, 2) * together, max(people + 1, 2) * together})
        raise WorkbenchError(
            f"batch_size {config.batch_size} is not two or more identities of {together} images each (images_per_identity); "
            f"give e.g. {' or '.join(map(str, near))}"
        )
    batch_size = min(people, max(count // together, 2)) * together
    return batch_size, max(count // batch_size, 1), together


def _loop(run: runs.Run, config: TrainConfig, work: _Work, step: int, metrics_bytes: int, progress: bool) -> None:
    net, loss, optimizer = work.net, work.loss, work.optimizer
    identities = torch.from_numpy(work.data.identities)
    batch_size, steps_an_epoch = work.batch_size, work.steps_an_epoch
    total = config.epochs * steps_an_epoch
    warmup = round(config.warmup_epochs * steps_an_epoch)
    ramp = round(config.margin_ramp_epochs * steps_an_epoch)
    workers = loader_workers(config.workers, work.device)
    pictures = kept(work.data.images, net.image_size, workers)
    parameters = [*net.parameters(), *loss.parameters()]
    value = norm = torch.zeros(())  # of the last update
    net.train()

    metrics = (run.path / runs.METRICS).open("ab")
    metrics.truncate(min(metrics_bytes, metrics.tell()))
    metrics.seek(0, os.SEEK_END)  # truncating does not move the position, which the next checkpoint records
    bar = tqdm(total=total, initial=step, desc=run.name, unit="step", disable=not progress, dynamic_ncols=True)
    pulse = _Pulse(run, total)
    left_out = _LeftOut(run, bar)
    with metrics, bar, stop_on_signal() as request:
        since, images_since = time.perf_counter(), 0
        while step < total:
            epoch, begin = divmod(step, steps_an_epoch)
            order = work.order_of_epoch(epoch, config.seed)[begin * batch_size :]
            updates = 0
            for images, numbers in _read(config, pictures, order, net.image_size, batch_size, workers, left_out):
                lr = learning_rate(step, total, warmup, config.lr)
                for group in optimizer.param_groups:
                    group["lr"] = lr
                loss.ramp = margin_ramp(step, ramp)

                usable = len(images) >= 2  # batch normalisation needs company
                if usable:
                    images = images.to(work.device, non_blocking=True)
                    labels = identities[numbers].to(work.device, non_blocking=True)
                    if config.flip:
                        images = mirror_some(images, torch.Generator().manual_seed(seed_of_step(step, config.seed)))
                    with torch.autocast(work.device.type, torch.bfloat16, enabled=work.precision == "bf16"):
                        embeddings = net(to_network(images, config.pixel_mean, config.pixel_std, config.channels))
                    value = loss(embeddings, labels)
                    optimizer.zero_grad(set_to_none=True)
                    value.backward()
                    norm = torch.nn.utils.clip_grad_norm_(parameters, config.clip_norm)
                    optimizer.step()
                    updates += 1

                step += 1
                images_since += len(images)
                epoch_done = step % steps_an_epoch == 0
                if usable and (step % config.log_every == 0 or epoch_done):
                    row = _measure(loss, embeddings.detach(), labels, value, step, steps_an_epoch)
                    row |= {"lr": lr, "images_per_second": images_since / (time.perf_counter() - since)}
                    since, images_since = time.perf_counter(), 0
                    metrics.write(json.dumps(row).encode() + b"\n")
                    metrics.flush()
                    learned = "".join(f"{word} {row[key]:.1%}, " for key, word in SHARES.items() if key in row)
                    bar.set_postfix_str(f"loss {row['loss']:.3f}, {learned}lr {lr:.4f}, {row['images_per_second']:.0f} images/s")
                bar.update()
                pulse.beat(step)
                if step == total or request.signal or pulse.checkpoint_due(epoch_done):
                    _save(run, work, value, norm, step, metrics.tell())
                    pulse.checkpointed()
                if request.signal:
                    raise KeyboardInterrupt(request.signal.name)
            if not updates and not begin:
                raise WorkbenchError(
                    f"{config.data}: no batch of epoch {epoch + 1} has two images that can be read; see {left_out.path}"
                )
    run.set_status("finished", step=step, total=total)


def _read(
    config: TrainConfig,
    pictures: data.Images,
    order: NDArray[np.int64],
    size: tuple[int, int],
    batch_size: int,
    workers: int,
    left_out: _LeftOut,
) -> Iterator[tuple[Tensor, Tensor]]:
    """The batches of an order; an error of theirs says how to go on."""
    try:
        yield from batches(pictures, order, size, batch_size, workers, broken=config.broken, report=left_out)
    except WorkbenchError as error:
        raise WorkbenchError(
            f"{error}; to go on without such images set broken: skip, to find them all `workbench data info {config.data} --verify`"
        ) from None


class _LeftOut:
    """Names images that cannot be read in broken.txt, each once, also when a run is resumed."""

    MOST_SHOWN = 5

    def __init__(self, run: runs.Run, bar: tqdm[NoReturn]) -> None:
        self.path, self.bar = run.path / runs.BROKEN, bar
        self.known = set(self.path.read_text(encoding="utf-8", errors="replace").splitlines()) if self.path.is_file() else set()

    def __call__(self, reason: str) -> None:
        line = reason.encode("utf-8", "backslashreplace").decode()  # file names may be no UTF-8
        if line in self.known:
            return
        self.known.add(line)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")
        if not self.bar.disable and len(self.known) <= self.MOST_SHOWN:
            rest = f"; others only in {self.path}" if len(self.known) == self.MOST_SHOWN else ""
            self.bar.write(f"left out: {line}{rest}", file=sys.stderr)


class _Pulse:
    """Signs of life in status.json, and the clock of checkpoints."""

    def __init__(self, run: runs.Run, total: int) -> None:
        self.run, self.total = run, total
        self.beaten = -math.inf
        self.saved = time.monotonic()

    def beat(self, step: int) -> None:
        if time.monotonic() - self.beaten >= runs.HEARTBEAT_SECONDS:
            self.beaten = time.monotonic()
            self.run.set_status("running", step=step, total=self.total)

    def checkpoint_due(self, epoch_done: bool) -> bool:
        """After each epoch, but not all the time where epochs are short; within long ones now and then."""
        return time.monotonic() - self.saved >= (EPOCH_CHECKPOINT_SECONDS if epoch_done else CHECKPOINT_SECONDS)

    def checkpointed(self) -> None:
        self.saved = time.monotonic()


def _save(run: runs.Run, work: _Work, value: Tensor, norm: Tensor, step: int, metrics_bytes: int) -> None:
    _check_finite(value, step)
    _check_finite(norm, step, "gradient")  # it can overflow where the loss did not, and takes the weights with it
    checkpoint.save(run, work.net, work.loss, work.optimizer, step, metrics_bytes)


def _check_finite(value: Tensor, step: int, what: str = "loss") -> None:
    if not torch.isfinite(value):
        raise WorkbenchError(
            f"the {what} became {value.item()} at step {step}; lower lr, lengthen warmup_epochs or margin_ramp_epochs, "
            "or lower the scale s (the last checkpoint is from before)"
        )


@torch.no_grad()
def _measure(
    loss: losses.Loss, embeddings: Tensor, labels: Tensor, value: Tensor, step: int, steps_an_epoch: int
) -> dict[str, Any]:
    """One line of metrics.jsonl, of the batch just seen."""
    _check_finite(value, step)
    return {"step": step, "epoch": step / steps_an_epoch, "loss": value.item(), **loss.measure(embeddings, labels)}
