"""What augmentation costs beside a training step, and beside the same operations of kornia.

`python benchmarks/augmentation.py --help` lists the options.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from statistics import median
from typing import Any

import torch
from _command import add_out, between, new_parser, report, run_script
from _machine import machine
from torch import Tensor

from workbench import augmentation, backbones, losses
from workbench.data.batches import to_network
from workbench.devices import resolve_device

PARTS = {
    "presets": "milliseconds of each preset for a batch, and their ratio to a training step",
    "alone": "milliseconds of each augmentation, applied to all images of the batch",
    "kornia": "the augmentations that kornia has too, by both: all images, and the preset strong; "
    "left out where the package is missing",
}
ALIKE: dict[str, list[Any]] = {
    "flip": [{"flip": {"probability": 1.0}}],
    "affine": ["affine"],
    "warp": ["warp"],
    "colour": [{"colour": {"probability": 1.0, "brightness": 0.5, "contrast": 0.5, "hue": 0.05}}],
    "blur: motion": [{"blur": {"probability": 1.0, "kind": "motion", "size": [0.05, 0.14]}}],
    "noise": [{"noise": {"probability": 1.0}}],
    "erase": [{"erase": {"probability": 1.0}}],
    "jpeg": [{"jpeg": {"probability": 1.0}}],
    "strong": ["strong"],
}
"""The augmentations that are compared with kornia's. All but `strong` change all images."""
Run = Callable[[], object]


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
    epilog = "\n".join(["parts:", *(f"  {name:10}{what}" for name, what in PARTS.items())])
    parser = new_parser(__doc__, epilog)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--backbone", default="smallresnet", help="default: smallresnet")
    parser.add_argument(
        "--size", type=between(8, 1024), default=64, help="side of the images (default: 64)"
    )
    parser.add_argument(
        "--batch", type=between(2, 10_000), default=128, help="images in a batch (default: 128)"
    )
    parser.add_argument("--device", default="cpu", help="default: cpu")
    parser.add_argument(
        "--threads", type=between(1, 1024), help="threads of PyTorch (default: its own)"
    )
    parser.add_argument(
        "--rounds",
        type=between(1, 1000),
        default=7,
        help="times that everything is measured, in turn; the medians count (default: 7)",
    )
    add_out(parser)
    return parser


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Returns all figures of the parts that were asked for, in milliseconds."""
    device = resolve_device(options.device)
    if options.threads:
        torch.set_num_threads(options.threads)
    generator = torch.Generator().manual_seed(0)
    shape = (options.batch, options.size, options.size, 3)
    pixels = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
    images = pixels.permute(0, 3, 1, 2).to(device)

    def of(spec: Any) -> Run:
        augment = augmentation.create(spec)
        return lambda: augment(images, generator)

    def alone(name: str) -> Run:
        (augment,) = augmentation.create(name).alone().values()
        return lambda: augment(images, generator)

    found: dict[str, Any] = {
        "machine": machine("torch"),
        "sizes": {
            "backbone": options.backbone,
            "size": options.size,
            "batch": options.batch,
            "device": str(device),
            "threads": torch.get_num_threads(),
        },
    }
    if "presets" in options.parts:
        step = {"step": training_step(options.backbone, images)}
        presets = {name: of(name) for name in augmentation.presets()}
        found["presets_ms"] = timed(step | presets, options.rounds, device)
    if "alone" in options.parts:
        runs_alone = {name: alone(name) for name in augmentation.names()}
        found["alone_ms"] = timed(runs_alone, options.rounds, device)
    if "kornia" in options.parts and find_spec("kornia") is not None:
        peers = {f"{name}, kornia": run for name, run in of_kornia(images).items()}
        ours = {name: of(spec) for name, spec in ALIKE.items()}
        found["kornia_ms"] = timed(ours | peers, options.rounds, device)
    return found


def training_step(backbone: str, images: Tensor) -> Run:
    """Returns a training step of a backbone under ArcFace with SGD, without augmentation."""
    device, size = images.device, images.shape[-1]
    net = backbones.create(backbone, embedding_dim=512, image_size=size).to(device)
    net = net.to(memory_format=torch.channels_last)
    loss = losses.create("arcface", embedding_dim=512, num_classes=1000).to(device)
    parameters = [*net.parameters(), *loss.parameters()]
    optimizer = torch.optim.SGD(parameters, lr=0.1, momentum=0.9, weight_decay=5e-4, fused=True)
    labels = torch.arange(len(images), device=device) % 1000
    bf16 = device.type == "cuda"

    def run() -> None:
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            embeddings = net(to_network(images, 127.5, 127.5))
        optimizer.zero_grad(set_to_none=True)
        loss(embeddings, labels).backward()
        optimizer.step()

    return run


def of_kornia(images: Tensor) -> dict[str, Run]:
    """Returns kornia's augmentations with the options of those in `ALIKE`.

    They take float images, so that converting the images before and after is a part of the time.
    """
    import kornia.augmentation as kornia

    peers = {
        "flip": kornia.RandomHorizontalFlip(p=1.0),
        "affine": kornia.RandomAffine(10.0, (0.05, 0.05), (0.9, 1.1), p=1.0),
        "warp": kornia.RandomPerspective(0.1, p=1.0),
        "colour": kornia.ColorJiggle(0.5, 0.5, 0.0, 0.05, p=1.0),
        "blur: motion": kornia.RandomMotionBlur((3, 9), 180.0, 0.0, p=1.0),
        "noise": kornia.RandomGaussianNoise(0.0, 0.05, p=1.0),
        "erase": kornia.RandomErasing((0.02, 0.4), p=1.0),
        "jpeg": kornia.RandomJPEG((30.0, 90.0), p=1.0),
        # Kornia has neither a crop in place nor low resolution.
        "strong": kornia.AugmentationSequential(
            kornia.RandomHorizontalFlip(p=0.5),
            kornia.RandomAffine(15.0, (0.08, 0.08), (0.85, 1.15), p=1.0),
            kornia.RandomAffine(0.0, scale=(0.9, 1.12, 0.9, 1.12), p=0.2),
            kornia.RandomPerspective(0.16, p=1.0),
            kornia.RandomErasing((0.02, 0.25), p=0.2),
            kornia.ColorJiggle(0.5, 0.5, 0.5, 0.05, p=0.5),
            kornia.RandomGamma((0.67, 1.5), p=0.5),
            kornia.RandomGrayscale(p=0.05),
            kornia.RandomGaussianBlur((5, 5), (0.5, 1.5), p=0.1),
            kornia.RandomMotionBlur((3, 9), 180.0, 0.0, p=0.1),
            kornia.RandomGaussianNoise(0.0, 0.05, p=0.1),
            kornia.RandomJPEG((15.0, 80.0), p=0.2),
        ),
    }

    def of(peer: Any) -> Run:
        return lambda: peer(images.float() / 255).mul_(255).round_().clamp_(0, 255).to(torch.uint8)

    return {name: of(peer) for name, peer in peers.items()}


def timed(functions: dict[str, Run], rounds: int, device: torch.device) -> dict[str, float]:
    """Returns the median milliseconds of each function: processor time on a CPU, else real time.

    The functions are measured in turn, so that a machine that becomes slower affects all of them.
    Processor time does not count the time that other processes take.
    """
    clock = time.process_time if device.type == "cpu" else time.perf_counter
    milliseconds: dict[str, list[float]] = {name: [] for name in functions}
    for round_ in range(rounds + 1):
        for name, function in functions.items():
            begin = clock()
            function()
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            if round_:  # the first round warms up
                milliseconds[name].append(1000 * (clock() - begin))
    return {name: median(values) for name, values in milliseconds.items()}


def table(figures: dict[str, Any]) -> list[str]:
    """Returns the figures as lines of text."""
    lines = [f"{key:15}{value}" for key, value in (figures["machine"] | figures["sizes"]).items()]
    if "presets_ms" in figures:
        times = figures["presets_ms"]
        lines += ["", f"{'':16}      ms  share of a step"]
        for name, value in times.items():
            lines.append(f"{name:16}{value:8.1f}{value / times['step']:16.1%}")
    if "alone_ms" in figures:
        lines += ["", f"{'all images':16}      ms"]
        lines += [f"{name:16}{value:8.1f}" for name, value in figures["alone_ms"].items()]
    if "kornia_ms" in figures:
        times = figures["kornia_ms"]
        lines += ["", f"{'beside kornia':16}      ms  kornia  kornia / workbench"]
        for name in ALIKE:
            ours, peers = times[name], times[f"{name}, kornia"]
            lines.append(f"{name:16}{ours:8.1f}{peers:8.1f}{peers / ours:20.1f}")
    return lines


if __name__ == "__main__":
    sys.exit(main())
