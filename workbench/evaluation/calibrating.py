"""Makes calibrations, and compares two photos under a run."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from workbench import data, faces, runs
from workbench.data.dataset import Broken
from workbench.errors import WorkbenchError, printable
from workbench.evaluation.angles import similarity
from workbench.evaluation.calibration import (
    Calibration,
    Verdict,
    calibration_names,
    check_pictures,
    load_calibration,
    pictures_of,
)
from workbench.evaluation.evaluators import EvaluationContext, Target, evaluator_of
from workbench.evaluation.model import Model, load_model
from workbench.evaluation.preparing import prepared_context
from workbench.evaluation.protocol import Protocol
from workbench.evaluation.results import safe_name, short_digest
from workbench.evaluation.sources import Sources
from workbench.evaluation.verification import VerificationResult


def calibrate(
    run: str | Path | runs.Run,
    benchmark: str | data.Benchmark,
    *,
    name: str | None = None,
    pictures: str | None = None,
    device: str = "auto",
    batch_size: int = 128,
    broken: Broken = "stop",
    progress: bool = True,
) -> Calibration:
    """Stores the scores with which verdicts on two photos are compared.

    The scores are cosines of embeddings to which those of the mirrored images are added, as they
    are computed for two photos. A run can have several calibrations.

    Args:
        run: Run directory.
        benchmark: Spec of a data set, such as `aligned:folder:DIR`, of which all pairs are scored
            (at most 200,000 genuine and as many impostor pairs, drawn at random if there are more);
            or a benchmark of pairs, such as `lfw`, `bin:FILE` or an opened one. The people must not
            be in the training set of the run.
        name: Name of the calibration; by default that of the benchmark.
        pictures: Whether the images are "photos" of real people or "rendered". By default, images
            of `synthfaces` are rendered and all others photos.
        device: "auto", "cpu", "cuda", ...
        batch_size: Images per batch.
        broken: "stop" raises an error at the first image that cannot be read; "skip" leaves such
            images and their pairs out.
        progress: Whether progress bars are shown.

    Returns:
        The calibration, which is stored in the folder calibration/ of the run.

    Raises:
        WorkbenchError: If there is no such run or benchmark; if it has no pairs, fewer than two
            genuine or two impostor pairs; if the name is invalid; if an image cannot be read; or
            if the run directory cannot be written to.
    """
    opened = runs.open(run)
    _check_name(name)
    spec = benchmark if isinstance(benchmark, str) else benchmark.name
    kind = pictures_of(spec) if pictures is None else check_pictures(pictures)
    target, fingerprint, left_out = _open(opened, benchmark, broken, progress)
    context = prepared_context(
        Sources(opened),
        target,
        left_out,
        protocol=Protocol(),
        folder=runs.CALIBRATION,
        device=device,
        batch_size=batch_size,
        bootstrap=1000,
        progress=progress,
    )
    result = _scored(target, context)
    calibration = Calibration(
        result=replace(result, name=name or _free_name(opened, target.name, spec)),
        benchmark=spec,
        pictures=kind,
        created=datetime.now().astimezone().isoformat(timespec="seconds"),
        step=context.model.step,
        fingerprint=fingerprint,
    )
    opened.save_calibration(calibration.name, calibration.figures(), calibration.result.arrays())
    return calibration


def _check_name(name: str | None) -> None:
    """Refuses names of calibrations that cannot be names of files."""
    if name is not None and name != safe_name(name):
        raise WorkbenchError(
            f"name of a calibration {name!r}: use letters, digits, '.', '_' and '-', such as "
            f"{safe_name(name)}"
        )


def _scored(target: data.Benchmark, context: EvaluationContext) -> VerificationResult:
    """Scores the pairs. The texts of the result can be printed."""
    result = evaluator_of(target).evaluate(target, context).result
    assert isinstance(result, VerificationResult)  # the evaluator of pairs returns no other
    protocol = {**result.protocol, "image scaling": context.model.scaling}
    if context.left_out.images:
        protocol["left out"] = str(context.left_out)
    return replace(
        result,
        note=printable(result.note),
        protocol={key: printable(str(value)) for key, value in protocol.items()},
    )


def _open(
    run: runs.Run, benchmark: str | data.Benchmark, broken: Broken, progress: bool
) -> tuple[data.Benchmark, str, data.LeftOut]:
    """Open the pairs; of a data set, all pairs of its images.

    Returns:
        The pairs without unreadable images, the fingerprint of all pairs, and what is left out.
    """
    preparation, whole = "", benchmark
    if isinstance(benchmark, str):
        spec = data.unprepared(benchmark)
        preparation = benchmark.partition(":")[0] if spec != benchmark else ""
        whole = spec
        if data.is_drawn(spec):
            pairs = data.all_pairs(data.open(spec))
            whole = evaluator_of(pairs).compared_with_training(pairs, spec, run)
    target, fingerprint, left_out = Sources(run, broken, None, progress).open(whole)
    if not isinstance(target, data.Benchmark):
        raise _no_pairs(target)
    if preparation:
        unreadable = left_out.numbers.tolist()
        target = data.prepare(target, preparation, unreadable=unreadable, progress=progress)
    return target, fingerprint, left_out


def _no_pairs(target: Target) -> WorkbenchError:
    return WorkbenchError(
        f"{target.name}: is not a benchmark of pairs ({type(target).__name__}); calibrate on a "
        "data set such as aligned:folder:DIR, or on pairs such as bin:FILE"
    )


def _free_name(run: runs.Run, name: str, spec: str) -> str:
    """Return the name of a calibration, with a few hex digits if other pairs have it already."""
    plain = safe_name(name)
    is_used = plain in run.calibrations() and (
        run.calibration_figures(plain).get("benchmark") != spec
    )
    return f"{plain}-{short_digest(spec)}" if is_used else plain


def compare_photos(
    run: str | Path | runs.Run,
    first: NDArray[np.uint8],
    second: NDArray[np.uint8],
    *,
    calibration: str | None = None,
    far: float | None = None,
    device: str = "auto",
) -> Verdict:
    """Compares two photos under a run, and the similarity with a calibration of the run.

    The largest face of each photo is detected and aligned.

    Args:
        run: Run directory.
        first: (H, W, 3) uint8 pixels of a photo.
        second: Pixels of the other photo.
        calibration: Name of a calibration, or of an evaluation on pairs. By default the first of
            `calibration_names`, which prefers calibrations on photos.
        far: False accept rate that determines the threshold. By default, the threshold is the one
            with the fewest errors on the pairs of the calibration.
        device: "auto", "cpu", "cuda", ...

    Returns:
        The verdict.

    Raises:
        WorkbenchError: If no face is found on a photo, if there is no such run or calibration, or
            if the calibration has too few impostor pairs for the rate.

    Example:
        >>> import workbench as wb
        >>> photos = [wb.images.read(path) for path in ("a.jpg", "b.jpg")]  # doctest: +SKIP
        >>> verdict = wb.evaluation.compare_photos("runs/dlib", *photos)  # doctest: +SKIP
        >>> verdict.accepted, round(verdict.similarity, 3)  # doctest: +SKIP
        (True, 0.961)
    """
    opened = runs.open(run)
    names = calibration_names(opened)
    if calibration is None and not names:
        raise WorkbenchError(
            f"{opened.name}: has no calibration and no evaluation on pairs; use "
            f"workbench calibrate {opened.path} BENCHMARK"
        )
    chosen = load_calibration(opened, calibration or names[0])
    model = load_model(opened, device)
    crops = [
        _largest_face(photo, which, model)
        for photo, which in ((first, "first"), (second, "second"))
    ]
    embeddings = model.embed(crops)
    return chosen.verdict(float(similarity(embeddings[:1], embeddings[1:])[0]), far)


def _largest_face(photo: NDArray[np.uint8], which: str, model: Model) -> NDArray[np.uint8]:
    """Return the aligned crop of the largest face of a photo."""
    size = 112 * -(-max(model.net.image_size) // 112)
    found = faces.align(photo, size=size, which="largest")
    if not found:
        raise WorkbenchError(f"no face was found on the {which} photo")
    return found[0].image
