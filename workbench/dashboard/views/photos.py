"""The page of two photos: their similarity under each run, and the error rates at that score."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import streamlit as st

from workbench import data, evaluation, images, plots, runs
from workbench.dashboard import loading
from workbench.dashboard.loading import Selection
from workbench.dashboard.views import estimates
from workbench.dashboard.views.parts import (
    chart,
    collect,
    protocol,
    verification_results,
)
from workbench.dashboard.views.uploads import ALIGN, AS_IT_IS, CROP, SIDE, Photo, upload
from workbench.errors import WorkbenchError
from workbench.evaluation.calibration import percent
from workbench.evaluation.protocol import of_two_photos

FEWEST_ERRORS = "fewest errors"
"""The choice of the threshold that makes the fewest errors on the pairs of a calibration."""


def show(selection: Selection) -> None:
    """Draws the page."""
    st.title("Two photos")
    upload, pick = "Upload two photos", "Pick a pair from the benchmark"
    source = st.radio(
        "Photos",
        [upload, pick],
        key="photos",
        bind="query-params",
        horizontal=True,
        label_visibility="collapsed",
    )
    if source == upload:
        pair = _uploaded()
        calibrations = _calibrations(selection)
        far = _far(calibrations)
    else:
        results = verification_results(selection, of_two_photos)
        pair = _picked(selection, results)
        calibrations, far = _of_benchmark(selection, results), None
    if pair is None:
        return
    for run in selection.chosen:
        st.subheader(run.name)
        try:
            model = loading.model(run)
            side = max(model.net.image_size)
            embeddings = loading.embed(model, [photo.seen(side) for photo in pair])
        except WorkbenchError as error:
            st.warning(str(error), icon=":material/warning:")
            continue
        similarity = float(evaluation.similarity(embeddings[:1], embeddings[1:])[0])
        calibration = calibrations.get(run.name)
        _verdict(similarity, calibration, run.name, far)
        if calibration is not None and source == upload:
            _say_what_it_rests_on(run, calibration)
        estimates.show(run, model, embeddings)
    protocol({name: calibration.result for name, calibration in calibrations.items()})


def _verdict(
    similarity: float, calibration: evaluation.Calibration | None, run: str, far: float | None
) -> None:
    """Draws the similarity under one run, with the verdict and where it lies among the pairs."""
    left, right = st.columns([1, 2])
    angle = np.degrees(np.arccos(np.clip(similarity, -1, 1)))
    left.metric(
        "Similarity (cosine)",
        f"{similarity:.3f}",
        f"{angle:.1f}° apart",
        delta_color="off",
        delta_arrow="off",
    )
    if calibration is None:
        left.caption(
            "This run has no calibration of that name and no result for its pairs, so there is no "
            "threshold to compare this similarity with."
        )
        return
    verdict = calibration.verdict(similarity, far)
    left.markdown(f"**{verdict.decision}** {verdict.at_threshold}  \n{verdict.at_similarity}")
    with right:
        figure = plots.pair_similarity(calibration.result, similarity, run, verdict.threshold)
        chart(figure, f"pair-{run}")


def _say_what_it_rests_on(run: runs.Run, calibration: evaluation.Calibration) -> None:
    """Draws what the verdict was calibrated on, with a warning if that is rendered people."""
    st.caption(f"Calibrated on {calibration.description()}.")
    if sentences := evaluation.caveats(run, calibration):
        draw = st.warning if calibration.pictures == "rendered" else st.info
        draw(" ".join(sentences), icon=":material/warning:")


def _calibrations(selection: Selection) -> dict[str, evaluation.Calibration]:
    """Draws the choice of the calibration, and returns it for each run that has it."""
    options: dict[str, None] = {}
    for run in selection.chosen:
        options |= dict.fromkeys(evaluation.calibration_names(run, selection.benchmark))
    if not options:
        st.info(
            "The selected runs have no pairs to compare the similarity with. In a terminal:",
            icon=":material/terminal:",
        )
        folder = selection.chosen[0].path
        st.code(f"workbench calibrate {folder} aligned:folder:PHOTOS", language="bash")
        return {}
    first = next(iter(options))
    name = st.selectbox(
        "Calibration",
        options,
        key="calibration",
        bind="query-params",
        help="The pairs with which the similarity is compared. `workbench calibrate RUN "
        "aligned:folder:PHOTOS` adds one of your own photos.",
    )
    name = name or first
    having = [run for run in selection.chosen if name in evaluation.calibration_names(run)]
    return collect(having, lambda run: loading.calibration(run, name))


def _far(calibrations: Mapping[str, evaluation.Calibration]) -> float | None:
    """Draws the choice of the false accept rate; None stands for the fewest errors."""
    fars = sorted({far for one in calibrations.values() for far in one.fars}, reverse=True)
    supported = [far for far in fars if all(far in one.fars for one in calibrations.values())]
    if not supported:
        return None
    words = {f"FAR {percent(far)}": far for far in supported}
    choice = st.segmented_control(
        "Threshold",
        [FEWEST_ERRORS, *words],
        default=FEWEST_ERRORS,
        key="threshold",
        bind="query-params",
        help="The threshold that makes the fewest errors on the pairs of the calibration, or one "
        "that accepts this share of its impostor pairs.",
    )
    return words.get(choice or FEWEST_ERRORS)


def _of_benchmark(
    selection: Selection, results: Mapping[str, evaluation.VerificationResult]
) -> dict[str, evaluation.Calibration]:
    """Returns the results on the benchmark of the sidebar as calibrations."""
    name = selection.benchmark
    having = [run for run in selection.chosen if run.name in results]
    if name is None:
        return {}
    return collect(having, lambda run: loading.calibration(run, name))


def _uploaded() -> tuple[Photo, Photo] | None:
    """Draws two upload boxes and returns the photos; None until there are two."""
    st.markdown(
        "The networks expect a face that fills the picture, upright, with eyes and mouth where "
        "the training images have them. **align** finds the face and brings it there; **crop** "
        "cuts out its box without rotating it. Photos stay on the machine that runs "
        "this dashboard and are not stored."
    )
    how = st.segmented_control(
        "Prepare", [ALIGN, CROP, AS_IT_IS], default=ALIGN, key="prepare", bind="query-params"
    )
    photos = []
    for column, label in zip(st.columns(2), ("First photo", "Second photo"), strict=True):
        with column:
            photos.append(upload(label, how or ALIGN))
    first, second = photos
    return None if first is None or second is None else (first, second)


def _picked(
    selection: Selection, results: dict[str, evaluation.VerificationResult]
) -> tuple[Photo, Photo] | None:
    """Draws a pair of the benchmark that the user picks, and returns its images.

    The hardest pairs are those whose scores under the first run are furthest on the wrong side.
    """
    run = next((run for run in selection.chosen if run.name in results), None)
    if run is None or selection.benchmark is None:
        st.info("Choose a benchmark of pairs in the sidebar.")
        return None
    result = results[run.name]
    try:
        benchmark = loading.benchmark_of(run, selection.benchmark)
        if not isinstance(benchmark, data.Benchmark):
            raise WorkbenchError(f"{selection.benchmark}: has no pairs of single pictures")
        if not np.array_equal(benchmark.same, result.same):
            raise WorkbenchError(
                f"{selection.benchmark} is no longer what {run.name} was evaluated on"
            )
        number = _choose_pair(result, run)
        first, second = (benchmark.images[int(image)] for image in benchmark.pairs[number])
    except WorkbenchError as error:
        st.warning(f"The benchmark's pictures cannot be shown: {error}", icon=":material/warning:")
        return None
    with st.container(horizontal=True):
        st.image(images.fit(first, (SIDE, SIDE)), caption=f"pair {number}, first image", width=SIDE)
        st.image(
            images.fit(second, (SIDE, SIDE)), caption=f"pair {number}, second image", width=SIDE
        )
    return Photo(first), Photo(second)


def _choose_pair(result: evaluation.VerificationResult, run: runs.Run) -> int:
    """Returns the number of the pair that the user picks."""
    row = st.container(horizontal=True)
    kind = row.segmented_control(
        "Kind", ["genuine", "impostor"], default="genuine", key="kind", bind="query-params"
    )
    order = row.segmented_control(
        "Order",
        ["hardest first", "as listed"],
        default="hardest first",
        key="order",
        bind="query-params",
        help=f"By the scores of {run.name}.",
    )
    genuine = kind != "impostor"
    numbers = np.flatnonzero(result.same == genuine)
    if order != "as listed":
        scores = result.scores[numbers]
        numbers = numbers[np.argsort(scores if genuine else -scores, kind="stable")]
    rank = row.number_input("Pair", 1, len(numbers), 1, key="pair", bind="query-params", width=160)
    return int(numbers[int(rank) - 1])
