"""Results to files in the run directory, and back. Needs no torch, so the dashboard opens at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from workbench.data.leaving_out import LeftOut
from workbench.errors import WorkbenchError, printable, unknown_name
from workbench.evaluation.angles import Angles
from workbench.evaluation.closed_set import ClosedSetResult
from workbench.evaluation.identification import IdentificationResult
from workbench.evaluation.invariance import Gaps, InvarianceCurve, invariance
from workbench.evaluation.open_set import OpenSetResult
from workbench.evaluation.projection import Projection
from workbench.evaluation.verification import VerificationResult
from workbench.runs import MODEL, Run
from workbench.runs import open as open_run

Result = VerificationResult | ClosedSetResult | IdentificationResult


def save_result(
    run: Run,
    name: str,
    benchmark: str,
    result: Result,
    angles: Angles | None,
    projection: Projection | None,
    identity_names: list[str],
    *,
    step: int | None = None,
    fingerprint: str = "",
    gaps: Gaps | None = None,
    left_out: LeftOut | None = None,
    training_data: str | None = None,
) -> None:
    """Store a result with its angles and projection as evaluation NAME of the run.

    Args:
        step: training step of the model, to tell an evaluation from before the run was resumed.
        fingerprint: of the benchmark, to tell when its pictures have changed.
        gaps: between the two images of each pair, where the benchmark knows them.
        left_out: images that could not be read; all are named in the .json.
        training_data: where the training images were found, if not where config.yaml says.
    """
    figures: dict[str, Any] = {
        "benchmark": benchmark,
        "step": step,
        "fingerprint": fingerprint,
        "note": printable(result.note),
        "created": datetime.now().astimezone().isoformat(timespec="seconds"),
        "protocol": {
            key: printable(value) if isinstance(value, str) else value
            for key, value in result.protocol.items()
        },
        "accuracy": result.accuracy,
        "identity_names": [printable(name) for name in identity_names],
    }
    if training_data is not None:
        figures["training_data"] = training_data
    if left_out is not None and left_out.images:
        figures["left_out"] = [
            {"number": number, "image": where, "reason": reason}
            for number, (where, reason) in left_out.images.items()
        ]
    arrays: dict[str, NDArray[Any]] = {}
    if isinstance(result, VerificationResult):
        figures |= {
            "kind": "verification",
            "std": result.std,
            "auc": result.auc,
            "eer": result.eer,
            "tar_at_far": {f"{far:g}": tar for far, tar in result.tar_at_far.items()},
            "intervals": {key: list(interval) for key, interval in result.intervals.items()},
        }
        arrays |= {"scores": result.scores, "same": result.same, "folds": result.folds}
        arrays |= {"fold_accuracy": result.fold_accuracy, "fold_threshold": result.fold_threshold}
        if result.people is not None:
            arrays["people"] = result.people
        if result.band is not None:
            arrays["band"] = result.band
    elif isinstance(result, IdentificationResult):
        more_figures, more_arrays = _parts_of_identification(result)
        figures |= more_figures
        arrays |= more_arrays
    else:
        figures |= {
            "kind": "closed-set",
            "interval": list(result.interval),
            "class_names": [printable(name) for name in result.class_names],
        }
        arrays |= {"labels": result.labels, "predicted": result.predicted}
    if angles is not None:
        arrays |= {"angle_own": angles.own, "angle_other": angles.other}
    if gaps is not None:
        figures["controlled"] = gaps.controlled
        arrays |= {f"{_GAP}{factor}": gap for factor, gap in gaps.by_factor.items()}
        if gaps.people is not None:
            arrays["people"] = gaps.people
    if projection is not None:
        arrays |= {
            f"projection_{key}": value
            for key, value in vars(projection).items()
            if value is not None
        }
    run.save_evaluation(name, figures, arrays)


def left_out_numbers(figures: Mapping[str, Any]) -> tuple[int, ...]:
    """Numbers of the images that were left out of an evaluation, as they could not be read."""
    return tuple(int(image["number"]) for image in figures.get("left_out", ()))


def is_stale(run: Run, figures: Mapping[str, Any]) -> bool:
    """Whether an evaluation is of the run's model as it was at another training step, e.g. before it was resumed."""
    evaluated, step = figures.get("step"), model_step(run)
    return evaluated is not None and step is not None and evaluated != step


def model_step(run: Run) -> int | None:
    """Training step of the saved model; None where there is none, or it does not say."""
    try:
        with safe_open(run.path / MODEL, "np") as file:
            step = (file.metadata() or {}).get("step", "")
    except (OSError, SafetensorError):
        return None
    return int(step) if step.isdigit() else None


def _parts_of_identification(
    result: IdentificationResult,
) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Figures and arrays in which an identification is stored."""
    figures: dict[str, Any] = {
        "kind": "identification",
        "interval": None if result.interval is None else list(result.interval),
        "tar_at_far": {f"{far:g}": tar for far, tar in result.tar_at_far.items()},
        "probes": result.probes,
        "enrolled": result.enrolled,
        "genuine": result.genuine,
        "candidates": result.candidates,
    }
    stored = {key: getattr(result, key) for key in _IDENTIFICATION_ARRAYS}
    arrays = {key: value for key, value in stored.items() if value is not None}
    if (open_set := result.open_set) is not None:
        figures["open_set"] = {
            "fnir_at_fpir": {f"{fpir:g}": fnir for fpir, fnir in open_set.fnir_at_fpir.items()},
            "intervals": {
                f"{fpir:g}": list(interval) for fpir, interval in open_set.intervals.items()
            },
            "rank": open_set.rank,
            "enrolled": open_set.enrolled,
            "protocol": open_set.protocol,
        }
        arrays |= {f"{_OPEN_SET}{key}": getattr(open_set, key) for key in _OPEN_SET_ARRAYS}
        if open_set.band is not None:
            arrays[f"{_OPEN_SET}band"] = open_set.band
    return figures, arrays


def load_result(run: Run, name: str) -> Result:
    """The stored result of a run on a benchmark.

    Raises:
        WorkbenchError: the run was not evaluated on it, or the files are damaged.
    """
    figures, arrays = run.evaluation(name)
    try:
        if figures["kind"] == "closed-set":
            low, high = figures["interval"]
            return ClosedSetResult(
                accuracy=figures["accuracy"],
                interval=(low, high),
                labels=arrays["labels"],
                predicted=arrays["predicted"],
                class_names=list(figures["class_names"]),
                name=name,
                note=figures["note"],
                protocol=figures["protocol"],
            )
        if figures["kind"] == "identification":
            return _identification(name, figures, arrays)
        return VerificationResult(
            accuracy=figures["accuracy"],
            std=figures["std"],
            fold_accuracy=arrays["fold_accuracy"],
            fold_threshold=arrays["fold_threshold"],
            auc=figures["auc"],
            eer=figures["eer"],
            tar_at_far={float(far): tar for far, tar in figures["tar_at_far"].items()},
            intervals={key: (low, high) for key, (low, high) in figures["intervals"].items()},
            band=arrays.get("band"),
            scores=arrays["scores"],
            same=arrays["same"],
            folds=arrays["folds"],
            name=name,
            note=figures["note"],
            protocol=figures["protocol"],
            people=arrays.get("people"),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _damaged(run, name, error) from None


_IDENTIFICATION_BANDS = ("cmc_band", "distractor_band")
_IDENTIFICATION_ARRAYS = (
    "cmc",
    "distractor_counts",
    "distractor_rates",
    "ranks",
    "identities",
    *_IDENTIFICATION_BANDS,
)
_OPEN_SET = "open_set_"
_OPEN_SET_ARRAYS = ("mated", "ranks", "nonmated")


def _identification(
    name: str, figures: dict[str, Any], arrays: dict[str, Any]
) -> IdentificationResult:
    interval = figures["interval"]
    if interval is not None:
        low, high = interval
    stored: dict[str, Any] = {
        key: arrays.get(key) if key in _IDENTIFICATION_BANDS else arrays[key]
        for key in _IDENTIFICATION_ARRAYS
    }
    return IdentificationResult(
        accuracy=figures["accuracy"],
        interval=None if interval is None else (low, high),
        tar_at_far={float(far): tar for far, tar in figures["tar_at_far"].items()},
        probes=figures.get(
            "probes", len(stored["ranks"])
        ),  # stored before there was MegaFace's rule: a search a probe
        enrolled=figures["enrolled"],
        genuine=figures["genuine"],
        candidates=figures.get("candidates", "gallery"),
        open_set=_open_set(figures, arrays),
        name=name,
        note=figures["note"],
        protocol=figures["protocol"],
        **stored,
    )


def _open_set(figures: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> OpenSetResult | None:
    stored = figures.get("open_set")
    if stored is None:
        return None
    return OpenSetResult(
        fnir_at_fpir={float(fpir): fnir for fpir, fnir in stored["fnir_at_fpir"].items()},
        intervals={float(fpir): (low, high) for fpir, (low, high) in stored["intervals"].items()},
        band=arrays.get(f"{_OPEN_SET}band"),
        rank=stored["rank"],
        enrolled=stored["enrolled"],
        protocol=stored["protocol"],
        **{key: arrays[f"{_OPEN_SET}{key}"] for key in _OPEN_SET_ARRAYS},
    )


def stored_figures(run: Run, name: str) -> dict[str, Any]:
    """The figures of the stored evaluation `name`; empty where there is none, or a damaged one, to be made again."""
    try:
        return run.evaluation(name)[0]
    except WorkbenchError:
        return {}


def load_angles(run: Run, name: str) -> Angles | None:
    """Angles to own and nearest other class centre, where the benchmark's identities are known."""
    _, arrays = run.evaluation(name)
    if "angle_own" not in arrays or "angle_other" not in arrays:
        return None
    return Angles(arrays["angle_own"], arrays["angle_other"])


def load_projection(run: Run, name: str) -> tuple[Projection, list[str]] | None:
    """The stored projection and the names of the identities, where there is one."""
    figures, arrays = run.evaluation(name)
    if "projection_points" not in arrays:
        return None
    try:
        fields = {
            key: arrays[f"projection_{key}"] for key in ("points", "labels", "pca", "explained")
        }
        return Projection(**fields, umap=arrays.get("projection_umap")), [
            str(n) for n in figures["identity_names"]
        ]
    except (KeyError, TypeError) as error:
        raise _damaged(run, name, error) from None


_GAP = "gap_"


def load_gaps(run: Run, name: str) -> Gaps | None:
    """The gaps between the two images of each pair, where the benchmark knows in what they differ."""
    figures, arrays = run.evaluation(name)
    by_factor = {key.removeprefix(_GAP): gap for key, gap in arrays.items() if key.startswith(_GAP)}
    return (
        Gaps(by_factor, arrays.get("people"), bool(figures.get("controlled")))
        if by_factor
        else None
    )


def invariance_curves(
    run: str | Path | Run,
    benchmark: str = "synthfaces-invariance",
    *,
    far: float = 1e-2,
    bootstrap: int = 1000,
    factors: Sequence[str] | None = None,
) -> dict[str, InvarianceCurve]:
    """Invariance curves of a run from its stored evaluation.

    Args:
        run: run directory.
        benchmark: name of the evaluation, one whose images' attributes are known.
        far: false accept rate that fixes the threshold.
        bootstrap: resamples of people for the 95 % intervals; 0 for none.
        factors: which of "yaw", "age", "illumination", "occlusion"; by default all that the benchmark knows.

    Returns:
        {factor: curve}.

    Raises:
        WorkbenchError: the run was not evaluated on the benchmark, in which its pictures differ is not known, or as
            `invariance`.
    """
    opened = open_run(run)
    result, gaps = load_result(opened, benchmark), load_gaps(opened, benchmark)
    if gaps is None or not isinstance(result, VerificationResult):
        raise WorkbenchError(
            f"{opened.name} on {benchmark}: it is not known in what the pictures of a pair differ; "
            "evaluate on a benchmark that knows, such as synthfaces-invariance"
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
