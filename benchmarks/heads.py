"""What a softmax over many classes costs, beside its limit and a peer.

`python benchmarks/heads.py --help` lists the options.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

import torch
from _command import add_out, between, new_parser, report, run_script
from _machine import machine
from torch import Tensor
from tqdm.auto import tqdm

from workbench import losses
from workbench.devices import resolve_device
from workbench.errors import WorkbenchError

PARTS = {
    "speed": "milliseconds forward and backward, of all of them in turn in one process",
    "memory": "peak memory above the class centres, each in a process of its own",
    "step": "a whole training step of the streamed head, with momentum and weight decay: time "
    "and peak memory in all",
}
PRODUCTS, PEER = "three products", "pytorch-metric-learning"
NAMES = {
    PRODUCTS: "N x D by D x C, N x C by C x D, C x N by N x D into memory that is there: the "
    "least any exact head does",
    "plain": "arcface, head='plain'",
    "streamed": "arcface, head='streamed'",
    "sampled": "arcface, head='sampled', a tenth of the classes",
    PEER: "its ArcFaceLoss; left out where the package is missing",
}
S, M = 64.0, 0.5
Run = Callable[[], None]


def main(arguments: list[str] | None = None) -> int:
    """Measures, prints a table, writes a JSON file with --out, and returns the exit code."""
    # A RuntimeError is raised if the memory of the device is used up.
    return run_script(
        _parser(),
        _measure_all_or_memory_of_one,
        arguments,
        errors=(RuntimeError, subprocess.CalledProcessError),
    )


def _measure_all_or_memory_of_one(options: argparse.Namespace) -> None:
    """Measures, or measures one memory in one of the processes that are started for that."""
    device = resolve_device(options.device)
    torch.set_float32_matmul_precision(options.products)
    if options.threads:
        torch.set_num_threads(options.threads)
    if options.memory_of:
        print(json.dumps(memory_of(options.memory_of, options, device)))
    else:
        report(options, lambda options: measure(options, device), table)


def _parser() -> argparse.ArgumentParser:
    listed = [f"  {name:26}{what}" for name, what in (PARTS | NAMES).items()]
    epilog = "\n".join(
        ["parts:", *listed[: len(PARTS)], "", "what is measured (--only):", *listed[len(PARTS) :]]
    )
    parser = new_parser(__doc__, epilog)
    parser.add_argument(
        "--batch",
        type=between(1, 100_000),
        default=128,
        help="N, embeddings a batch (default: 128)",
    )
    parser.add_argument(
        "--dim",
        type=between(1, 100_000),
        default=512,
        help="D, length of an embedding (default: 512)",
    )
    parser.add_argument(
        "--classes", type=between(2, 10**9), default=85_742, help="C (default: 85742, as MS1M has)"
    )
    parser.add_argument(
        "--step-classes",
        type=between(2, 10**9),
        default=1_000_000,
        help="C of the step (default: 1000000)",
    )
    parser.add_argument(
        "--only",
        nargs="+",
        choices=NAMES,
        default=list(NAMES),
        help="what to measure (default: all)",
    )
    parser.add_argument(
        "--parts", nargs="+", choices=PARTS, default=list(PARTS), help="default: all"
    )
    parser.add_argument(
        "--rounds",
        type=between(1, 1000),
        default=7,
        help="times each is measured; the median counts (default: 7)",
    )
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1 (default: cpu)")
    parser.add_argument(
        "--products",
        choices=("highest", "high", "medium"),
        default="highest",
        help="torch.set_float32_matmul_precision: medium takes bfloat16 and high TF32, where "
        "the hardware has them",
    )
    parser.add_argument(
        "--threads", type=between(1, 1024), help="threads on a CPU (default: PyTorch's choice)"
    )
    add_out(parser)
    parser.add_argument(
        "--memory-of", choices=[*NAMES, "step"], help=argparse.SUPPRESS
    )  # the processes that it starts itself
    return parser


def measure(given: argparse.Namespace, device: torch.device) -> dict[str, Any]:
    """The figures of the parts asked for."""
    names = [name for name in given.only if name != PEER or find_spec("pytorch_metric_learning")]
    where = (
        torch.cuda.get_device_name(device)
        if device.type == "cuda"
        else f"cpu, {torch.get_num_threads()} threads"
    )
    sizes = {
        "batch": given.batch,
        "dim": given.dim,
        "classes": given.classes,
        "step_classes": given.step_classes,
    }
    found: dict[str, Any] = {
        "machine": machine("torch") | {"device": where, "products": given.products},
        "sizes": sizes,
    }
    if "speed" in given.parts:
        found["speed_ms"] = speed(names, given, device)
    if "memory" in given.parts:
        bar = tqdm(
            [name for name in names if name != PRODUCTS],
            desc="memory",
            unit="head",
            dynamic_ncols=True,
        )
        found["memory_mib"] = {name: in_a_process(name, given)["peak_mib"] for name in bar}
    if "step" in given.parts:
        found["step"] = in_a_process("step", given)
    return found


def problem(given: argparse.Namespace, classes: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """(N, D) embeddings and (N,) labels."""
    torch.manual_seed(0)
    return torch.randn(given.batch, given.dim, device=device), torch.randint(
        classes, (given.batch,), device=device
    )


def contender(name: str, given: argparse.Namespace, classes: int, device: torch.device) -> Run:
    """One forward and backward of it, with gradients for embeddings and class centres."""
    embeddings, labels = problem(given, classes, device)
    if name == PRODUCTS:
        return products(embeddings, classes)
    if name == PEER:
        from pytorch_metric_learning.losses import ArcFaceLoss

        loss: torch.nn.Module = ArcFaceLoss(classes, given.dim, margin=math.degrees(M), scale=S).to(
            device
        )
    else:
        options: dict[str, Any] = {
            "embedding_dim": given.dim,
            "num_classes": classes,
            "s": S,
            "m": M,
            "head": name,
        }
        loss = losses.create("arcface", **options).to(device)

    def run() -> None:
        loss.zero_grad(set_to_none=True)
        loss(embeddings.clone().requires_grad_(), labels).backward()

    return run


def products(embeddings: Tensor, classes: int) -> Run:
    """The bare products; on a GPU in bfloat16, the fastest it can do them in."""
    kind = torch.bfloat16 if embeddings.device.type == "cuda" else torch.float32
    count, dim = embeddings.shape
    x, w = embeddings.to(kind), torch.randn(classes, dim, device=embeddings.device, dtype=kind)
    logits, dx, dw = x.new_empty(count, classes), torch.empty_like(x), torch.empty_like(w)

    def run() -> None:
        torch.mm(x, w.T, out=logits)
        torch.mm(logits, w, out=dx)
        torch.mm(logits.T, x, out=dw)

    return run


def speed(names: list[str], given: argparse.Namespace, device: torch.device) -> dict[str, float]:
    """Median milliseconds of each.

    They take turns, so that whatever else the machine does hits all alike.
    """
    ready = {name: contender(name, given, given.classes, device) for name in names}
    taken: dict[str, list[float]] = {name: [] for name in names}
    for turn in tqdm(range(given.rounds + 1), desc="speed", unit="round", dynamic_ncols=True):
        for name, run in ready.items():
            milliseconds = 1000 * timed(run, device)
            if turn:  # the first is to warm up
                taken[name].append(milliseconds)
    return {name: median(times) for name, times in taken.items()}


def timed(run: Run, device: torch.device) -> float:
    """Seconds, with a GPU's work done."""
    _wait(device)
    begin = time.perf_counter()
    run()
    _wait(device)
    return time.perf_counter() - begin


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def in_a_process(name: str, given: argparse.Namespace) -> dict[str, float]:
    """What `memory_of` finds in a process of its own."""
    sizes = {
        "--batch": given.batch,
        "--dim": given.dim,
        "--classes": given.classes,
        "--step-classes": given.step_classes,
    }
    options = {
        **sizes,
        "--device": given.device,
        "--products": given.products,
        "--threads": given.threads or torch.get_num_threads(),
    }
    command = [
        sys.executable,
        __file__,
        "--memory-of",
        name,
        *(str(part) for pair in options.items() for part in pair),
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["the process was ended"]
        raise WorkbenchError(f"{name}: {lines[-1]}")
    found: dict[str, float] = json.loads(done.stdout)
    return found


def memory_of(name: str, given: argparse.Namespace, device: torch.device) -> dict[str, float]:
    """Peak memory in MiB (2^20 bytes): of the step in all, else above the class centres."""
    if name == "step":
        return step(given, device)
    contender(name, given, 64, device)()  # loads the libraries' code
    run = contender(name, given, given.classes, device)
    before = _now(device, "VmRSS")
    _forget_peak(device)
    run()
    return {"peak_mib": _now(device, "VmHWM") - before}


def step(given: argparse.Namespace, device: torch.device) -> dict[str, float]:
    """Training steps of the streamed head, the second of which has everything allocated."""
    embeddings, labels = problem(given, given.step_classes, device)
    sizes = {"embedding_dim": given.dim, "num_classes": given.step_classes}
    loss = losses.create("arcface", **sizes, s=S, m=M, head="streamed").to(device)
    optimizer = torch.optim.SGD(
        loss.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4, fused=True
    )

    def run() -> None:
        optimizer.zero_grad(set_to_none=True)
        loss(embeddings.clone().requires_grad_(), labels).backward()
        optimizer.step()

    run()
    return {"seconds": timed(run, device), "peak_mib": _now(device, "VmHWM")}


def _forget_peak(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    elif Path("/proc/self/clear_refs").exists():
        Path("/proc/self/clear_refs").write_text("5")


def _now(device: torch.device, field: str) -> float:
    """Resident memory now (VmRSS) or at its peak (VmHWM), in MiB.

    Of a GPU what PyTorch has allocated there.
    """
    if device.type == "cuda":
        read = torch.cuda.memory_allocated if field == "VmRSS" else torch.cuda.max_memory_allocated
        return read(device) / 2**20
    status = Path("/proc/self/status")
    if not status.is_file():
        raise WorkbenchError("memory is read from /proc, which is not there; measure --parts speed")
    lines = dict(line.split(":", 1) for line in status.read_text(encoding="ascii").splitlines())
    return int(lines[field].split()[0]) / 1024


def table(found: dict[str, Any]) -> list[str]:
    """The figures as lines of text."""
    lines = [f"{key:15}{value}" for key, value in (found["machine"] | found["sizes"]).items()]
    times, peaks = found.get("speed_ms", {}), found.get("memory_mib", {})
    if times or peaks:
        lines += ["", f"{'':26}      ms  / products  / peer  peak MiB  / peer"]
    for name in [name for name in NAMES if name in times or name in peaks]:
        time_, peak = times.get(name), peaks.get(name)
        cells = (
            f"{time_:8.1f}" if time_ else f"{'':8}",
            _ratio(time_, times.get(PRODUCTS), 12),
            _ratio(time_, times.get(PEER), 8),
            f"{peak:10.0f}" if peak else f"{'':10}",
            _ratio(peak, peaks.get(PEER), 8),
        )
        lines.append(f"{name:26}{''.join(cells)}".rstrip())
    if "step" in found:
        row = found["step"]
        lines += [
            "",
            f"a step with {found['sizes']['step_classes']:,} classes: {row['seconds']:.2f} s, "
            f"{row['peak_mib'] / 1024:.2f} GiB",
        ]
    return lines


def _ratio(value: float | None, other: float | None, width: int) -> str:
    return f"{value / other:{width}.2f}" if value and other else " " * width


if __name__ == "__main__":
    sys.exit(main())
