"""How fast the workbench trains, beside a plain PyTorch loop, and where the time of a step goes.

`python benchmarks/train.py --help` lists the options.
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from statistics import median
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from _command import add_out, between, new_parser, report, run_script
from _machine import machine
from torch import Tensor
from tqdm.auto import tqdm

from workbench import augmentation, backbones, data, losses
from workbench.backbones.cost import cost
from workbench.data import batches as data_batches
from workbench.devices import resolve_device
from workbench.errors import unknown_name
from workbench.training import Callback, TrainConfig, Training, loop, train
from workbench.training.clipping import Clipper

PARTS = {
    "speed": "images a second of whole training steps, of all loops in turn in one process",
    "step": "milliseconds of the parts of a step of the workbench, with each augmentation",
}
PLAIN = "plain"
STEP_PARTS = {
    "read": "reading a batch of images that are in memory",
    "augment": "augmentation",
    "scale": "scaling of the pixel values",
    "network": "forward pass of the backbone",
    "loss": "forward pass of the loss",
    "backward": "backward pass of loss and backbone",
    "clip": "clipping of the gradient",
    "update": "step of the optimiser",
    "rest": "everything else, such as the row of metrics.jsonl every ten steps",
}
SKIPPED = 2
"""Steps at the beginning that do not count: memory is allocated, and kernels are chosen."""
CPU_SIZED = 1e9
"""Multiply-adds for an image of 64 pixels below which a backbone is measured by default."""
EMBEDDING_DIM, PEOPLE = 128, 100
LR, MOMENTUM, WEIGHT_DECAY, CLIP_NORM = 0.1, 0.9, 5e-4, 5.0
Seconds = defaultdict[str, float]
"""Seconds by part of a step."""


def main(arguments: list[str] | None = None) -> int:
    """Measures, prints a table, writes a JSON file with --out, and returns the exit code."""
    # A RuntimeError is raised if the memory of the device is used up.
    return run_script(
        _parser(),
        lambda options: report(options, measure, table),
        arguments,
        errors=(RuntimeError,),
    )


def _parser() -> argparse.ArgumentParser:
    listed = [f"  {name:12}{what}" for name, what in (PARTS | STEP_PARTS).items()]
    epilog = "\n".join(
        ["parts:", *listed[: len(PARTS)], "", "parts of a step:", *listed[len(PARTS) :]]
    )
    parser = new_parser(__doc__, epilog)
    parser.add_argument(
        "--backbones",
        nargs="+",
        metavar="NAME",
        help="default: all of less than a billion multiply-adds for an image of 64 pixels",
    )
    parser.add_argument(
        "--step-backbone",
        choices=backbones.names(),
        default="smallresnet",
        help="the backbone of the part step (default: smallresnet)",
    )
    parser.add_argument(
        "--augment",
        nargs="+",
        metavar="PRESET",
        default=["none", "mirror", "strong"],
        help="presets of augmentation (default: none mirror strong)",
    )
    parser.add_argument(
        "--size", type=between(16, 512), default=64, help="pixels of a side (default: 64)"
    )
    parser.add_argument(
        "--batch", type=between(2, 100_000), default=64, help="images a batch (default: 64)"
    )
    parser.add_argument(
        "--steps",
        type=between(1, 10_000),
        default=6,
        help=f"steps that count, after {SKIPPED} that do not (default: 6)",
    )
    parser.add_argument(
        "--rounds",
        type=between(1, 1000),
        default=3,
        help="times each is measured; the median counts (default: 3)",
    )
    parser.add_argument(
        "--precision", choices=("fp32", "bf16"), default="fp32", help="default: fp32"
    )
    parser.add_argument(
        "--parts", nargs="+", choices=PARTS, default=list(PARTS), help="default: all"
    )
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1 (default: cpu)")
    parser.add_argument(
        "--threads", type=between(1, 1024), help="threads on a CPU (default: PyTorch's choice)"
    )
    add_out(parser)
    return parser


def measure(given: argparse.Namespace) -> dict[str, Any]:
    """The figures of the parts asked for."""
    device = resolve_device(given.device)
    _check_names(given)
    if given.threads:
        torch.set_num_threads(given.threads)
    where = (
        torch.cuda.get_device_name(device)
        if device.type == "cuda"
        else f"cpu, {torch.get_num_threads()} threads"
    )
    found: dict[str, Any] = {
        "machine": machine("torch") | {"device": where},
        "sizes": {
            "image": given.size,
            "batch": given.batch,
            "steps": given.steps,
            "embedding": EMBEDDING_DIM,
            "classes": PEOPLE,
            "precision": given.precision,
        },
    }
    with tempfile.TemporaryDirectory() as folder:
        if "speed" in given.parts:
            found["images_per_second"] = speed(given, device, folder)
        if "step" in given.parts:
            found["step_ms"] = step(given, device, folder)
    return found


def _check_names(options: argparse.Namespace) -> None:
    """Raises an error if a backbone or a preset of augmentation is unknown."""
    for name in options.backbones or []:
        if name not in backbones.names():
            raise unknown_name("backbone", name, backbones.names())
    for spec in options.augment:
        augmentation.create(spec)


def cpu_sized() -> list[str]:
    """The backbones that are measured by default, the fastest first."""
    multiply_adds = {
        name: cost(name, EMBEDDING_DIM, 64).multiply_adds for name in backbones.names()
    }
    small = [name for name, count in multiply_adds.items() if count < CPU_SIZED]
    return sorted(small, key=multiply_adds.__getitem__)


def speed(
    given: argparse.Namespace, device: torch.device, folder: str
) -> dict[str, dict[str, float]]:
    """Images a second by backbone and loop: the plain one, and the workbench by augmentation."""
    names = given.backbones or cpu_sized()
    loops = [PLAIN, *given.augment]
    measured: dict[tuple[str, str], list[float]] = {}
    turns = [(name, kind) for _ in range(given.rounds) for name in names for kind in loops]
    for name, kind in tqdm(turns, desc="speed", unit="training", dynamic_ncols=True):
        if kind == PLAIN:
            seconds = plain(name, given, device)
        else:
            seconds = workbench(name, kind, given, device, folder).seconds
        measured.setdefault((name, kind), []).append(given.batch * given.steps / seconds)
    return {
        name: {kind: round(median(measured[name, kind]), 2) for kind in loops} for name in names
    }


def step(
    given: argparse.Namespace, device: torch.device, folder: str
) -> dict[str, dict[str, float]]:
    """Milliseconds of the parts of a step, by augmentation."""
    measured: dict[str, list[Seconds]] = {}
    turns = [kind for _ in range(given.rounds) for kind in given.augment]
    for kind in tqdm(turns, desc="step", unit="training", dynamic_ncols=True):
        running: Seconds = defaultdict(float)
        with _timed(running, device):
            clock = workbench(given.step_backbone, kind, given, device, folder, running)
        clock.parts["rest"] = clock.seconds - sum(clock.parts.values())
        measured.setdefault(kind, []).append(clock.parts)
    return {
        kind: {
            part: round(median(1000 * row[part] / given.steps for row in rows), 3)
            for part in STEP_PARTS
        }
        for kind, rows in measured.items()
    }


def _pictures(given: argparse.Namespace) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Random images (N, H, W, 3) for all steps."""
    count = given.batch * (SKIPPED + given.steps)
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (count, given.size, given.size, 3), dtype=np.uint8)


def _identities(count: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    return np.arange(count, dtype=np.int64) % min(PEOPLE, count // 2)


def plain(name: str, given: argparse.Namespace, device: torch.device) -> float:
    """Seconds of a loop as PyTorch's tutorials have it, without augmentation and without rows."""
    pictures = torch.from_numpy(_pictures(given)).permute(0, 3, 1, 2).contiguous()
    labels = torch.from_numpy(_identities(len(pictures)))
    torch.manual_seed(0)
    net = backbones.create(name, embedding_dim=EMBEDDING_DIM, image_size=given.size).to(device)
    loss = losses.create(
        "arcface", embedding_dim=EMBEDDING_DIM, num_classes=int(labels.max()) + 1
    ).to(device)
    parameters = [*net.parameters(), *loss.parameters()]
    optimizer = torch.optim.SGD(parameters, LR, MOMENTUM, weight_decay=WEIGHT_DECAY)
    order = torch.split(torch.randperm(len(pictures)), given.batch)
    start = 0.0
    for number, batch in enumerate(order):
        if number == SKIPPED:
            start = _now(device)
        images = pictures[batch].to(device).float().sub(127.5).div(127.5)
        with torch.autocast(device.type, torch.bfloat16, enabled=given.precision == "bf16"):
            embeddings = net(images)
        value = loss(embeddings, labels[batch].to(device))
        optimizer.zero_grad()
        value.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), CLIP_NORM)
        optimizer.step()
    return _now(device) - start


class _Clock(Callback):
    """Measures the steps that count.

    Attributes:
        seconds: Seconds of these steps.
        parts: Seconds of the parts of these steps, as far as they are measured.
    """

    def __init__(self, device: torch.device, running: Seconds) -> None:
        self.device, self.running = device, running
        self.start = self.seconds = 0.0
        self.parts: Seconds = defaultdict(float)

    def on_step(self, training: Training) -> None:
        if training.step == SKIPPED:
            self.running.clear()
            self.start = _now(self.device)
        elif training.step == training.total:
            self.seconds = _now(self.device) - self.start
            self.parts.update(self.running)


def workbench(
    name: str,
    augment: str,
    given: argparse.Namespace,
    device: torch.device,
    folder: str,
    running: Seconds | None = None,
) -> _Clock:
    """The time of the workbench's own loop, with its order, checks and clipping.

    `running` are the seconds of the parts of the steps so far, if they are measured.
    """
    pictures = _pictures(given)
    identities = _identities(len(pictures))

    def source(path: str) -> data.Dataset:
        names = [str(number) for number in range(int(identities.max()) + 1)]
        return data.Dataset("random images", list(pictures), identities, names)

    clock = _Clock(device, defaultdict(float) if running is None else running)
    config = TrainConfig(
        data="random-images",
        backbone=name,
        loss="arcface",
        embedding_dim=EMBEDDING_DIM,
        image_size=given.size,
        batch_size=given.batch,
        epochs=1,
        lr=LR,
        momentum=MOMENTUM,
        weight_decay=WEIGHT_DECAY,
        clip_norm=CLIP_NORM,
        augment=augment,
        precision=given.precision,
        device=str(device),
        workers=0,
        runs_dir=folder,
        name=f"{_file_name(name)}-{_file_name(augment)}-{time.monotonic_ns()}",
    )
    with patch.dict(data.SOURCES._factories, {"random-images": source}):
        train(config, callbacks=[clock], progress=False)
    return clock


def _file_name(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9_]+", "-", text)


@contextmanager
def _timed(seconds: Seconds, device: torch.device) -> Iterator[None]:
    """Adds the time that the functions of the training loop take to `seconds`, by part."""
    places: dict[str, tuple[Any, str]] = {
        "augment": (augmentation.Augmentation, "__call__"),
        "scale": (loop, "to_network"),
        "network": (backbones.Backbone, "forward"),
        "loss": (losses.Loss, "forward"),
        "backward": (torch.autograd, "backward"),
        "clip": (Clipper, "clip"),
        "update": (torch.optim.SGD, "step"),
    }

    def timed(function: Callable[..., Any], part: str) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            start = _now(device)
            result = function(*arguments, **options)
            seconds[part] += _now(device) - start
            return result

        return call

    read = data_batches.batches

    def batches(*arguments: Any, **options: Any) -> Iterator[tuple[Tensor, Tensor]]:
        iterator = read(*arguments, **options)
        following = timed(lambda: next(iterator, None), "read")
        while (batch := following()) is not None:
            yield batch

    with ExitStack() as stack:
        stack.enter_context(patch.object(loop, "batches", batches))
        for part, (owner, attribute) in places.items():
            function = timed(getattr(owner, attribute), part)
            stack.enter_context(patch.object(owner, attribute, function))
        yield


def _now(device: torch.device) -> float:
    """The time in seconds, after the device has done its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def table(found: dict[str, Any]) -> list[str]:
    """The figures in lines."""
    sizes = found["sizes"]
    lines = [
        f"{found['machine']['cpu']}, {found['machine']['device']}, load "
        f"{found['machine']['load_before']}, torch {found['machine']['torch']}",
        f"images of {sizes['image']} pixels, batches of {sizes['batch']}, {sizes['precision']}",
    ]
    rows = found.get("images_per_second", {})
    if rows:
        kinds = [kind for kind in next(iter(rows.values())) if kind != PLAIN]
        heads = "".join(f"{kind:>12} / plain" for kind in kinds)
        lines += ["", f"{'images/s':20}{PLAIN:>10}{heads}"]
        for name, row in rows.items():
            cells = "".join(f"{row[kind]:12.1f}{row[kind] / row[PLAIN]:8.2f}" for kind in kinds)
            lines.append(f"{name:20}{row[PLAIN]:10.1f}{cells}")
    parts = found.get("step_ms", {})
    if parts:
        lines += ["", f"{'ms of a step':20}{''.join(f'{kind:>12}  share' for kind in parts)}"]
        for part in STEP_PARTS:
            cells = "".join(
                f"{row[part]:12.2f}{row[part] / sum(row.values()):7.1%}" for row in parts.values()
            )
            lines.append(f"{part:20}{cells}")
        totals = "".join(f"{sum(row.values()):12.2f}{'':7}" for row in parts.values())
        lines.append(f"{'all':20}{totals}".rstrip())
    return lines


if __name__ == "__main__":
    sys.exit(main())
