"""Benchmarks without the images that cannot be read: what needs such an image is left out with it, and counted."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import overload

import numpy as np
from numpy.typing import NDArray
from tqdm.auto import tqdm

from workbench.data.benchmark import Benchmark, Identification
from workbench.data.dataset import Images, image_name, where_and_why
from workbench.data.templates import Templates
from workbench.errors import WorkbenchError, printable

MOST_NAMED = 3
Reduced = Benchmark | Identification | Templates


@dataclass(frozen=True)
class LeftOut:
    """What is missing from a figure.

    Attributes:
        images: {number: (where, reason)} of the images that cannot be read.
        of: how many were looked at.
        parts: {"pairs": (left out, of how many), ...}, what went with them.
    """

    images: Mapping[int, tuple[str, str]] = field(default_factory=dict)
    of: int = 0
    parts: Mapping[str, tuple[int, int]] = field(default_factory=dict)

    @property
    def numbers(self) -> NDArray[np.int64]:
        """(n,) numbers of the images, ascending."""
        return np.array(sorted(self.images), dtype=np.int64)

    def __str__(self) -> str:
        """For people; empty where nothing is left out."""
        if not self.images:
            return ""
        names = [where for where, _ in self.images.values()]
        rest = f" and {len(names) - MOST_NAMED:,} more" if len(names) > MOST_NAMED else ""
        told = f"{len(names):,} of {self.of:,} images, which cannot be read ({', '.join(names[:MOST_NAMED])}{rest})"
        return told + "".join(
            f", {lost:,} of {count:,} {what}" for what, (lost, count) in self.parts.items()
        )


def find_unreadable(
    reader: Images, numbers: NDArray[np.int64], title: str = ""
) -> dict[int, tuple[str, str]]:
    """Read images, to find those that cannot be.

    Args:
        reader: images.
        numbers: of those wanted.
        title: of a progress bar; none if empty.

    Returns:
        {number: (where, reason)}.

    Raises:
        WorkbenchError: half of them or more cannot be read.
    """
    found = {}
    for number in tqdm(
        numbers.tolist(), desc=title, unit="image", disable=not title, dynamic_ncols=True
    ):
        try:
            _ = reader[number]
        except WorkbenchError as error:
            found[number] = where_and_why(printable(image_name(reader, number)), str(error))
    if found and len(found) >= len(numbers) / 2:
        where, reason = next(iter(found.values()))
        raise WorkbenchError(
            f"{len(found):,} of {len(numbers):,} images cannot be read, too many to leave out; the first is {where}: {reason}"
        )
    return found


@overload
def without(target: Benchmark, unreadable: Collection[int]) -> Benchmark: ...


@overload
def without(target: Reduced, unreadable: Collection[int]) -> Reduced: ...


def without(target: Reduced, unreadable: Collection[int]) -> Reduced:
    """A benchmark without whatever needs one of these images; all images keep their numbers.

    Pairs with such an image are left out. So are images of a gallery, distractors, and probes, also those whose person nobody
    in the gallery is any longer. A template keeps its other images; without any, its pairs are left out.

    Args:
        target: benchmark.
        unreadable: numbers of images.

    Raises:
        WorkbenchError: half of the pairs of a kind, or of a part of an identification, or more are lost.
    """
    lost = np.array(sorted(unreadable), dtype=np.int64)
    if not len(lost):
        return target
    if isinstance(target, Identification):
        return _smaller_identification(target, lost)
    if isinstance(target, Templates):
        templates = target.templates.copy()
        templates[lost] = target.templates.min() - 1  # a number that is in no pair
        kept = np.asarray(np.isin(target.pairs, templates).all(axis=1))
        _check_pairs(target, kept)
        return replace(
            target, templates=templates, pairs=target.pairs[kept], same=target.same[kept]
        )
    kept = ~np.asarray(np.isin(target.pairs, lost).any(axis=1))
    _check_pairs(target, kept)
    return replace(
        target, pairs=target.pairs[kept], same=target.same[kept], folds=target.folds[kept]
    )


def lost_parts(whole: Reduced, reduced: Reduced) -> dict[str, tuple[int, int]]:
    """{"pairs": (left out, of how many)}, or the same of gallery, probes and distractors."""
    names = (
        ("gallery", "probes", "distractors") if isinstance(whole, Identification) else ("pairs",)
    )
    counts = {name: (len(getattr(whole, name)), len(getattr(reduced, name))) for name in names}
    return {name: (before - after, before) for name, (before, after) in counts.items()}


def _smaller_identification(target: Identification, lost: NDArray[np.int64]) -> Identification:
    gallery, probes, distractors = (
        numbers[~np.isin(numbers, lost)]
        for numbers in (target.gallery, target.probes, target.distractors)
    )
    probes = probes[np.isin(target.identities[probes], target.identities[gallery])]
    _check_kept(target.name, "images of the gallery", len(gallery), len(target.gallery))
    _check_kept(target.name, "probes", len(probes), len(target.probes))
    _check_kept(target.name, "distractors", len(distractors), len(target.distractors))
    return replace(target, gallery=gallery, probes=probes, distractors=distractors)


def _check_pairs(target: Benchmark | Templates, kept: NDArray[np.bool_]) -> None:
    for kind, of_kind in (("genuine", target.same), ("impostor", ~target.same)):
        _check_kept(target.name, f"{kind} pairs", int((kept & of_kind).sum()), int(of_kind.sum()))


def _check_kept(name: str, what: str, kept: int, count: int) -> None:
    """Figures on a rest are no figures of the benchmark."""
    if count and kept <= count / 2:
        raise WorkbenchError(
            f"{name}: of {count:,} {what} only {kept:,} are left without the images that cannot be read; more than half are needed"
        )
