"""Calibrations: the scores of pairs with which the similarity of two photos is compared.

A similarity alone says little. A calibration says how many pairs of two people look at least as
alike, and how many pairs of one person look less alike. These shares hold for photos like those of
the calibration. `workbench calibrate` stores a calibration in a run; an evaluation on pairs serves
as one, too. This module does not import torch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from workbench import data
from workbench.arrays import Bools
from workbench.errors import WorkbenchError, unknown_name
from workbench.evaluation.intervals import Groups, groups_of, proportion_interval, standard_error
from workbench.evaluation.protocol import of_two_photos
from workbench.evaluation.results import is_stale, load_result, model_step
from workbench.evaluation.verification import FARS, VerificationResult
from workbench.runs import Run

Pictures = Literal["photos", "rendered"]
"""What the images of a calibration are: photos of real people, or rendered images."""
PICTURES: tuple[Pictures, ...] = get_args(Pictures)
RENDERED_SOURCE = "synthfaces"
"""Beginning of the names of the data sets and benchmarks whose images are rendered."""


class Share(NamedTuple):
    """A share of pairs, with its 95 % interval.

    Attributes:
        value: the share, from 0 to 1.
        low: lower limit of the interval.
        high: upper limit of the interval.
    """

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{percent(self.value)} [{percent(self.low)}, {percent(self.high)}]"


@dataclass(frozen=True)
class Verdict:
    """The similarity of two photos, compared with a calibration.

    Attributes:
        similarity: cosine of the two embeddings.
        threshold: similarity from which two photos are accepted as showing the same person.
        far: share of the impostor pairs of the calibration that the threshold accepts.
        tar: share of the genuine pairs that the threshold accepts.
        impostors_above: share of the impostor pairs that are at least as similar.
        genuine_below: share of the genuine pairs that are less similar.
        calibration: name of the calibration.
    """

    similarity: float
    threshold: float
    far: float
    tar: float
    impostors_above: Share
    genuine_below: Share
    calibration: str

    @property
    def accepted(self) -> bool:
        """Whether the similarity reaches the threshold."""
        return self.similarity >= self.threshold

    @property
    def decision(self) -> str:
        """The decision in words."""
        return "accepted as the same person" if self.accepted else "rejected"

    @property
    def at_threshold(self) -> str:
        """The threshold and its error rates, as the end of a sentence."""
        return (
            f"at the threshold {self.threshold:.3f}, which on {self.calibration} accepts "
            f"{self.far:.1%} of the impostor and {self.tar:.1%} of the genuine pairs."
        )

    @property
    def at_similarity(self) -> str:
        """The shares of pairs beyond the similarity, in a sentence."""
        return (
            f"{self.impostors_above} of its impostor pairs look at least as alike; "
            f"{self.genuine_below} of its genuine pairs look less alike."
        )


@dataclass(frozen=True)
class Calibration:
    """The scores of pairs under one run, with which the similarity of two photos is compared.

    Attributes:
        result: the scores, which are cosines.
        benchmark: spec of the pairs.
        pictures: "photos" or "rendered".
        created: date and time at which the scores were computed, in ISO 8601.
        step: training step of the model; None if unknown.
        fingerprint: fingerprint of the pairs.
    """

    result: VerificationResult
    benchmark: str
    pictures: Pictures
    created: str
    step: int | None
    fingerprint: str

    @property
    def name(self) -> str:
        """Name of the calibration."""
        return self.result.name

    @property
    def people(self) -> int | None:
        """Number of people on the pairs; None if unknown."""
        return self._groups.people

    @property
    def fars(self) -> list[float]:
        """Those usual FARs at which at least 10 false accepts are expected."""
        return [far for far in FARS if self.result.supported(far)]

    def threshold(self, far: float) -> float:
        """Return the lowest threshold that accepts no larger share of the impostor pairs.

        Args:
            far: false accept rate, in (0, 1].

        Raises:
            WorkbenchError: if the rate is out of range, or if fewer than 10 false accepts are
                expected at this rate.
        """
        if not 0 < far <= 1:
            raise WorkbenchError(f"a false accept rate is above 0 and at most 1, got {far:g}")
        if not self.result.supported(far):
            lowest = min(10 / self.result.impostors, 1.0)
            raise WorkbenchError(
                f"{self.name}: has {self.result.impostors:,} impostor pairs, too few for a false "
                f"accept rate of {far:g}; the rate must be at least {lowest:.2g}, at which 10 "
                "false accepts are expected"
            )
        curve = self.result.roc
        # The tolerance for rounding is that of `tar_at`.
        point = int(np.searchsorted(curve.far, far * (1 + 1e-9), side="right")) - 1
        return float(curve.thresholds[point])

    def verdict(self, similarity: float, far: float | None = None) -> Verdict:
        """Compare the similarity of two photos with the pairs.

        Args:
            similarity: cosine of the two embeddings, to which those of the mirrored images are
                added.
            far: false accept rate that determines the threshold. By default, the threshold is the
                one with the fewest errors on the pairs.

        Returns:
            The decision, and the shares of pairs beyond the similarity.

        Raises:
            WorkbenchError: if the similarity is not finite, or as `threshold` does.
        """
        if not np.isfinite(similarity):
            raise WorkbenchError(f"the similarity of two photos must be finite, got {similarity}")
        threshold = self.result.threshold if far is None else self.threshold(far)
        false_accepts, true_accepts = self.result.rates_at(threshold)
        scores, same = self.result.scores, self.result.same
        return Verdict(
            similarity=similarity,
            threshold=threshold,
            far=false_accepts,
            tar=true_accepts,
            impostors_above=self._share(scores >= similarity, ~same),
            genuine_below=self._share(scores < similarity, same),
            calibration=self.name,
        )

    @cached_property
    def _groups(self) -> Groups:
        return groups_of(self.result.same, self.result.folds, self.result.people)

    def _share(self, hit: Bools, among: Bools) -> Share:
        """Compute the share of some pairs that are hit, with a jackknife over groups of people.

        If all or none are hit, the interval is that of Clopper and Pearson for the number of
        people, or of pairs where people are unknown.
        """
        kept = ~self._groups.left_out & among  # (G, P)
        with np.errstate(invalid="ignore"):  # 0 / 0 where a group leaves no pair
            without = (kept & hit).sum(axis=1) / kept.sum(axis=1)
        value = float(hit[among].mean())
        people, pairs = self.result.people, int(among.sum())
        units = pairs if people is None else len(np.unique(people[among]))
        low, high = proportion_interval(
            value, standard_error(without), self._groups.degrees_of_freedom, units, pairs
        )
        return Share(value, float(low), float(high))

    def description(self) -> str:
        """Return the pairs, the people and the date in words."""
        same = self.result.same
        people = "" if self.people is None else f" of {self.people:,} people"
        pictures = "photos" if self.pictures == "photos" else "rendered images"
        return (
            f"{int(same.sum()):,} genuine and {self.result.impostors:,} impostor pairs of "
            f"{pictures}{people}, {self.benchmark}, {self.created[:10]}"
        )

    def figures(self) -> dict[str, Any]:
        """What is stored in the .json file."""
        same = self.result.same
        return {
            "benchmark": self.benchmark,
            "pictures": self.pictures,
            "created": self.created,
            "step": self.step,
            "fingerprint": self.fingerprint,
            "genuine": int(same.sum()),
            "impostors": self.result.impostors,
            "people": self.people,
            "thresholds": {f"{far:g}": self.threshold(far) for far in self.fars},
            "note": self.result.note,
            "protocol": self.result.protocol,
            **self.result.figures(),
        }

    @classmethod
    def from_stored(
        cls, name: str, figures: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]
    ) -> Calibration:
        """Build a calibration from what is stored of it."""
        result = VerificationResult.from_stored(figures, arrays).annotated(
            name=name, note=str(figures["note"]), protocol=dict(figures["protocol"])
        )
        step = figures["step"]
        return cls(
            result=result,
            benchmark=str(figures["benchmark"]),
            pictures=check_pictures(figures["pictures"]),
            created=str(figures["created"]),
            step=None if step is None else int(step),
            fingerprint=str(figures["fingerprint"]),
        )


def percent(share: float) -> str:
    """Return a share in percent, with one decimal from 1 % on, and else with two digits.

    Example:
        >>> percent(0.0123), percent(0.000123), percent(0.0)
        ('1.2%', '0.012%', '0%')
    """
    return f"{share:.1%}" if share >= 0.01 else f"{share * 100:.2g}%"


def check_pictures(value: str) -> Pictures:
    """Check what the images of a calibration are.

    Raises:
        WorkbenchError: if it is neither "photos" nor "rendered".
    """
    for known in PICTURES:
        if value == known:
            return known
    raise unknown_name("kind of pictures", value, PICTURES)


def pictures_of(spec: str) -> Pictures:
    """Return what the images of a data set or benchmark are, as far as its name tells.

    Args:
        spec: spec of the data set or benchmark.

    Returns:
        "rendered" for synthetic faces, and "photos" for everything else.

    Example:
        >>> pictures_of("synthfaces-pose"), pictures_of("aligned:folder:photos")
        ('rendered', 'photos')
    """
    kinds = [part.kind for part in data.parts(data.unprepared(spec))]
    return "rendered" if all(kind.startswith(RENDERED_SOURCE) for kind in kinds) else "photos"


def load_calibration(run: Run, name: str) -> Calibration:
    """Read a calibration of a run, or an evaluation that serves as one.

    Args:
        run: run directory.
        name: name of a stored calibration, or else of an evaluation on pairs.

    Returns:
        The calibration.

    Raises:
        WorkbenchError: if the run has neither, if it is damaged, if the run was trained further
            since a calibration, or if the scores of an evaluation cannot be compared with those of
            two photos.
    """
    if name in run.calibrations():
        return _load_stored(run, name)
    if name not in run.evaluations():
        known = dict.fromkeys([*run.calibrations(), *run.evaluations()])
        raise unknown_name(f"calibration of run {run.name}", name, known)
    result = load_result(run, name)
    if not isinstance(result, VerificationResult):
        raise WorkbenchError(
            f"{name} {result.description}, so it has no scores to compare two photos with; use "
            "a calibration or a benchmark of pairs"
        )
    comparable = of_two_photos(result)
    if comparable is None:
        raise WorkbenchError(
            f"scores of the protocol {result.protocol.get('protocol')} are not cosines of two "
            f"photos, so {name} is no calibration; use workbench calibrate {run.path} BENCHMARK"
        )
    figures = run.figures(name)
    spec = str(figures.get("benchmark", name))
    return Calibration(
        result=comparable,
        benchmark=spec,
        pictures=pictures_of(spec),
        created=str(figures.get("created", "")),
        step=figures.get("step"),
        fingerprint=str(figures.get("fingerprint", "")),
    )


def _load_stored(run: Run, name: str) -> Calibration:
    figures, arrays = run.calibration(name)
    if is_stale(run, figures):
        raise WorkbenchError(
            f"{run.name}: was trained to step {model_step(run)} since its calibration {name} at "
            f"step {figures['step']}; run workbench calibrate again"
        )
    try:
        return Calibration.from_stored(name, figures, arrays)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise WorkbenchError(
            f"{run.path}, calibration {name!r}: damaged ({reason}); run `workbench calibrate` again"
        ) from None


def calibration_names(run: Run, preferred: str | None = None) -> list[str]:
    """Return what the similarity of two photos can be compared with, the most suitable first.

    Args:
        run: run directory.
        preferred: name of the evaluation that comes before the others of its kind.

    Returns:
        Names of calibrations and of evaluations on pairs: first those of photos, then those of
        rendered images; in both, calibrations come before evaluations.
    """
    pictures: dict[str, str] = {}
    for name in run.calibrations():
        pictures[name] = str(_figures(run.calibration_figures, name).get("pictures"))
    for name in run.evaluations():
        figures = _figures(run.figures, name)
        # A damaged evaluation is named, too, so that `load_calibration` says what is wrong with it.
        if not figures or figures.get("kind") == VerificationResult.kind:
            pictures.setdefault(name, pictures_of(str(figures.get("benchmark", name))))
    stored = run.calibrations()
    return sorted(
        pictures,
        key=lambda name: (pictures[name] == "rendered", name not in stored, name != preferred),
    )


def caveats(run: Run, calibration: Calibration) -> list[str]:
    """Say what a verdict on two photos of real people rests on, where that is rendered people.

    Args:
        run: run directory.
        calibration: calibration of the verdict.

    Returns:
        Sentences; none if the calibration is of photos and the run was not trained on rendered
        people.
    """
    sentences = []
    if calibration.pictures == "rendered":
        sentences.append(
            f"This verdict rests on rendered people: {calibration.name} contains no photo of a "
            "real person, so the error rates do not hold for photos."
        )
    trained_on = str(run.config.get("data", ""))
    if trained_on and pictures_of(trained_on) == "rendered":
        sentences.append(f"The network was trained on rendered people{_on_photos(run)}.")
    if calibration.pictures == "rendered":
        sentences.append(
            "To calibrate it on photos of people that you know: "
            f"workbench calibrate {run.path} aligned:folder:PHOTOS, where PHOTOS has one folder "
            "for each person."
        )
    return sentences


def _on_photos(run: Run) -> str:
    """Return the accuracies of a run on pairs of photos, as the end of a sentence."""
    reached = [
        f"{figures['accuracy']:.1%} ({name})"
        for name, figures in _of_pairs(run)
        if pictures_of(str(figures.get("benchmark", name))) == "photos" and "accuracy" in figures
    ]
    if not reached:
        return " and has not been evaluated on pairs of photos"
    return f"; its accuracy on pairs of photos is {', '.join(reached)}"


def _of_pairs(run: Run) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the names and figures of the evaluations on pairs; damaged ones are left out."""
    for name in run.evaluations():
        figures = _figures(run.figures, name)
        if figures.get("kind") == VerificationResult.kind:
            yield name, figures


def _figures(read: Callable[[str], dict[str, Any]], name: str) -> dict[str, Any]:
    """Return the figures under a name; empty if their file is damaged."""
    try:
        return read(name)
    except WorkbenchError:
        return {}
