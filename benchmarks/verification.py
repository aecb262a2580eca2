"""What verification figures cost, beside arcface_torch's procedure.

`python benchmarks/verification.py --help` lists the options.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from _command import add_out, between, new_parser, report, run_script
from _machine import machine
from numpy.typing import NDArray
from scipy.interpolate import BSpline
from sklearn.model_selection import KFold
from sklearn.preprocessing import normalize
from tqdm.auto import tqdm

from workbench.arrays import Bools, Floats
from workbench.errors import WorkbenchError
from workbench.evaluation import arcface_torch, stream_roc, verification

PARTS = {
    "arcface_torch": "the figures that arcface_torch prints for a benchmark, by its procedure "
    "and by the workbench, bitwise equal",
    "intervals": "`verification` of the same pairs, with and without intervals",
    "stream": "the exact ROC over very many impostor scores: seconds, and memory beside that "
    "of the process before",
}
CHUNK = 1_000_000


def main(arguments: list[str] | None = None) -> int:
    """Measures, prints a table, writes a JSON file with --out, and returns the exit code."""
    return run_script(_parser(), lambda options: report(options, measure, table), arguments)


def _parser() -> argparse.ArgumentParser:
    epilog = "\n".join(["parts:", *(f"  {name:16}{what}" for name, what in PARTS.items())])
    parser = new_parser(__doc__, epilog)
    parser.add_argument(
        "--pairs",
        type=between(20, 10**7),
        default=6000,
        help="of the benchmark (default: 6000, as LFW has)",
    )
    parser.add_argument(
        "--dim", type=between(1, 100_000), default=512, help="length of an embedding (default: 512)"
    )
    parser.add_argument(
        "--scores",
        type=between(1, 10**12),
        default=10**8,
        help="impostor scores to stream (default: 100000000)",
    )
    parser.add_argument(
        "--genuine",
        type=between(1, 10**9),
        default=100_000,
        help="genuine scores beside them (default: 100000)",
    )
    parser.add_argument(
        "--parts", nargs="+", choices=PARTS, default=list(PARTS), help="default: all"
    )
    parser.add_argument(
        "--rounds",
        type=between(1, 1000),
        default=5,
        help="times the workbench's is measured; the best counts",
    )
    add_out(parser)
    return parser


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Returns the figures of the parts that were asked for."""
    sizes = {
        "pairs": options.pairs,
        "dim": options.dim,
        "scores": options.scores,
        "genuine": options.genuine,
    }
    figures: dict[str, Any] = {"machine": machine("numpy", "scipy"), "sizes": sizes}
    if "arcface_torch" in options.parts:
        figures["arcface_torch"] = against_arcface_torch(
            *some_embeddings(options.pairs, options.dim), options.rounds
        )
    if "intervals" in options.parts:
        figures["intervals"] = with_intervals(*some_embeddings(options.pairs, options.dim))
    if "stream" in options.parts:
        figures["stream"] = streamed(options.genuine, options.scores)
    return figures


def some_embeddings(pairs: int, dim: int, seed: int = 0) -> tuple[Floats, Bools]:
    """(2 P, D) embeddings of length 1 and (P,) labels.

    Blocks of 300 genuine and 300 impostor pairs in turn, as LFW has them.
    """
    rng = np.random.default_rng(seed)
    same = np.arange(pairs) // min(300, max(pairs // 20, 1)) % 2 == 0
    first, other = rng.normal(size=(2, pairs, dim))
    second = np.where(same[:, None], first * rng.uniform(0.2, 1.2, (pairs, 1)) + other, other)
    return normalize(np.stack([first, second], axis=1).reshape(2 * pairs, dim)), same


def against_arcface_torch(embeddings: Floats, same: Bools, rounds: int) -> dict[str, Any]:
    """Seconds of both, and whether all figures are bitwise equal."""
    theirs, slow = timed(lambda: reference(embeddings, same))
    times = []
    for _ in range(rounds):
        mine, seconds = timed(lambda: arcface_torch.evaluate(embeddings, same))
        times.append(seconds)
    equal = all(np.array_equal(one, other) for one, other in zip(mine, theirs, strict=True))
    if not equal:
        raise WorkbenchError("the figures are not those of arcface_torch's procedure")
    return {
        "reference_seconds": slow,
        "workbench_seconds": min(times),
        "times_as_fast": slow / min(times),
        "equal": equal,
    }


def reference(embeddings: NDArray[np.floating], same: Bools, folds: int = 10) -> tuple[Any, ...]:
    """arcface_torch's procedure step by step: every threshold on every fold, in the order of
    `arcface_torch.ArcfaceTorch`.
    """
    first, second = embeddings[0::2], embeddings[1::2]
    distance = np.sum(np.square(np.subtract(first, second)), 1)
    coarse, fine = np.arange(0, 4, 0.01), np.arange(0, 4, 0.001)
    tars, fars, accuracies, vals, val_fars = [], [], [], [], []
    for train, test in _splits(len(same), folds):
        right = [_rates(distance[train], same[train], threshold)[2] for threshold in coarse]
        accuracies.append(_rates(distance[test], same[test], coarse[np.argmax(right)])[2])
        on_test = [_rates(distance[test], same[test], threshold) for threshold in coarse]
        tars.append([tar for tar, _, _ in on_test])
        fars.append([far for _, far, _ in on_test])
        of_train = np.array(
            [_rates(distance[train], same[train], threshold)[1] for threshold in fine]
        )
        target = spline_of_order_1(of_train, fine, 1e-3) if np.max(of_train) >= 1e-3 else 0.0
        tar, far, _ = _rates(distance[test], same[test], target)
        vals.append(tar)
        val_fars.append(far)
    return (
        np.mean(tars, 0),
        np.mean(fars, 0),
        np.array(accuracies),
        np.mean(vals),
        np.std(vals),
        np.mean(val_fars),
    )


def spline_of_order_1(x: Floats, y: Floats, at: float) -> np.float64:
    """`interp1d(x, y, kind="slinear")(at)` as SciPy 1.8.1 had it, which did not mind equal values
    of x (sorted).
    """
    value: np.float64 = BSpline.construct_fast(np.r_[x[0], x, x[-1]], y, 1)(np.float64(at))[()]
    return value


def _splits(pairs: int, folds: int) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    everything = np.arange(pairs)
    yield from (
        KFold(folds, shuffle=False).split(everything) if folds > 1 else [(everything, everything)]
    )


def _rates(
    distance: NDArray[np.floating], same: Bools, threshold: np.float64 | float
) -> tuple[float, float, float]:
    """TAR, FAR and accuracy where what is below the threshold is accepted."""
    accepted = np.less(distance, np.float64(threshold))
    true, false = int(np.sum(accepted & same)), int(np.sum(accepted & ~same))
    genuine = int(np.sum(same))
    impostors = len(same) - genuine
    return true / genuine, false / impostors, (true + impostors - false) / len(same)


def with_intervals(embeddings: Floats, same: Bools) -> dict[str, float]:
    """Seconds of `verification`."""
    scores = np.einsum("pd,pd->p", embeddings[0::2], embeddings[1::2])
    return {
        "without_seconds": timed(lambda: verification(scores, same, intervals=False))[1],
        "with_seconds": timed(lambda: verification(scores, same))[1],
    }


def streamed(genuine: int, scores: int) -> dict[str, float]:
    """Seconds of `stream_roc` beside those in which the scores are drawn, and the most memory it
    took in MiB.
    """

    def drawn() -> Iterator[NDArray[np.float32]]:
        rng = np.random.default_rng(0)
        for begin in range(0, scores, CHUNK):
            yield rng.normal(0, 0.1, min(CHUNK, scores - begin)).astype(np.float32)

    _, drawing = timed(
        lambda: [chunk.sum() for chunk in tqdm(drawn(), desc="drawing", dynamic_ncols=True)]
    )
    own = np.random.default_rng(1).normal(0.5, 0.15, genuine)
    _forget_peak()
    before = _memory("VmRSS")
    result, seconds = timed(lambda: stream_roc(own, drawn(), progress="streaming", total=scores))
    more = _memory("VmHWM") - before
    return {
        "seconds": seconds - drawing,
        "drawing_seconds": drawing,
        "peak_mib": more,
        "tar_at_1e-6": result.tar_at_far[1e-6],
    }


def timed(run: Callable[[], Any]) -> tuple[Any, float]:
    """What it returns, and the seconds it took."""
    begin = time.perf_counter()
    found = run()
    return found, time.perf_counter() - begin


def _forget_peak() -> None:
    if Path("/proc/self/clear_refs").exists():
        Path("/proc/self/clear_refs").write_text("5")


def _memory(field: str) -> float:
    """Resident memory now (VmRSS) or at its peak (VmHWM) in MiB.

    0 where /proc is not there to tell.
    """
    status = Path("/proc/self/status")
    if not status.is_file():
        return 0.0
    lines = dict(line.split(":", 1) for line in status.read_text(encoding="ascii").splitlines())
    return int(lines[field].split()[0]) / 1024


def table(found: dict[str, Any]) -> list[str]:
    """The figures as lines of text."""
    lines = [f"{key:15}{value}" for key, value in (found["machine"] | found["sizes"]).items()]
    if (row := found.get("arcface_torch")) is not None:
        lines += [
            "",
            f"arcface_torch's figures of {found['sizes']['pairs']:,} pairs of "
            f"{found['sizes']['dim']}-d embeddings, all equal:",
            f"  its procedure {row['reference_seconds']:.3f} s, the workbench "
            f"{row['workbench_seconds']:.4f} s, "
            f"{row['times_as_fast']:.0f} times as fast",
        ]
    if (row := found.get("intervals")) is not None:
        lines += [
            "",
            f"verification of them: {row['without_seconds']:.3f} s, with intervals "
            f"{row['with_seconds']:.3f} s",
        ]
    if (row := found.get("stream")) is not None:
        lines += [
            "",
            f"exact ROC of {found['sizes']['genuine']:,} genuine and "
            f"{found['sizes']['scores']:,} impostor scores: "
            f"{row['seconds']:.1f} s ({row['drawing_seconds']:.1f} s more to draw them), "
            f"{row['peak_mib']:.0f} MiB more at most",
        ]
    return lines


if __name__ == "__main__":
    sys.exit(main())
