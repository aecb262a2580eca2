"""Stores results in a run directory and reads them again, without importing torch."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from workbench.data.leaving_out import LeftOut
from workbench.errors import WorkbenchError, printable, unknown_name
from workbench.evaluation.angles import Angles
from workbench.evaluation.invariance import Gaps, InvarianceCurve, invariance
from workbench.evaluation.kinds import KINDS, Result, result_type
from workbench.evaluation.projection import Projection
from workbench.evaluation.verification import VerificationResult
from workbench.runs import MODEL, Run
from workbench.runs import open as open_run

_GAP, _PROJECTION = "gap_", "projection_"
"""Prefixes of the arrays that hold gaps and the projection."""


def save_result(
    run: Run,
    name: str,
    benchmark: str,
    result: Result,
    angles: Angles | None,
    projection: Projection | None,
    identity_names: Sequence[str],
    *,
    step: int | None = None,
    fingerprint: str = "",
    gaps: Gaps | None = None,
    left_out: LeftOut | None = None,
    training_data: str | None = None,
) -> None:
    """Store a result with its angles and projection in the run directory.

    Args:
        run: run directory.
        name: name of the evaluation.
        benchmark: spec of the benchmark.
        result: the result.
        angles: angles to class centres; None if there are none.
        projection: the map of embeddings; None if there is none.
        identity_names: names of the identities on the map.
        step: training step of the model; it shows later whether the run was trained on since.
        fingerprint: fingerprint of the benchmark; it shows later whether its images have changed.
        gaps: differences between the two images of each pair; None where they are not known.
        left_out: images that could not be read; the .json file names each of them.
        training_data: where the training images are, if not where config.yaml says.
    """
    figures: dict[str, Any] = {
        "benchmark": benchmark,
        "step": step,
        "fingerprint": fingerprint,
        "note": printable(result.note),
        "created": datetime.now().astimezone().isoformat(timespec="seconds"),
        "protocol": {key: _printable(value) for key, value in result.protocol.items()},
        "identity_names": [printable(name) for name in identity_names],
        "kind": result.kind,
        **result.figures(),
    }
    if training_data is not None:
        figures["training_data"] = training_data
    if left_out is not None and left_out.images:
        figures["left_out"] = [
            {"number": number, "image": where, "reason": reason}
            for number, (where, reason) in left_out.images.items()
        ]
    if gaps is not None:
        figures["controlled"] = gaps.controlled
    run.save_evaluation(name, figures, _all_arrays(result, angles, projection, gaps))


def _printable(value: Any) -> Any:
    return printable(value) if isinstance(value, str) else value


def _all_arrays(
    result: Result, angles: Angles | None, projection: Projection | None, gaps: Gaps | None
) -> dict[str, NDArray[Any]]:
    """Collect the arrays of an evaluation under the names under which they are stored."""
    arrays = result.arrays()
    if angles is not None:
        arrays |= {"angle_own": angles.own, "angle_other": angles.other}
    if gaps is not None:
        arrays |= {f"{_GAP}{factor}": values for factor, values in gaps.by_factor.items()}
        if gaps.people is not None:
            arrays["people"] = gaps.people
    if projection is not None:
        fields = vars(projection).items()
        arrays |= {f"{_PROJECTION}{key}": values for key, values in fields if values is not None}
    return arrays


def safe_name(name: str) -> str:
    """Return the name of a benchmark as a part of file names.

    Example:
        >>> safe_name("my photos: 2026")
        'my-photos-2026'
    """
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip(".-") or "benchmark"


def short_digest(spec: str) -> str:
    """Return six hexadecimal digits that tell benchmarks of the same name apart."""
    return hashlib.sha256(spec.encode()).hexdigest()[:6]


def load_result(run: Run, name: str) -> Result:
    """Read the stored result of a run on a benchmark.

    Args:
        run: run directory.
        name: name of the evaluation.

    Returns:
        The result, of the type that is registered for its kind.

    Raises:
        WorkbenchError: if the run was not evaluated on the benchmark, the files are damaged, or the
            kind of the result is not registered.
    """
    figures, arrays = run.evaluation(name)
    try:
        kind, note, protocol = figures["kind"], figures["note"], figures["protocol"]
        if kind in KINDS.names():
            result = result_type(kind).from_stored(figures, arrays)
            return result.annotated(name=name, note=note, protocol=protocol)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _damaged(run, name, error) from None
    raise WorkbenchError(
        f"{run.path}, evaluation {name!r}: {unknown_name('kind of result', kind, KINDS.names())}; "
        "import the file that registers it"
    )


def stored_figures(run: Run, name: str) -> dict[str, Any]:
    """Return the stored figures of an evaluation; empty if there are none or they are damaged."""
    try:
        return run.evaluation(name)[0]
    except WorkbenchError:
        return {}


def left_out_numbers(figures: Mapping[str, Any]) -> tuple[int, ...]:
    """Return the numbers of the images that an evaluation left out, as they could not be read."""
    return tuple(int(image["number"]) for image in figures.get("left_out", ()))


def is_stale(run: Run, figures: Mapping[str, Any]) -> bool:
    """Return whether the run's model was at another training step when it was evaluated."""
    evaluated, step = figures.get("step"), model_step(run)
    return evaluated is not None and step is not None and evaluated != step


def model_step(run: Run) -> int | None:
    """Return the training step of the saved model; None if it is not known."""
    try:
        with safe_open(run.path / MODEL, "np") as file:
            step = (file.metadata() or {}).get("step", "")
    except (OSError, SafetensorError):
        return None
    return int(step) if step.isdigit() else None


def load_angles(run: Run, name: str) -> Angles | None:
    """Read the angles to the own and the nearest other class centre.

    Args:
        run: run directory.
        name: name of the evaluation.

    Returns:
        The angles; None where the identities of the benchmark are not known.

    Raises:
        WorkbenchError: if the run was not evaluated on the benchmark, or the files are damaged.
    """
    _, arrays = run.evaluation(name)
    if "angle_own" not in arrays or "angle_other" not in arrays:
        return None
    return Angles(arrays["angle_own"], arrays["angle_other"])


def load_projection(run: Run, name: str) -> tuple[Projection, list[str]] | None:
    """Read the map of embeddings.

    Args:
        run: run directory.
        name: name of the evaluation.

    Returns:
        The projection and the names of the identities; None if no projection was made.

    Raises:
        WorkbenchError: if the run was not evaluated on the benchmark, or the files are damaged.
    """
    figures, arrays = run.evaluation(name)
    if f"{_PROJECTION}points" not in arrays:
        return None
    try:
        fields = {
            key: arrays[f"{_PROJECTION}{key}"] for key in ("points", "labels", "pca", "explained")
        }
        projection = Projection(**fields, umap=arrays.get(f"{_PROJECTION}umap"))
        return projection, [str(identity) for identity in figures["identity_names"]]
    except (KeyError, TypeError) as error:
        raise _damaged(run, name, error) from None


def load_gaps(run: Run, name: str) -> Gaps | None:
    """Read the differences between the two images of each pair.

    Args:
        run: run directory.
        name: name of the evaluation.

    Returns:
        The gaps; None where the benchmark does not know in what the images of a pair differ.

    Raises:
        WorkbenchError: if the run was not evaluated on the benchmark, or the files are damaged.
    """
    figures, arrays = run.evaluation(name)
    by_factor = {key.removeprefix(_GAP): gap for key, gap in arrays.items() if key.startswith(_GAP)}
    if not by_factor:
        return None
    return Gaps(by_factor, arrays.get("people"), bool(figures.get("controlled")))


def invariance_curves(
    run: str | Path | Run,
    benchmark: str = "synthfaces-invariance",
    *,
    far: float = 1e-2,
    bootstrap: int = 1000,
    factors: Sequence[str] | None = None,
) -> dict[str, InvarianceCurve]:
    """Compute invariance curves of a run from its stored evaluation.

    Args:
        run: run directory.
        benchmark: name of the evaluation; the attributes of the benchmark's images must be known.
        far: false accept rate that determines the threshold, in (0, 1].
        bootstrap: resamples of people for the 95 % intervals; 0 for none.
        factors: which of "yaw", "age", "illumination", "occlusion"; by default all that are known.

    Returns:
        {factor: curve}.

    Raises:
        WorkbenchError: if the run was not evaluated on the benchmark, if it is not known in what
            the images of a pair differ, or for the reasons that `invariance` names.
    """
    opened = open_run(run)
    result, gaps = load_result(opened, benchmark), load_gaps(opened, benchmark)
    if gaps is None or not isinstance(result, VerificationResult):
        raise WorkbenchError(
            f"{opened.name} on {benchmark}: it is not known in what the images of a pair differ; "
            "evaluate on a benchmark with attributes, such as synthfaces-invariance"
        )
    if unknown := set(factors or ()) - set(gaps.by_factor):
        raise unknown_name(f"factor of {benchmark}", min(unknown), gaps.by_factor)
    return {
        factor: invariance(
            result.scores,
            result.same,
            gap,
            factor=factor,
            far=far,
            bootstrap=bootstrap,
            people=gaps.people,
        )
        for factor, gap in gaps.by_factor.items()
        if factors is None or factor in factors
    }


def _damaged(run: Run, name: str, error: Exception) -> WorkbenchError:
    reason = f"{type(error).__name__}: {error}"
    return WorkbenchError(
        f"{run.path}, evaluation {name!r}: damaged ({reason}); run `workbench evaluate` again"
    )
