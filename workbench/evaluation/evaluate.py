"""Evaluate a run on a benchmark and store what came out in the run directory."""

from __future__ import annotations

import hashlib
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import cast, get_args

import numpy as np
from numpy.typing import NDArray
from tqdm.auto import tqdm

from workbench import data, runs
from workbench.arrays import Integers
from workbench.data.dataset import Broken
from workbench.errors import WorkbenchError, unknown_name
from workbench.evaluation.angles import Angles, to_centres, to_identity_means
from workbench.evaluation.closed_set import (
    NEAREST_MEAN,
    ClosedSetResult,
    closed_set,
    identity_means,
    nearest_mean,
)
from workbench.evaluation.identification import Candidates, IdentificationResult, identification
from workbench.evaluation.invariance import Gaps, pair_gaps
from workbench.evaluation.model import Model, embedding_length, load_model
from workbench.evaluation.open_set import open_set
from workbench.evaluation.projection import Projection, project
from workbench.evaluation.protocol import DEFAULT, FLIPS, SCORES, Flip, Protocol, resolve
from workbench.evaluation.results import Result, save_result, stored_figures
from workbench.evaluation.sources import (
    TRAIN,
    Sources,
    Target,
    in_pairs,
    in_templates,
    other_classes,
)
from workbench.evaluation.templates import (
    IJB_PROTOCOL,
    pool,
    template_scores,
    template_verification,
)
from workbench.evaluation.verification import VerificationResult, verification
from workbench.files import check_writable

SAME_SCORE = 1e-6
"""Cosines of float32 embeddings that differ by no more are equal."""
CHUNK = 100_000
"""Embeddings of distractors that are held in memory."""


def evaluate(
    run: str | Path | runs.Run,
    benchmark: str | Target,
    *,
    protocol: str | Protocol = DEFAULT,
    flip: Flip | None = None,
    device: str = "auto",
    batch_size: int = 128,
    bootstrap: int = 1000,
    with_projection: bool = True,
    broken: Broken | None = None,
    training_data: str | None = None,
    progress: bool = True,
) -> Result:
    """Measure a run and store the result under runs/NAME/evaluation/.

    Args:
        run: run directory.
        benchmark: `bin:FILE`, `pairs:LIST@ROOT`, `orl`, `fashion-mnist`, `synthfaces-wild`, `synthfaces-pose` and others (see
            `workbench.data.benchmark`), a training source (pairs are drawn from it),
            "train" (closed set, on the run's own training data), or an opened benchmark.
        protocol: how pairs are scored and thresholds chosen: "workbench", "arcface_torch", "sphereface", or a `Protocol`. Results
            of another than the default get a name of their own, such as lfw+arcface_torch.
        flip: in place of the protocol's: add the mirror image's embedding ("add"), put it behind ("concatenate"), or neither
            ("none"). Of the protocol this alone also concerns identification, templates and, but for "concatenate", closed sets.
        device: auto, cpu, cuda, ...
        batch_size: images at once.
        bootstrap: resamples for the 95 % intervals of identification; 0 for no intervals of any kind. Those of pairs are by a
            jackknife over folds or people, which draws nothing.
        with_projection: compute PCA and UMAP too (a few seconds).
        broken: at an image that cannot be read "stop", the default; or "skip": all images are read once before they are
            embedded, and what needs one that cannot be read is left out, which the result's note and protocol say. On "train" the
            default is what the run was trained with.
        training_data: where the run's training set is now, if it was moved; its fingerprint must be the one that the run recorded.
        progress: show bars.

    Returns:
        `VerificationResult` for pairs and for IJB's templates, `ClosedSetResult` for labelled images of known classes,
        `IdentificationResult` for people to be found among distractors.

    Raises:
        WorkbenchError: no such run, benchmark or protocol, no model saved yet, broken images (or, with "skip", half of them or
            more), embeddings that are not finite, or a run directory that cannot be written to.
    """
    if broken not in (None, *get_args(Broken)):
        raise unknown_name("way with broken images", broken, get_args(Broken))
    chosen = resolve(protocol, flip=flip)
    flip = chosen.flip
    opened = runs.open(run)
    spec = benchmark if isinstance(benchmark, str) else benchmark.name
    sources = Sources(opened, broken, training_data, progress)
    target, fingerprint, left_out = sources.open(benchmark)
    _check_protocol(chosen, target)
    _check_pairs(target)
    model = load_model(opened, device)
    check_writable(opened.path / runs.EVALUATION, _stored_bytes(target, model))
    title = f"{opened.name} on {target.name}" if progress else ""
    name = _file_name(opened, spec, target.name, chosen.suffix)
    gaps: Gaps | None = None
    result: Result
    angles: Angles | None
    shown: Integers | None = None  # the images that embeddings and labels are of, where not all
    if isinstance(target, data.ClosedSet):
        shown, embeddings, result, angles = _classify(
            sources, model, target, left_out, flip, batch_size, title
        )
        labels, identity_names = (
            target.dataset.identities[shown],
            list(target.dataset.identity_names),
        )
        angles = _among(angles, shown, len(target.dataset))
    elif isinstance(target, data.Identification):
        result, shown, embeddings = _identify(
            opened, model, target, flip, batch_size, bootstrap, title
        )
        labels, identity_names = target.identities[shown], list(target.identity_names)
        angles = _among(to_identity_means(embeddings, labels), shown, len(target.images))
    elif isinstance(target, data.Templates):
        result, shown, embeddings = _compare_templates(
            model, target, flip, batch_size, bootstrap, title
        )
        labels, identity_names, angles = np.full(len(shown), -1, dtype=np.int64), [], None
    else:
        gaps = pair_gaps(target.attributes, target.pairs, target.same, target.identities)
        shown = np.setdiff1d(in_pairs(target), left_out.numbers)
        embeddings = _embed_only(model, target.images, shown, flip, batch_size, title)
        result = _verify(target, embeddings, chosen, bootstrap)
        embeddings = embeddings[shown]
        labels = (
            np.full(len(shown), -1, dtype=np.int64)
            if target.identities is None
            else target.identities[shown]
        )
        identity_names = list(target.identity_names)
        angles = None
        if target.identities is not None:
            angles = _among(to_identity_means(embeddings, labels), shown, len(target.images))
    result = replace(_with_notes(result, left_out), name=name)
    result = replace(result, protocol={**result.protocol, "image scaling": model.scaling})
    projection: Projection | None = None
    if with_projection:
        map_title = f"{title}: map (the first UMAP of a process compiles)"
        with tqdm(
            total=1, desc=map_title, unit="map", disable=not progress, dynamic_ncols=True
        ) as bar:
            projection = project(embeddings, labels)
            projection = (
                projection
                if shown is None
                else replace(projection, points=shown[projection.points])
            )
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
        fingerprint=fingerprint,
        gaps=gaps,
        left_out=left_out,
        training_data=training_data if spec == TRAIN else None,
    )
    return result


def _with_notes(result: Result, left_out: data.LeftOut) -> Result:
    """The result with what its reader must not miss: that something was left out, or that no two scores differ."""
    if left_out.images:
        result = replace(result, protocol={**result.protocol, "left out": str(left_out)})
        result = _with_note(result, f"left out: {left_out}")
    if isinstance(result, VerificationResult) and np.ptp(result.scores) <= SAME_SCORE:
        result = _with_note(
            result,
            f"all {len(result.scores):,} scores are equal: the network makes the same of every image, so it has collapsed",
        )
    return result


def _with_note(result: Result, note: str) -> Result:
    return replace(result, note=f"{result.note}; {note}" if result.note else note)


def _stored_bytes(target: Target, model: Model) -> int:
    """About what will be written for this evaluation: figures of each pair and image, and embeddings that memory does not hold."""
    images = len(target.dataset if isinstance(target, data.ClosedSet) else target.images)
    pairs = len(target.pairs) if isinstance(target, data.Benchmark | data.Templates) else 0
    waiting = (
        len(target.distractors)
        if isinstance(target, data.Identification) and len(target.distractors) > CHUNK
        else 0
    )
    return 32 * (images + pairs) + waiting * 4 * 2 * model.net.embedding_dim


def _embed_only(
    model: Model,
    images: data.Images,
    wanted: Integers,
    flip: Flip,
    batch_size: int,
    title: str,
) -> NDArray[np.float32]:
    """Embeddings of the images with numbers `wanted`; those of the others are 0."""
    embeddings = np.zeros((len(images), embedding_length(model, flip)), dtype=np.float32)
    embeddings[wanted] = model.embed(images, wanted.tolist(), flip, batch_size, title)
    return embeddings


def _verify(
    target: data.Benchmark, embeddings: NDArray[np.float32], protocol: Protocol, bootstrap: int
) -> VerificationResult:
    folds = protocol.folds_of(target.folds)
    scores = protocol.scores(embeddings, target.pairs, folds)
    people = None if target.identities is None else target.identities[target.pairs]
    result = verification(
        scores,
        target.same,
        folds,
        people=people,
        candidates=protocol.candidates,
        intervals=bootstrap > 0,
    )
    told = {**protocol.words(), **result.protocol, **protocol.candidates_in_words}
    return replace(result, note=target.note, protocol=told)


def _check_protocol(protocol: Protocol, target: Target) -> None:
    """Only pairs have folds and thresholds; a closed set's logits are of embeddings as long as the class centres."""
    if isinstance(target, data.Benchmark):
        return
    if replace(protocol, flip="add") != Protocol():
        raise WorkbenchError(
            f"{target.name}: protocol {protocol.name} is one of pairs; of its options only flip can be chosen here"
        )
    if isinstance(target, data.ClosedSet) and protocol.flip == "concatenate":
        raise WorkbenchError(
            f"{target.name}: flip is add or none for a closed set; the class centres fit no concatenated embeddings"
        )


def _check_pairs(target: Target) -> None:
    """Before minutes are spent on embeddings that no rate can be computed of."""
    if isinstance(target, data.Benchmark | data.Templates):
        genuine, count = int(np.count_nonzero(target.same)), len(target.same)
        if genuine in (0, count):
            raise WorkbenchError(
                f"{target.name}: {genuine:,} genuine and {count - genuine:,} impostor pairs; at least one of each is needed"
            )


def _identify(
    run: runs.Run,
    model: Model,
    target: data.Identification,
    flip: Flip,
    batch_size: int,
    bootstrap: int,
    title: str,
) -> tuple[IdentificationResult, Integers, NDArray[np.float32]]:
    """The result; numbers and embeddings of the images of enrolled people, as angles and map are not of a million strangers."""
    known = np.unique(np.concatenate([target.gallery, target.probes]))
    embeddings = model.embed(target.images, known.tolist(), flip, batch_size, title)
    probes, gallery = np.searchsorted(known, target.probes), np.searchsorted(known, target.gallery)
    searched = embeddings[probes], embeddings[gallery]
    identities = target.identities[target.probes], target.identities[target.gallery]
    with _embedded(
        run, model, target.images, target.distractors, flip, batch_size, title
    ) as strangers:
        result = identification(
            *searched,
            strangers,
            *identities,
            candidates=cast(Candidates, target.candidates),
            bootstrap=bootstrap,
        )
        asked = open_set(
            *searched,
            strangers,
            *identities,
            target.identities[target.distractors],
            bootstrap=bootstrap,
        )
    scored = {"score": SCORES["cosine"], "flip": FLIPS[flip]}
    asked = replace(asked, protocol={**scored, **asked.protocol})
    return (
        replace(result, open_set=asked, note=target.note, protocol={**scored, **result.protocol}),
        known,
        embeddings,
    )


@contextmanager
def _embedded(
    run: runs.Run,
    model: Model,
    images: data.Images,
    wanted: Integers,
    flip: Flip,
    batch_size: int,
    title: str,
) -> Iterator[NDArray[np.float32]]:
    """Embeddings of very many images, in a file of the run directory that is gone afterwards if memory should not hold them."""
    title = title and f"{title}: distractors"
    if len(wanted) <= CHUNK:
        yield model.embed(images, wanted.tolist(), flip, batch_size, title)
        return
    with tempfile.TemporaryFile(dir=run.path) as file:
        count = -(-len(wanted) // CHUNK)
        for number in range(count):
            part = wanted[number * CHUNK : (number + 1) * CHUNK]
            found = model.embed(
                images,
                part.tolist(),
                flip,
                batch_size,
                title and f"{title}, part {number + 1} of {count}",
            )
            try:
                file.write(found.tobytes())
                file.flush()
            except OSError as error:
                size = len(wanted) * found.shape[1] * 4 / 1e9
                what = f"no room for the distractors' embeddings, {size:.1f} GB ({error.strerror})"
                raise WorkbenchError(f"{run.path}: {what}") from None
        yield np.memmap(file, np.float32, "r", shape=(len(wanted), found.shape[1]))


def _among(angles: Angles, numbers: Integers, count: int) -> Angles:
    """Angles of the images with these numbers, as angles of all images: NaN for the others."""
    own, other = np.full(count, np.nan), np.full(count, np.nan)
    own[numbers], other[numbers] = angles.own, angles.other
    return Angles(own, other)


def _compare_templates(
    model: Model, target: data.Templates, flip: Flip, batch_size: int, bootstrap: int, title: str
) -> tuple[VerificationResult, Integers, NDArray[np.float32]]:
    """The result; numbers and embeddings of the images of templates that are in pairs."""
    wanted = in_templates(target)
    embeddings = model.embed(target.faces, wanted.tolist(), flip, batch_size, title)
    weights = None if target.detector_scores is None else target.detector_scores[wanted]
    numbers, pooled = pool(
        embeddings,
        target.templates[wanted],
        target.media[wanted],
        weights,
        keep_norm=target.keep_norm,
    )
    scores = template_scores(numbers, pooled, target.pairs, title and f"{title}: pairs")
    result = template_verification(scores, target.same, intervals=bootstrap > 0)
    protocol = {
        "protocol": IJB_PROTOCOL,
        "score": "cosine of the templates: mean of the embeddings of each photo or video, sum of these",
        "flip": FLIPS[flip],
        "length of embeddings": "as it is" if target.keep_norm else "1",
        "weight of embeddings": "none" if weights is None else "the detector's score",
        "alignment": "images as they are"
        if target.landmarks is None
        else "by the benchmark's landmarks, 112 x 112",
        **result.protocol,
    }
    return replace(result, note=target.note, protocol=protocol), wanted, embeddings


def _classify(
    sources: Sources,
    model: Model,
    target: data.ClosedSet,
    left_out: data.LeftOut,
    flip: Flip,
    batch_size: int,
    title: str,
) -> tuple[Integers, NDArray[np.float32], ClosedSetResult, Angles]:
    """Numbers of the images, their embeddings, classes, and angles to the class centres: to those learned, or else to means."""
    dataset = target.dataset
    shown = np.setdiff1d(np.arange(len(dataset)), left_out.numbers)
    labels = dataset.identities[shown]
    if model.centres is not None:
        _check_classes(sources.run, target, len(model.centres))
        embeddings = model.embed(dataset.images, shown.tolist(), flip, batch_size, title)
        # The sum of two embeddings is halved, as a loss with a bias is not indifferent to length.
        classes = model.classify(embeddings * np.float32(0.5 if flip == "add" else 1.0))
        angles = to_centres(embeddings, labels, model.centres)
        note, prediction = target.note, "highest logit, without margin; the label is not an input"
    else:
        training, readable = sources.training_set()
        _check_classes(sources.run, target, training.num_identities)
        embeddings = model.embed(dataset.images, shown.tolist(), flip, batch_size, title)
        means = "mean embedding of each identity's training images"
        if target.fingerprint() == training.fingerprint():
            classes, angles = (
                nearest_mean(embeddings, labels),
                to_identity_means(embeddings, labels),
            )
            means += ", the image itself left out of its own"
        else:
            _check_all_have_images(training, readable)
            known = model.embed(
                training.images,
                readable.tolist(),
                flip,
                batch_size,
                title and f"{title}: training set",
            )
            classes = nearest_mean(known, training.identities[readable], embeddings)
            angles = to_centres(
                embeddings, labels, identity_means(known, training.identities[readable])
            )
        note = "; ".join(
            part
            for part in (
                target.note,
                "the loss has no class centres: compared with mean embeddings",
            )
            if part
        )
        prediction = f"{NEAREST_MEAN}, by cosine ({means})"
    result = closed_set(labels, classes, list(dataset.identity_names))
    return (
        shown,
        embeddings,
        replace(result, note=note, protocol={"prediction": prediction, "flip": FLIPS[flip]}),
        angles,
    )


def _check_all_have_images(training: data.Dataset, readable: Integers) -> None:
    left = np.bincount(training.identities[readable], minlength=training.num_identities)
    if (lost := np.flatnonzero(left == 0)).size:
        raise WorkbenchError(
            f"{training.name}: none of the images of {training.identity_names[lost[0]]} can be read, so there is no mean embedding "
            "to compare with, as the loss has no class centres"
        )


def _check_classes(run: runs.Run, target: data.ClosedSet, known: int) -> None:
    if target.dataset.num_identities != known:
        raise other_classes(target, f"the {known}", run)


def _file_name(run: runs.Run, spec: str, name: str, suffix: str) -> str:
    """The benchmark's name as file name, with the protocol's suffix; with a few hex digits where another benchmark has taken it."""
    plain = (
        TRAIN
        if spec == TRAIN
        else re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip(".-") or "benchmark"
    )
    taken = any(
        stored_figures(run, known).get("benchmark", spec) != spec
        for known in {plain, plain + suffix}
    )
    if taken or (plain == TRAIN and spec != TRAIN):
        plain += f"-{hashlib.sha256(spec.encode()).hexdigest()[:6]}"
    return plain + suffix
