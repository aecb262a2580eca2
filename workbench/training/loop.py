"""The training loop, from the first step to the last."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm.auto import tqdm

from workbench import data, runs
from workbench.data.batches import batches, kept, to_network
from workbench.errors import WorkbenchError
from workbench.training import checkpoint, recommendations
from workbench.training.callbacks import Callbacks, Training
from workbench.training.config import TrainConfig
from workbench.training.diagnosis import Diagnosis, Finding, health
from workbench.training.hardware import loader_workers
from workbench.training.interrupt import stop_on_signal
from workbench.training.ordering import seed_of_step, without_copies
from workbench.training.records import LeftOut, Metrics, Notes, Status
from workbench.training.schedules import margin_ramp
from workbench.training.setup import Setup

MEASURES_IN_BAR = {
    "loss_of_uniform_guess": "uniform guess {:.3g}",
    "accuracy": "accuracy without margin {:.1%}",
    "active_triplets": "active triplets {:.1%}",
}
"""{column of metrics.jsonl: text in the progress bar} of the measures that the bar shows."""


@dataclass
class _Update:
    """The last update of the weights.

    Attributes:
        images: The images of the batch on the device, before augmentation.
        all_embeddings: The embeddings of the images after augmentation, without gradient.
        targets: The targets of each task.
        embeddings: The embeddings of the images that have an identity; none if recognition is not
            trained.
        labels: The identities of these images.
        value: The value of the total loss.
        recognition: The value of the loss of recognition, which is a part of it.
        norm: The norm of the gradient of the backbone, before it was clipped.
    """

    images: Tensor
    all_embeddings: Tensor
    targets: dict[str, Tensor]
    embeddings: Tensor
    labels: Tensor
    value: Tensor
    recognition: Tensor
    norm: Tensor


def loop(
    run: runs.Run,
    config: TrainConfig,
    setup: Setup,
    status: Status,
    metrics_bytes: int,
    callbacks: Callbacks,
    progress: bool,
) -> None:
    """Trains from step `status.step` to step `status.total`.

    Args:
        run: The run directory.
        config: The settings.
        setup: Data, network, loss, optimiser and what belongs to them.
        status: The progress of the run.
        metrics_bytes: Length of metrics.jsonl at the last checkpoint.
        callbacks: The callbacks, whose hooks are called.
        progress: Whether to show a progress bar.
    """
    net, loss, schedule = setup.net, setup.loss, setup.schedule
    batch_size, steps_per_epoch = setup.batch_size, setup.steps_per_epoch
    step, total = status.step, status.total
    # The margin is a function of the step; fractions of epochs are rounded to whole steps.
    ramp = round(config.margin_ramp_epochs * steps_per_epoch)
    # A small data set is decoded once and kept in memory.
    workers = loader_workers(config.workers, setup.device)
    images_source = kept(setup.mixture.images, net.image_size, workers)
    update: _Update | None = None

    bar = tqdm(
        total=total,
        initial=step,
        desc=run.name,
        unit="step",
        disable=not progress,
        dynamic_ncols=True,
    )
    left_out = LeftOut(run, bar)
    training = Training(run, config, net, loss, setup.device, total, steps_per_epoch, step)
    with (
        Metrics(run.path / runs.METRICS, metrics_bytes) as metrics,
        bar,
        stop_on_signal() as request,
        callbacks.around(training),
    ):
        notes = Notes(run, step, bar)
        _write_notes(config, setup, total, notes)
        diagnosis = Diagnosis(config, loss, steps_per_epoch, notes.kinds)
        logged_at, images_since = time.perf_counter(), 0
        while step < total and not schedule.finished:
            # One epoch, or the rest of it after resuming: the order follows from seed and epoch.
            epoch, steps_done = divmod(step, steps_per_epoch)
            order = setup.order_of_epoch(epoch, config.seed)[steps_done * batch_size :]
            updates = 0
            for images, numbers in _read(
                config, images_source, order, net.image_size, batch_size, workers, left_out
            ):
                if loss.images_per_identity is not None:
                    images, numbers = without_copies(images, numbers)

                # Set what is trained, the learning rates and the share of the margin of this step.
                setup.freezer.apply(step)
                lr = schedule.lr(step)
                for group in setup.optimizer.param_groups:
                    group["lr"] = lr * group["lr_factor"]
                loss.ramp = margin_ramp(step, ramp)

                # Update the weights, unless too few images of the batch could be read: batch
                # normalisation needs two.
                usable = len(images) >= 2
                if usable:
                    update = _update(config, setup, images, numbers, step)
                    schedule.observe(update.value)
                    updates += 1

                # Count the step, even if its batch was not usable.
                step += 1
                images_since += len(images)
                epoch_done = step % steps_per_epoch == 0
                done = step == total or schedule.finished
                status.beat(step)
                training.step, training.lr = step, lr
                callbacks.on_step(training)

                # Log a row at regular steps and at the end of each epoch.
                log_due = step % config.log_every == 0 or epoch_done or done
                if update is not None and usable and log_due:
                    _check_finite(update, config, status)
                    row = {"step": step, "epoch": step / steps_per_epoch}
                    row |= _measured(config, setup, update)
                    speed = images_since / (time.perf_counter() - logged_at)
                    row |= {"lr": lr, "images_per_second": speed}
                    logged_at, images_since = time.perf_counter(), 0
                    metrics.append(row)
                    for finding in _findings(diagnosis, row, update):
                        notes.add(step, *finding)
                    callbacks.on_log(training, row)
                    bar.set_postfix_str(_for_bar(row))
                if epoch_done:
                    callbacks.on_epoch_end(training)
                bar.update()

                # Save a checkpoint now and then, and before the training ends for any reason.
                interrupted = request.signal is not None or callbacks.failure is not None
                if done or interrupted or status.checkpoint_due(epoch_done):
                    _save(run, config, setup, status, update, metrics.length)

                # Stop after a complete step if the user asked for it or a callback failed.
                callbacks.check()
                if request.signal:
                    raise KeyboardInterrupt(request.signal.name)
                if done:
                    break
            if not updates and not steps_done:
                raise WorkbenchError(
                    f"{config.data}: no batch of epoch {epoch + 1} has two images that can be "
                    f"read; see {left_out.path}"
                )


def _update(
    config: TrainConfig, setup: Setup, images: Tensor, numbers: Tensor, step: int
) -> _Update:
    """Computes the loss of a batch and updates the weights of the backbone and the loss.

    With `accumulate`, the batch is processed in that many parts, whose gradients add up to that of
    the whole batch.

    Args:
        config: The settings.
        setup: Data, network, loss and optimiser.
        images: (N, 3, H, W) uint8, on the CPU.
        numbers: (N,) numbers of the images in the training set.
        step: Number of steps done before this one, which determines the seed of the augmentation.
    """
    images = images.to(setup.device, non_blocking=True)
    labels = torch.from_numpy(setup.mixture.identities)[numbers]
    labels = labels.to(setup.device, non_blocking=True)
    targets = setup.objective.targets_of(numbers, setup.device)
    generator = torch.Generator().manual_seed(seed_of_step(step, config.seed))
    augmented = setup.augment(images, generator)
    mixing = setup.augment.mixing
    setup.optimizer.zero_grad(set_to_none=True)
    embeddings, totals, recognitions = [], [], []
    parts = min(config.accumulate, len(images) // 2)  # batch normalisation needs two images
    for part in torch.arange(len(images), device=setup.device).tensor_split(parts):
        # Only the backbone is computed in bfloat16. The loss needs float32: near a cosine of 1,
        # bfloat16 has a resolution of 1/256, which is coarser than the effect of a margin.
        with (
            torch.autocast(setup.device.type, torch.bfloat16, enabled=setup.precision == "bf16"),
            torch.set_grad_enabled(not setup.objective.trunk_is_frozen),
        ):
            embedded = setup.net(
                to_network(augmented[part], config.pixel_mean, config.pixel_std, config.channels)
            )
        value = setup.objective.of_part(embedded, labels, targets, part)
        if mixing is not None:
            partners = {name: target[mixing.partner] for name, target in targets.items()}
            other = setup.objective.of_part(embedded, labels[mixing.partner], partners, part)
            value = value.mixed(other, mixing.weight)
        torch.autograd.backward(value.total)
        embeddings.append(embedded.detach())
        totals.append(value.total.detach())
        recognitions.append(value.recognition)
    norm = setup.clipper.clip()
    setup.optimizer.step()
    if setup.average is not None:
        setup.average.update()
    all_embeddings = torch.cat(embeddings)
    recognised = setup.objective.recognised(labels)
    return _Update(
        images=images,
        all_embeddings=all_embeddings,
        targets=targets,
        embeddings=all_embeddings[recognised],
        labels=labels[recognised],
        value=torch.stack(totals).sum(),
        recognition=torch.stack(recognitions).sum(),
        norm=norm,
    )


def _findings(diagnosis: Diagnosis, row: Mapping[str, Any], update: _Update) -> list[Finding]:
    """Returns what a row shows about recognition, if it is trained.

    With tasks, the column `loss` holds the total loss.
    """
    if not len(update.labels):
        return []
    of_recognition = {**row, "loss": update.recognition.item()}
    return diagnosis.check(of_recognition, update.embeddings, update.labels)


def _measured(config: TrainConfig, setup: Setup, update: _Update) -> dict[str, Any]:
    """Returns the columns of metrics.jsonl that are measured on the last batch."""
    row: dict[str, Any] = {"loss": update.value.item()}
    row |= setup.objective.measure(update.all_embeddings, update.targets)
    if len(update.labels):
        if config.tasks:
            row["fr_loss"] = update.recognition.item()
        row |= setup.loss.measure(update.embeddings, update.labels)
        row |= health(setup.loss, update.embeddings, update.labels)
    return row | setup.clipper.shares()


def _for_bar(row: Mapping[str, Any]) -> str:
    """Returns the text of the progress bar for a row of metrics.jsonl."""
    measures = "".join(
        f"{text.format(row[key])}, " for key, text in MEASURES_IN_BAR.items() if key in row
    )
    return (
        f"loss {row['loss']:.3f}, {measures}lr {row['lr']:.4f}, "
        f"{row['images_per_second']:.0f} images/s"
    )


def _save(
    run: runs.Run,
    config: TrainConfig,
    setup: Setup,
    status: Status,
    update: _Update | None,
    metrics_bytes: int,
) -> None:
    """Saves a checkpoint, after checking that loss, gradient and embeddings are finite."""
    if update is not None:
        _check_finite(update, config, status)
        _check_embeddings(update, config, setup, status)
    checkpoint.save(run, config.plain(), setup, status.step, metrics_bytes, _remedy(config, status))
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


def _write_notes(config: TrainConfig, setup: Setup, total: int, notes: Notes) -> None:
    """Adds notes on the data and the settings."""
    if setup.single_image_identities:
        count, identities = setup.single_image_identities, setup.data.num_identities
        notes.add(
            0,
            "data",
            "note",
            f"{count:,} of {identities:,} identities ({count / identities:.0%}) have one image; "
            "they form no genuine pairs and are used in impostor pairs only",
        )
    initialised = [] if setup.initialised is None else setup.initialised.notes
    for line in [*initialised, *recommendations.notes(config, setup.loss, total)]:
        notes.add(0, "settings", "note", line)


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
def _check_embeddings(update: _Update, config: TrainConfig, setup: Setup, status: Status) -> None:
    """Checks the embeddings of the last images, computed as in an evaluation.

    An evaluation uses the running statistics of batch normalisation, which may be NaN or infinite
    although the loss, which uses the statistics of the batch, is finite.
    """
    images = to_network(update.images, config.pixel_mean, config.pixel_std, config.channels)
    setup.net.eval()
    embeddings = setup.net(images)
    setup.freezer.apply(status.step)  # back to training mode, except for what is frozen
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
