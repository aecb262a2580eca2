"""The page of two photos: their similarity under each run, and the error rates at that score."""

from __future__ import annotations

import numpy as np
import streamlit as st

from workbench import data, evaluation, images, plots, runs
from workbench.dashboard import loading
from workbench.dashboard.loading import Selection
from workbench.dashboard.views import estimates
from workbench.dashboard.views.parts import chart, protocol, verification_results
from workbench.dashboard.views.uploads import ALIGN, AS_IT_IS, CROP, SIDE, Photo, upload
from workbench.errors import WorkbenchError
from workbench.evaluation.protocol import of_two_photos


def show(selection: Selection) -> None:
    """Draws the page."""
    st.title("Two photos")
    results = verification_results(selection, of_two_photos)
    upload, pick = "Upload two photos", "Pick a pair from the benchmark"
    source = st.radio(
        "Photos",
        [upload, pick],
        key="photos",
        bind="query-params",
        horizontal=True,
        label_visibility="collapsed",
    )
    pair = _uploaded() if source == upload else _picked(selection, results)
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
        _verdict(similarity, results.get(run.name), selection.benchmark or "", run.name)
        estimates.show(run, model, embeddings)
    protocol(results)


def _verdict(
    similarity: float, result: evaluation.VerificationResult | None, benchmark: str, run: str
) -> None:
    """Draws the similarity under one run, with the verdict and where it lies on the benchmark."""
    left, right = st.columns([1, 2])
    angle = np.degrees(np.arccos(np.clip(similarity, -1, 1)))
    left.metric(
        "Similarity (cosine)",
        f"{similarity:.3f}",
        f"{angle:.1f}° apart",
        delta_color="off",
        delta_arrow="off",
    )
    if result is None:
        left.caption(
            "The chosen benchmark has no result of this run for pairs of photos, so there is no "
            "threshold to compare this similarity with."
        )
        return
    far, tar = result.rates_at(result.threshold)
    verdict = "accepted as the same person" if similarity >= result.threshold else "rejected"
    higher = float((result.scores[~result.same] >= similarity).mean())
    lower = float((result.scores[result.same] < similarity).mean())
    left.markdown(
        f"**{verdict}** at the threshold {result.threshold:.3f}, which on {benchmark} accepts "
        f"{far:.1%} of the impostor and {tar:.1%} of the genuine pairs.  \n"
        f"{higher:.1%} of its impostor pairs look at least as alike; "
        f"{lower:.1%} of its genuine pairs look less alike."
    )
    with right:
        chart(plots.pair_similarity(result, similarity, run), f"pair-{run}")


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
