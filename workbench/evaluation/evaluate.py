"""Evaluates a run on a benchmark and stores the result in the run directory."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import get_args

from tqdm.auto import tqdm

from workbench import runs
from workbench.data.dataset import Broken
from workbench.errors import unknown_name
from workbench.evaluation.evaluators import (
    EvaluationContext,
    Measurement,
    Target,
    evaluator_of,
)
from workbench.evaluation.kinds import Result
from workbench.evaluation.model import Weights
from workbench.evaluation.preparing import prepared_context
from workbench.evaluation.projection import Projection, project
from workbench.evaluation.protocol import DEFAULT, Flip, Protocol, resolve
from workbench.evaluation.results import safe_name, save_result, short_digest, stored_figures
from workbench.evaluation.sources import TRAIN, Sources


def evaluate(
    run: str | Path | runs.Run,
    benchmark: str | Target,
    *,
    protocol: str | Protocol = DEFAULT,
    flip: Flip | None = None,
    weights: Weights = "auto",
    device: str = "auto",
    batch_size: int = 128,
    bootstrap: int = 1000,
    with_projection: bool = True,
    broken: Broken | None = None,
    training_data: str | None = None,
    progress: bool = True,
) -> Result:
    """Evaluate a run and store the result in its folder evaluation/.

    Args:
        run: run directory.
        benchmark: spec of a benchmark, such as `bin:FILE`, `pairs:LIST@ROOT`, `orl` or
            `synthfaces-wild` (see `workbench.data.benchmark`); spec of a training source, from
            which pairs are drawn; "train" for the run's own training data as a closed set; or an
            opened benchmark.
        protocol: how pairs are scored and thresholds are chosen: "workbench" (the default),
            "arcface_torch", "sphereface", or a `Protocol`. A result of another protocol than the
            default has the protocol in its name, such as lfw+arcface_torch.
        flip: replaces the protocol's `flip`: the embedding of the mirror image is added ("add"),
            concatenated ("concatenate") or not used ("none"). This is the only option of the
            protocol that also applies to identification, templates and closed sets; a closed set
            does not allow "concatenate".
        weights: "auto" uses the moving average of the weights if the run has one, "averaged"
            demands it, and "last" uses the weights of the last step. If the run has an average, a
            result of the last weights has them in its name, such as lfw+last, and is stored in
            addition.
        device: "auto", "cpu", "cuda", ...
        batch_size: images per batch.
        bootstrap: resamples for the 95 % intervals of identification. With 0, no intervals are
            computed, except those of closed sets. Intervals of pairs come from a jackknife over
            folds or people, which needs no resamples.
        with_projection: whether PCA and UMAP are computed too, which takes a few seconds.
        broken: "stop" raises an error at the first image that cannot be read; "skip" reads all
            images first and leaves out everything that needs an unreadable one, as the result's
            note and protocol then state. The default is "stop", except for the benchmark "train",
            for which it is the setting that the run was trained with.
        training_data: spec of the run's training set at its new place, if it was moved; its
            fingerprint must be the one that the run recorded.
        progress: whether progress bars are shown.

    Returns:
        The result, whose type depends on the benchmark: `VerificationResult` for pairs and for the
        templates of IJB, `ClosedSetResult` for labelled images of known classes, and
        `IdentificationResult` for probes that are searched for among distractors.

    Raises:
        WorkbenchError: if there is no such run, benchmark or protocol, if no model is saved yet, if
            images cannot be read (with "skip": half of them or more), if embeddings are not finite,
            or if the run directory cannot be written to.
    """
    if broken not in (None, *get_args(Broken)):
        raise unknown_name("value of broken", broken, get_args(Broken))
    chosen = resolve(protocol, flip=flip)
    opened = runs.open(run)
    spec = benchmark if isinstance(benchmark, str) else benchmark.name
    sources = Sources(opened, broken, training_data, progress)
    target, fingerprint, left_out = sources.open(benchmark)
    context = prepared_context(
        sources,
        target,
        left_out,
        protocol=chosen,
        folder=runs.EVALUATION,
        weights=weights,
        device=device,
        batch_size=batch_size,
        bootstrap=bootstrap,
        progress=progress,
    )
    name = _file_name(opened, spec, target.name, _suffix(context))
    measured = evaluator_of(target).evaluate(target, context)
    result = _annotated(measured.result, name, context)
    projection = _projection(measured, context) if with_projection else None
    moved_to = training_data if spec == TRAIN else None
    _save(context, measured, result, projection, spec, fingerprint, moved_to)
    return result


def _save(
    context: EvaluationContext,
    measured: Measurement,
    result: Result,
    projection: Projection | None,
    spec: str,
    fingerprint: str,
    training_data: str | None,
) -> None:
    """Store the result and what was measured with it in the run directory."""
    save_result(
        context.run,
        result.name,
        spec,
        result,
        measured.angles,
        projection,
        measured.identity_names,
        step=context.model.step,
        fingerprint=fingerprint,
        gaps=measured.gaps,
        left_out=context.left_out,
        training_data=training_data,
    )


def _annotated(result: Result, name: str, context: EvaluationContext) -> Result:
    """Return the result with its name and with a note of everything that a reader must know."""
    left_out, model = context.left_out, context.model
    protocol, notes = dict(result.protocol), [result.note]
    if left_out.images:
        protocol["left out"] = str(left_out)
        notes.append(f"left out: {left_out}")
    notes.append(result.remark())
    protocol["image scaling"] = model.scaling
    if model.averaged:
        protocol["weights"] = "moving average of the weights"
    note = "; ".join(part for part in notes if part)
    return result.annotated(name=name, note=note, protocol=protocol)


def _projection(measured: Measurement, context: EvaluationContext) -> Projection:
    """Compute the map of the embeddings; its points are numbers of the benchmark's images."""
    with tqdm(
        total=1,
        desc=context.bar("map (the first UMAP of a process compiles)"),
        unit="map",
        disable=not context.title,
        dynamic_ncols=True,
    ) as bar:
        projection = project(measured.embeddings, measured.labels)
        bar.update()
    return replace(projection, points=measured.numbers[projection.points])


def _suffix(context: EvaluationContext) -> str:
    """Return the end of the name of a result, for another protocol or other weights than usual."""
    has_average = (context.run.path / runs.AVERAGED_MODEL).is_file()
    return context.protocol.suffix + ("+last" if has_average and not context.model.averaged else "")


def _file_name(run: runs.Run, spec: str, name: str, suffix: str) -> str:
    """Return the name under which the evaluation is stored.

    It is the benchmark's name with the protocol's suffix. A few hex digits are added if another
    benchmark has the name already.
    """
    plain = TRAIN if spec == TRAIN else safe_name(name)
    is_used = any(
        stored_figures(run, stored).get("benchmark", spec) != spec
        for stored in {plain, plain + suffix}
    )
    if is_used or (plain == TRAIN and spec != TRAIN):
        plain += f"-{short_digest(spec)}"
    return plain + suffix
