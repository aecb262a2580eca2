"""Makes a small run directory of a finished run, with all that evaluation and the pages read.

Numbers are rounded to multiples of a power of two: such numbers have few digits in binary, so that
compressed files of them are smaller, while their type stays as it is. A run becomes less than half
as large.
"""

from __future__ import annotations

import json
import shutil
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workbench import runs
from workbench.files import writing

SCORES, ANGLES, GAPS, SHARES, PCA, UMAP = 2.0**-20, 2.0**-6, 2.0**-2, 2.0**-8, 2.0**-10, 2.0**-6
"""Steps to which values are rounded: scores; angles in degrees; gaps in degrees or years; shares;
and the two projections."""
STEPS = {
    "scores": SCORES,
    "open_set_mated": SCORES,
    "open_set_nonmated": SCORES,
    "angle_own": ANGLES,
    "angle_other": ANGLES,
    "gap_yaw": GAPS,
    "gap_age": GAPS,
    "gap_illumination": GAPS,
    "gap_occlusion": SHARES,
    "projection_pca": PCA,
    "projection_umap": UMAP,
}
"""{array of an evaluation: step}. Other arrays are kept as they are."""
DIGITS = 5
"""Significant digits of the values in metrics.jsonl."""
MOST_ROWS = 100
"""Largest number of lines of metrics.jsonl."""
SNAPSHOT_IMAGES = 3
"""Images of each identity in a snapshot of long embeddings."""
SNAPSHOT_BITS = 6
"""Significant binary digits of the embeddings in a snapshot of long embeddings, so that an angle
changes by about half a degree at most."""
SHORT_EMBEDDING = 3
"""Snapshots of embeddings up to this length keep all images and digits, and their evaluations all
digits of the scores."""
GAP_OF = {
    "synthfaces-frontal": (),
    "synthfaces-pose": ("gap_yaw",),
    "synthfaces-age": ("gap_age",),
    "synthfaces-light": ("gap_illumination",),
    "synthfaces-occlusion": ("gap_occlusion",),
}
"""Gaps of pairs that an evaluation keeps: those in the factor that the benchmark is about. Other
evaluations keep all."""


def thin(run: runs.Run, target: Path, name: str, command: str) -> None:
    """Writes a small copy of a finished run, without its checkpoint.

    Args:
        run: A finished run whose weights are rounded.
        target: Directory of the copy, which must not exist.
        name: Name of the run in the copy's config.yaml.
        command: The command that trains the run again, for environment.json.

    Raises:
        WorkbenchError: if a file of the run is damaged or the copy cannot be written.
    """
    with writing(target):
        target.mkdir(parents=True)
        for file in (runs.MODEL, runs.IDENTITIES, runs.NOTES):
            if (run.path / file).is_file():
                shutil.copyfile(run.path / file, target / file)
    copy = runs.Run(target)
    copy.write_config({**run.config, "name": name, "runs_dir": "runs"})
    copy.write_environment(_environment(run, command))
    status = {key: value for key, value in run.status.items() if key != "checkpoint"}
    runs.write_json(target / runs.STATUS, status)
    _thin_metrics(run, target / runs.METRICS)
    for evaluation in run.evaluations():
        _thin_evaluation(run, copy, evaluation)
    (target / f".{runs.EVALUATION}.lock").unlink(missing_ok=True)
    snapshots = run.snapshots()
    kept = kept_epochs(len(snapshots) - 1)
    for epoch, snapshot in enumerate(snapshots):
        if epoch in kept:
            _thin_snapshot(snapshot, target / runs.SNAPSHOTS / snapshot.name)


def kept_epochs(last: int) -> set[int]:
    """Returns the epochs whose snapshots ship: most of them early, where most happens.

    Args:
        last: The last epoch of the training.

    Returns:
        0, the powers of two, three times the powers of two, and the last epoch.

    Example:
        >>> sorted(kept_epochs(16))
        [0, 1, 2, 3, 4, 6, 8, 12, 16]
    """
    powers = [2**power for power in range(max(last, 1).bit_length())]
    epochs = {0, last, *powers, *(3 * power for power in powers)}
    return {epoch for epoch in epochs if epoch <= last}


def _environment(run: runs.Run, command: str) -> dict[str, Any]:
    """Returns the environment of the training, without paths of the machine."""
    environment = dict(run.environment)
    if isinstance(environment.get("data"), dict):
        environment["data"] = {
            key: value for key, value in environment["data"].items() if key != "folder"
        }
    ended = datetime.fromtimestamp(float(run.status["heartbeat"])).astimezone()
    environment["reference"] = {"command": command, "date": f"{ended:%Y-%m-%d}"}
    return environment


def _thin_metrics(run: runs.Run, path: Path) -> None:
    """Writes every n-th line of the metrics, and the last, with few digits."""
    rows = list(runs.read_metrics(run.path / runs.METRICS))
    step = -(-len(rows) // MOST_ROWS) or 1
    kept = rows[::-1][::step][::-1]
    lines = [json.dumps({key: _short(value) for key, value in row.items()}) for row in kept]
    runs.write_text(path, "".join(f"{line}\n" for line in lines))


def _short(value: Any) -> Any:
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value


def _thin_evaluation(run: runs.Run, copy: runs.Run, name: str) -> None:
    figures, arrays = run.evaluation(name)
    # Many scores of short embeddings are so close to 1 that rounding would make them equal.
    is_short = run.config.get("embedding_dim", 0) <= SHORT_EMBEDDING
    steps = {key: step for key, step in STEPS.items() if not (is_short and key == "scores")}
    kept_gaps = GAP_OF.get(str(figures.get("benchmark")))
    copy.save_evaluation(
        name,
        figures,
        {
            key: rounded(values, steps[key]) if key in steps else values
            for key, values in arrays.items()
            if kept_gaps is None or not key.startswith("gap_") or key in kept_gaps
        },
    )


def rounded(values: NDArray[Any], step: float) -> NDArray[Any]:
    """Rounds to multiples of a step, without changing the type.

    Args:
        values: Numbers; NaN stays NaN.
        step: The step, a power of two.
    """
    nearest: NDArray[Any] = np.round(values / step) * step
    return nearest.astype(values.dtype)


def _thin_snapshot(source: Path, target: Path) -> None:
    """Copies a snapshot; of long embeddings, with fewer images and digits."""
    with np.load(source, allow_pickle=False) as archive:
        arrays = {key: archive[key] for key in archive.files}
    for name in [key.removesuffix("/embeddings") for key in arrays if key.endswith("/embeddings")]:
        if arrays[f"{name}/embeddings"].shape[1] <= SHORT_EMBEDDING:
            continue
        kept = _first_of_each(arrays[f"{name}/identities"], SNAPSHOT_IMAGES)
        for part in ("embeddings", "identities", "images"):
            arrays[f"{name}/{part}"] = arrays[f"{name}/{part}"][kept]
        for part in ("embeddings", "centres"):
            if f"{name}/{part}" in arrays:
                arrays[f"{name}/{part}"] = with_few_bits(arrays[f"{name}/{part}"], SNAPSHOT_BITS)
    with writing(target):
        target.parent.mkdir(exist_ok=True)
        np.savez_compressed(target, allow_pickle=False, **arrays)


def with_few_bits(values: NDArray[Any], bits: int) -> NDArray[Any]:
    """Rounds to numbers with few significant binary digits, without changing the type.

    Args:
        values: Finite numbers.
        bits: Number of digits.
    """
    mantissas, exponents = np.frexp(values.astype(np.float64))
    short = np.ldexp(np.round(mantissas * 2.0**bits) / 2.0**bits, exponents)
    return short.astype(values.dtype)


def _first_of_each(identities: NDArray[np.int64], count: int) -> NDArray[np.bool_]:
    """Returns which images are among the first `count` of their identity."""
    kept = np.zeros(len(identities), dtype=bool)
    for identity in np.unique(identities):
        kept[np.flatnonzero(identities == identity)[:count]] = True
    return kept
