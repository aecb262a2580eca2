"""`synthfaces-pose` and others: benchmarks of synthetic people who are in no training set.

The truth about every image is known. This makes benchmarks possible that can hardly be made from
photos: all pairs across one condition, images that differ in one factor only, and distractors who
are certainly not enrolled. `synthfaces-pose:seed=7` has other people: settings can be chosen on
them before results are reported on those of `synthfaces-pose`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from workbench.data.benchmark import Attributes, Benchmark, Identification, draw_pairs
from workbench.data.dataset import Dataset, Joined
from workbench.data.registry import BENCHMARKS
from workbench.data.rendered.store import RenderSettings
from workbench.data.rendered.synthfaces import LARGEST_SEED, PRESETS, SETS, faces, open_set
from workbench.errors import WorkbenchError

FOLDS, PER_FOLD = 10, 300
PEOPLE, IMAGES = 100, 12
SWEPT = 60
"""Number of people of the invariance benchmark."""
ENROLLED, PROBES, DISTRACTORS, FIRST_DISTRACTOR = 100, 5, 1000, 100_000
"""Sizes of the identification benchmark: enrolled people, probes of each, distractors, and the
number of the first distractor, counted from the first person of all benchmarks."""
STRANGERS = "synthetic people whom no training set holds"


class Drawn(NamedTuple):
    """Pairs: (P, 2) image indices, (P,) whether each is genuine, and (P,) its fold."""

    pairs: NDArray[np.int64]
    same: NDArray[np.bool_]
    folds: NDArray[np.int64]


def cross_pairs(
    people: int, images: int, folds: int = FOLDS, per_fold: int = PER_FOLD, seed: int = 0
) -> Drawn:
    """Draw pairs across a condition.

    The first half of each person's images has one value of the condition and the second half
    another. In genuine and in impostor pairs alike, the first image comes from a first half and the
    second image from a second half, so that the condition does not tell them apart. Within a fold,
    the numbers of genuine pairs of any two people differ by at most one, and so do the numbers of
    impostor pairs of any two couples. No pair is drawn twice, and no person is in two folds.

    Args:
        people: Number of people. Image i shows person i // images.
        images: Number of images of each person, an even number.
        folds: Number of folds.
        per_fold: Number of genuine pairs in a fold, and of impostor pairs.
        seed: Seed of the draw.

    Returns:
        The pairs, with `folds * per_fold` genuine and as many impostor pairs.

    Raises:
        WorkbenchError: If there are too few people or images for that many pairs.
    """
    rng = np.random.default_rng(seed)
    half, fewest = images // 2, people // folds
    if images % 2 or per_fold > half**2 * min(fewest, fewest * (fewest - 1)):
        raise WorkbenchError(
            f"{people} people with {images} images are too few for {folds} folds of {per_fold} "
            "genuine and as many impostor pairs"
        )
    pairs = []
    for members in np.array_split(rng.permutation(people), folds):
        couples = np.array([(a, b) for i, a in enumerate(members) for b in members[i + 1 :]])
        person, option = _evenly(rng, len(members), half**2, per_fold)
        genuine = np.stack([members[person], members[person]], axis=1)
        pairs.append(genuine * images + _one_of_each_half(option, half))
        # In the second half of a couple's options the two people change places.
        couple, option = _evenly(rng, len(couples), 2 * half**2, per_fold)
        turned = (option >= half**2)[:, None]
        impostor = np.where(turned, couples[couple][:, ::-1], couples[couple])
        pairs.append(impostor * images + _one_of_each_half(option % half**2, half))
    same = np.tile(np.repeat([True, False], per_fold), folds)
    return Drawn(np.concatenate(pairs), same, np.repeat(np.arange(folds), 2 * per_fold))


def _evenly(
    rng: np.random.Generator, groups: int, options: int, count: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Draw `count` different (group, option); counts of any two groups differ by at most one."""
    rounds = -(-count // groups)
    group = np.concatenate([rng.permutation(groups) for _ in range(rounds)])[:count]
    order = np.argsort(rng.random((groups, options)), axis=1)
    return group, order[group, np.repeat(np.arange(rounds), groups)[:count]]


def _one_of_each_half(option: NDArray[np.int64], half: int) -> NDArray[np.int64]:
    return np.stack([option // half, half + option % half], axis=1)


def sweep_pairs(people: int, images: int, folds: int = FOLDS) -> Drawn:
    """Pairs of reference images, which are the first of each person, with all other images.

    A genuine pair is the reference of a person with another image of this person. An impostor pair
    is the reference of another person of the same fold with that image.

    Args:
        people: Number of people, a multiple of `folds`. Image i shows person i // images.
            Consecutive people are in one fold.
        images: Number of images of each person.
        folds: Number of folds.

    Returns:
        The pairs, one for each other image and each person of its fold.
    """
    a_fold = people // folds
    image = np.array([number for number in range(people * images) if number % images])
    person = image // images
    reference = person[:, None] // a_fold * a_fold + np.arange(a_fold)  # everybody of the fold
    pairs = np.stack(
        [reference * images, np.broadcast_to(image[:, None], reference.shape)], axis=-1
    )
    return Drawn(
        pairs.reshape(-1, 2),
        (reference == person[:, None]).ravel(),
        np.repeat(person // a_fold, a_fold),
    )


# From a rendered set to a benchmark


def any_pictures(dataset: Dataset) -> Benchmark:
    """Pairs of any two images, as in LFW."""
    drawn = draw_pairs(dataset, FOLDS, PER_FOLD)
    return replace(
        drawn,
        note=f"{dataset.num_identities} {STRANGERS}; {drawn.note}",
        attributes=_columns(dataset),
    )


def across(condition: str) -> Callable[[Dataset], Benchmark]:
    """Pairs of an image from the first half of the album with one from the second half."""

    def build(dataset: Dataset) -> Benchmark:
        drawn = cross_pairs(dataset.num_identities, len(dataset) // dataset.num_identities)
        note = (
            f"{dataset.num_identities} {STRANGERS}; "
            f"each pair, genuine or impostor, is {condition}; "
            "folds with disjoint identities"
        )
        return _benchmark(dataset, drawn, note)

    return build


def one_factor(dataset: Dataset) -> Benchmark:
    """Pairs of each person's reference image with images that differ from it in one factor."""
    drawn = sweep_pairs(dataset.num_identities, len(dataset) // dataset.num_identities)
    note = (
        f"{dataset.num_identities} {STRANGERS}; genuine pairs are a person's reference image "
        "(frontal, 30 years, soft light, nothing covered) with one that differs in one factor, "
        "impostor pairs are that image with the references of other people of the fold; "
        f"rejecting every pair would be right in {1 - drawn.same.mean():.0%}"
    )
    return _benchmark(dataset, drawn, note)


def attributes(dataset: Dataset) -> Attributes:
    """All images, whose gender, age and other attributes are estimated."""
    columns = {name: dataset.attributes[name] for name in _columns(dataset)}
    note = f"{dataset.num_identities} {STRANGERS}"
    return Attributes(replace(dataset, attributes=columns), note)


def identification(known: Dataset, strangers: Dataset) -> Identification:
    """Enrol the first image of each known person; their other images are the probes.

    The images of the strangers are the distractors.
    """
    number = np.arange(len(known) + len(strangers))
    probes, distractors = number % (len(known) // known.num_identities) > 0, number >= len(known)
    columns, others = _columns(known), _columns(strangers)
    return Identification(
        known.name,
        Joined((known.images, strangers.images)),
        np.concatenate([known.identities, known.num_identities + strangers.identities]),
        number[~probes & ~distractors],
        number[probes & ~distractors],
        number[distractors],
        (*known.identity_names, *strangers.identity_names),
        f"{known.num_identities} {STRANGERS}, each enrolled with one image, "
        f"among {strangers.num_identities:,} strangers",
        {key: np.concatenate([columns[key], others[key]]) for key in columns},
    )


def _benchmark(dataset: Dataset, drawn: Drawn, note: str) -> Benchmark:
    names, columns = tuple(dataset.identity_names), _columns(dataset)
    return Benchmark(dataset.name, dataset.images, *drawn, dataset.identities, names, note, columns)


def _columns(dataset: Dataset) -> dict[str, NDArray[Any]]:
    """The attributes with one value for each image, which are all except the landmarks."""
    columns = {key: np.asarray(column) for key, column in dataset.attributes.items()}
    return {key: column for key, column in columns.items() if column.ndim == 1}


# Registration under their names


def _register(
    name: str,
    settings: Callable[[], tuple[RenderSettings, ...]],
    build: Callable[..., Attributes | Benchmark | Identification],
) -> Callable[[str], Attributes | Benchmark | Identification]:
    def settings_of(path: str = "") -> tuple[RenderSettings, ...]:
        seed = _seed(name, path)
        return tuple(replace(one, seed=seed) for one in settings())

    def open_benchmark(path: str = "") -> Attributes | Benchmark | Identification:
        sets = settings_of(path)
        seed = sets[0].seed
        spec, full_name = (f"{name}:seed={seed}", f"{name}-seed{seed}") if seed else (name, name)
        return build(*(open_set(one, full_name, spec) for one in sets))

    SETS.register(name)(settings_of)
    BENCHMARKS.register(name)(open_benchmark)
    return open_benchmark


def _seed(name: str, path: str) -> int:
    """The seed of a benchmark's people from the text after the colon of its spec."""
    if not path:
        return RenderSettings.seed
    match = re.fullmatch("seed=([0-9]{1,10})", path)
    if match is None or int(match[1]) > LARGEST_SEED:
        raise WorkbenchError(
            f"{name}:{path[:40]}: the only option of this benchmark is seed=N with N from 0 to "
            f"{LARGEST_SEED:,}, which gives other people; without it the benchmark is {name!r}"
        )
    return int(match[1])


def _people(people: int, images: int, album: str, first: int = 0) -> RenderSettings:
    return RenderSettings(
        people, images, album, first=faces().TEST_PEOPLE + first, renderer=faces().__name__
    )


def _album(album: str) -> Callable[[], tuple[RenderSettings, ...]]:
    return lambda: (_people(PEOPLE, IMAGES, album),)


_open_wild = _register("synthfaces-wild", _album("wild"), any_pictures)
_register("synthfaces-attributes", _album("wild"), attributes)
_register("synthfaces-frontal", _album("frontal"), any_pictures)
_register("synthfaces-pose", _album("pose"), across("a frontal image with a profile"))
_register("synthfaces-age", _album("age"), across("an image at a young age with one at an old age"))
_register(
    "synthfaces-light",
    _album("light"),
    across("an image in soft light from the front with one in hard light from the side"),
)
_register(
    "synthfaces-occlusion",
    _album("occlusion"),
    across("an image of the whole face with one of a covered face"),
)
_register(
    "synthfaces-invariance",
    lambda: (_people(SWEPT, faces().INVARIANCE_IMAGES, "invariance"),),
    one_factor,
)
_register(
    "synthfaces-id",
    lambda: (
        _people(ENROLLED, 1 + PROBES, "wild"),
        _people(DISTRACTORS, 1, "wild", FIRST_DISTRACTOR),
    ),
    identification,
)


def _register_preset(kind: str) -> None:
    def open_strangers(path: str = "") -> Attributes | Benchmark | Identification:
        if path:
            benchmarks = ", ".join(name for name in SETS.names() if name not in PRESETS)
            raise WorkbenchError(
                f"{kind}:{path[:40]}: this is a training set; measure on {benchmarks}"
            )
        return _open_wild("")

    BENCHMARKS.register(kind)(open_strangers)


for (
    _kind
) in PRESETS:  # a training set's name as a benchmark means people who are not in it, as with `orl`
    _register_preset(_kind)
