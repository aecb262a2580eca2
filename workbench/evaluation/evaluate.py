"""Evaluate a run on a benchmark and store what came out in the run directory."""

from __future__ import annotations

import hashlib
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm.auto import tqdm

from workbench import data, runs
from workbench.errors import WorkbenchError
from workbench.evaluation.angles import Angles, to_centres, to_identity_means
from workbench.evaluation.closed_set import NEAREST_MEAN, ClosedSetResult, closed_set, identity_means, nearest_mean
from workbench.evaluation.identification import IdentificationResult, identification
from workbench.evaluation.invariance import Gaps, pair_gaps
from workbench.evaluation.model import Flip, Model, load_model, similarity
from workbench.evaluation.projection import Projection, project
from workbench.evaluation.results import Result, save_result, stored_figures
from workbench.evaluation.verification import VerificationResult, verification

TRAIN = "train"
"""Name of the closed-set evaluation on a run's own training data."""
MOST_IMAGES = 50_000
"""A benchmark's images that are embedded without being in a pair."""
Target = data.Benchmark | data.ClosedSet | data.Identification


def evaluate(
    run: str | Path | runs.Run,
    benchmark: str | Target,
    *,
    flip: Flip = "add",
    device: str = "auto",
    batch_size: int = 128,
    bootstrap: int = 1000,
    with_projection: bool = True,
    progress: bool = True,
) -> Result:
    """Measure a run and store the result under runs/NAME/evaluation/.

    Args:
        run: run directory.
        benchmark: `bin:FILE`, `pairs:LIST@ROOT`, `orl`, `fashion-mnist`, `synthfaces-wild`, `synthfaces-pose` and others (see
            `workbench.data.benchmark`), a training source (pairs are drawn from it),
            "train" (closed set, on the run's own training data), or an opened benchmark.
        flip: add the mirror image's embedding ("add") or not ("none").
        device: auto, cpu, cuda, ...
        batch_size: images at once.
        bootstrap: resamples for the 95 % intervals.
        with_projection: compute PCA and UMAP too (a few seconds).
        progress: show bars.

    Returns:
        `VerificationResult` for pairs, `ClosedSetResult` for labelled images of known classes, `IdentificationResult` for
        people to be found among distractors.

    Raises:
        WorkbenchError: no such run or benchmark, no model saved yet, or broken images.
    """
    opened = runs.open(run)
    spec = benchmark if isinstance(benchmark, str) else benchmark.name
    target = _open(opened, benchmark)
    model = load_model(opened, device)
    title = f"{opened.name} on {target.name}" if progress else ""
    name = _file_name(opened, spec, target.name)
    gaps: Gaps | None = None
    result: Result
    angles: Angles | None
    if isinstance(target, data.ClosedSet):
        embeddings, result, angles = _classify(opened, model, target, flip, batch_size, title)
        labels, identity_names = target.dataset.identities, list(target.dataset.identity_names)
    elif isinstance(target, data.Identification):
        known = np.concatenate([target.gallery, target.probes])
        wanted = np.unique(np.concatenate([known, target.distractors]))
        embeddings = _embed_only(model, target.images, wanted, flip, batch_size, title)
        result = _identify(target, embeddings, flip, bootstrap)
        labels = np.full(len(embeddings), -1, dtype=np.int64)  # angles and map are of the enrolled, not of a million strangers
        labels[known] = target.identities[known]
        identity_names = list(target.identity_names)
        angles = to_identity_means(embeddings, labels)
    else:
        gaps = pair_gaps(target.attributes, target.pairs, target.same, target.identities)
        embeddings = _embed_pairs(model, target, flip, batch_size, title)
        result = _verify(target, embeddings, flip, bootstrap)
        unknown = np.full(len(embeddings), -1, dtype=np.int64)
        embedded = embeddings.any(axis=1)
        labels = unknown if target.identities is None else np.where(embedded, target.identities, unknown)
        identity_names = list(target.identity_names)
        angles = None if target.identities is None else to_identity_means(embeddings, labels)
    result = replace(result, name=name)
    projection: Projection | None = None
    if with_projection:
        map_title = f"{title}: map (the first UMAP of a process compiles)"
        with tqdm(total=1, desc=map_title, unit="map", disable=not progress, dynamic_ncols=True) as bar:
            projection = project(embeddings, labels)
            bar.update()
    save_result(
        opened,
        name,
        spec,
        result,
        angles,
        projection,
        identity_names,
        step=model.step,
        fingerprint=target.fingerprint(),
        gaps=gaps,
    )
    return result


def _open(run: runs.Run, benchmark: str | Target) -> Target:
    if not isinstance(benchmark, str):
        return benchmark
    trained_on = str(run.config.get("data"))
    if benchmark == TRAIN:
        dataset = _training_set(run)
        note = "training images: says how well the run fits them, not how it does on new ones"
        return data.ClosedSet(dataset, note)
    target = data.benchmark(benchmark)
    if isinstance(target, data.ClosedSet) and benchmark.partition(":")[0] != trained_on.partition(":")[0]:
        raise _other_classes(target, "those", run)
    drawn = benchmark.partition(":")[0] not in data.BENCHMARKS.names()
    if isinstance(target, data.Benchmark) and drawn and _source(benchmark) == _source(trained_on):
        note = "pairs of the training images: far too good for unseen people"
        return replace(target, note=f"{note}; {target.note}")
    return target


def _training_set(run: runs.Run) -> data.Dataset:
    if run.config.get("loss") == runs.IMPORTED:
        raise WorkbenchError(f"{run.name}: was imported, so what it was trained on is not known; evaluate on a benchmark")
    trained_on = str(run.config.get("data"))
    dataset = data.open(trained_on)
    recorded = run.environment.get("data")
    known = recorded.get("fingerprint") if isinstance(recorded, dict) else None
    if dataset.fingerprint() != known:
        raise WorkbenchError(f"{trained_on!r} is no longer what {run.name} was trained on (fingerprint {known})")
    return dataset


def _source(spec: str) -> tuple[str, Path]:
    """Kind and place, so that folder:a and folder:./a/ are the same."""
    kind, _, path = spec.partition(":")
    return kind, Path(path).expanduser().resolve()


def _other_classes(target: data.ClosedSet, known: str, run: runs.Run) -> WorkbenchError:
    imported = run.config.get("loss") == runs.IMPORTED
    knows = "was imported and knows none" if imported else f"knows {known} of {run.config.get('data')!r}"
    return WorkbenchError(
        f"{target.name}: {target.dataset.num_identities} classes, but {run.name} {knows}; "
        "closed-set accuracy needs the classes of the training set"
    )


def _embed_pairs(model: Model, target: data.Benchmark, flip: Flip, batch_size: int, title: str) -> NDArray[np.float32]:
    """Embeddings of all the benchmark's images, for angles and map; of those in pairs alone where there are very many."""
    all_of_them = target.identities is not None and len(target.images) <= MOST_IMAGES
    wanted = np.arange(len(target.images)) if all_of_them else np.unique(target.pairs)
    return _embed_only(model, target.images, wanted, flip, batch_size, title)


def _embed_only(
    model: Model, images: data.Images, wanted: NDArray[np.int64], flip: Flip, batch_size: int, title: str
) -> NDArray[np.float32]:
    """Embeddings of the images with numbers `wanted`; those of the others are 0."""
    embeddings = np.zeros((len(images), model.net.embedding_dim), dtype=np.float32)
    embeddings[wanted] = model.embed(images, wanted.tolist(), flip, batch_size, title)
    return embeddings


def _verify(target: data.Benchmark, embeddings: NDArray[np.float32], flip: Flip, bootstrap: int) -> VerificationResult:
    scores = similarity(embeddings[target.pairs[:, 0]], embeddings[target.pairs[:, 1]])
    result = verification(scores, target.same, target.folds, bootstrap=bootstrap)
    protocol = {"score": "cosine of the embeddings", "flip": _FLIPS[flip], **result.protocol}
    return replace(result, note=target.note, protocol=protocol)


def _identify(target: data.Identification, embeddings: NDArray[np.float32], flip: Flip, bootstrap: int) -> IdentificationResult:
    result = identification(
        embeddings[target.probes],
        embeddings[target.gallery],
        embeddings[target.distractors],
        target.identities[target.probes],
        target.identities[target.gallery],
        bootstrap=bootstrap,
    )
    protocol = {"score": "cosine of the embeddings", "flip": _FLIPS[flip], **result.protocol}
    return replace(result, note=target.note, protocol=protocol)


def _classify(
    run: runs.Run, model: Model, target: data.ClosedSet, flip: Flip, batch_size: int, title: str
) -> tuple[NDArray[np.float32], ClosedSetResult, Angles]:
    """Embeddings, their classes, and their angles to the class centres: to those learned, or else to means."""
    dataset, labels = target.dataset, target.dataset.identities
    if model.centres is not None:
        _check_classes(run, target, len(model.centres))
        embeddings = model.embed(dataset.images, flip=flip, batch_size=batch_size, progress=title)
        # The sum of two embeddings is halved, as a loss with a bias is not indifferent to length.
        classes = model.classify(embeddings * np.float32(0.5 if flip == "add" else 1.0))
        angles = to_centres(embeddings, labels, model.centres)
        note, prediction = target.note, "highest logit, without margin; the label is not an input"
    else:
        training = _training_set(run)
        _check_classes(run, target, training.num_identities)
        embeddings = model.embed(dataset.images, flip=flip, batch_size=batch_size, progress=title)
        means = "mean embedding of each identity's training images"
        if target.fingerprint() == training.fingerprint():
            classes, angles = nearest_mean(embeddings, labels), to_identity_means(embeddings, labels)
            means += ", the image itself left out of its own"
        else:
            known = model.embed(training.images, flip=flip, batch_size=batch_size, progress=title and f"{title}: training set")
            classes = nearest_mean(known, training.identities, embeddings)
            angles = to_centres(embeddings, labels, identity_means(known, training.identities))
        note = "; ".join(part for part in (target.note, "the loss has no class centres: compared with mean embeddings") if part)
        prediction = f"{NEAREST_MEAN}, by cosine ({means})"
    result = closed_set(labels, classes, list(dataset.identity_names))
    return embeddings, replace(result, note=note, protocol={"prediction": prediction, "flip": _FLIPS[flip]}), angles


def _check_classes(run: runs.Run, target: data.ClosedSet, known: int) -> None:
    if target.dataset.num_identities != known:
        raise _other_classes(target, f"the {known}", run)


_FLIPS = {"add": "embeddings of image and mirror image added", "none": "none"}


def _file_name(run: runs.Run, spec: str, name: str) -> str:
    """The benchmark's name as file name; with a few hex digits where another benchmark has taken it."""
    plain = TRAIN if spec == TRAIN else re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip(".-") or "benchmark"
    if (plain == TRAIN and spec != TRAIN) or stored_figures(run, plain).get("benchmark", spec) != spec:
        return f"{plain}-{hashlib.sha256(spec.encode()).hexdigest()[:6]}"
    return plain
