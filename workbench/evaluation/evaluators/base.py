"""What an evaluator is, and the registry that finds the evaluator for a type of benchmark.

An evaluator defines everything that depends on the type of a benchmark: which images are embedded,
which protocols are refused, and how a result is computed from embeddings. The function `evaluate`
is the same for all types.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Generic, TypeVar
from typing import Protocol as Interface

import numpy as np
from numpy.typing import NDArray

from workbench import data, runs
from workbench.arrays import Bools, Integers
from workbench.errors import WorkbenchError
from workbench.evaluation.angles import Angles
from workbench.evaluation.invariance import Gaps
from workbench.evaluation.kinds import Result
from workbench.evaluation.protocol import Flip, Protocol

if TYPE_CHECKING:
    from workbench.evaluation.model import Model


class Target(Interface):
    """What every benchmark has, whatever its type."""

    @property
    def name(self) -> str:
        """Name for figures and files."""

    @property
    def note(self) -> str:
        """What a reader of the figures must know."""

    @property
    def images(self) -> data.Images:
        """Reader of the images."""

    def fingerprint(self) -> str:
        """Text that changes when the benchmark does."""


T = TypeVar("T", bound=Target)
E = TypeVar("E", bound="type[Evaluator[Any]]")


@dataclass(frozen=True)
class EvaluationContext:
    """The model and the options with which a benchmark is evaluated.

    Attributes:
        run: run directory.
        model: the run's network.
        protocol: how embeddings are compared.
        training_set: function that opens the run's training set; it returns the data set and the
            numbers of its readable images.
        left_out: images of the benchmark that cannot be read.
        batch_size: images per batch.
        bootstrap: resamples for 95 % intervals; 0 for no intervals, except those of closed sets.
        title: beginning of the titles of progress bars; empty for no bars.
    """

    run: runs.Run
    model: Model
    protocol: Protocol
    training_set: Callable[[], tuple[data.Dataset, Integers]]
    left_out: data.LeftOut
    batch_size: int
    bootstrap: int
    title: str

    @property
    def flip(self) -> Flip:
        """How the embedding of the mirror image is used."""
        return self.protocol.flip

    def bar(self, what: str) -> str:
        """Return the title of a progress bar for one step; empty if no bars are shown."""
        return f"{self.title}: {what}" if self.title else ""

    def embed(self, images: data.Images, numbers: Integers, what: str = "") -> NDArray[np.float32]:
        """Embed images.

        Args:
            images: reader of images.
            numbers: (N,) numbers of the images to embed.
            what: what the images are, for the progress bar.

        Returns:
            (N, D) embeddings.
        """
        title = self.bar(what) if what else self.title
        return self.model.embed(images, numbers.tolist(), self.flip, self.batch_size, title)


@dataclass(frozen=True)
class Measurement:
    """A result, with the embeddings from which the angles and the map are computed.

    Attributes:
        result: the result.
        numbers: (N,) numbers of the embedded images.
        embeddings: (N, D) their embeddings.
        labels: (N,) their identities; -1 where unknown.
        identity_names: names of the identities; may be empty.
        angles: angle of every image of the benchmark to class centres; None where no identity is
            known.
        gaps: differences between the two images of each pair; None where they are not known.
    """

    result: Result
    numbers: Integers
    embeddings: NDArray[np.float32]
    labels: Integers
    identity_names: tuple[str, ...] = ()
    angles: Angles | None = None
    gaps: Gaps | None = None


class Evaluator(ABC, Generic[T]):
    """How benchmarks of one type are evaluated; a subclass is decorated with `@evaluates(TYPE)`.

    Only `evaluate` must be defined. The other methods have defaults that fit a benchmark that uses
    all its images and whose protocol has no options but `flip`.
    """

    @abstractmethod
    def evaluate(self, target: T, context: EvaluationContext) -> Measurement:
        """Embed the images and compute the result, with note and protocol but without a name."""

    def check(self, target: T, protocol: Protocol) -> None:
        """Check the benchmark and the protocol before anything is embedded.

        Raises:
            WorkbenchError: if the benchmark cannot be evaluated with this protocol.
        """
        if replace(protocol, flip="add") != Protocol():
            raise WorkbenchError(
                f"{target.name}: protocol {protocol.name} is for benchmarks of pairs; here only "
                "its option flip can be changed"
            )

    def used_images(self, target: T) -> Integers:
        """Return the numbers of the images that are embedded; by default all."""
        return np.arange(len(target.images))

    def stored_bytes(self, target: T, model: Model) -> int:
        """Estimate the disk space that an evaluation needs, in bytes."""
        return 32 * len(target.images)

    def without(
        self, target: T, unreadable: Mapping[int, Any]
    ) -> tuple[T, Mapping[str, tuple[int, int]]]:
        """Remove what needs an unreadable image from the benchmark; all images keep their numbers.

        Returns:
            The reduced benchmark, and {part: (how many are left out, of how many)}.

        Raises:
            WorkbenchError: if too little is left, or images cannot be left out of this type at all.
        """
        if unreadable:
            raise WorkbenchError(
                f"{target.name}: {len(unreadable):,} images cannot be read, and images cannot be "
                f"left out of a {type(target).__name__}; evaluate with broken='stop' to see the "
                "first one"
            )
        return target, {}

    def compared_with_training(self, target: T, spec: str, run: runs.Run) -> T:
        """Compare a benchmark that was opened by name with the run's training data.

        Returns:
            The benchmark, with a note where the run was trained on its images.

        Raises:
            WorkbenchError: if the benchmark makes no sense for the run.
        """
        return target


_EVALUATORS: dict[type, Evaluator[Any]] = {}


def evaluates(benchmark_type: type) -> Callable[[E], E]:
    """Class decorator: register an evaluator for a type of benchmark and its subclasses.

    Args:
        benchmark_type: class of the benchmarks, such as `workbench.data.Benchmark`.
    """

    def decorate(evaluator_type: E) -> E:
        _EVALUATORS[benchmark_type] = evaluator_type()
        return evaluator_type

    return decorate


def evaluator_of(target: Target) -> Evaluator[Any]:
    """Return the evaluator that is registered for the type of a benchmark.

    Raises:
        WorkbenchError: if there is none.
    """
    for benchmark_type in type(target).__mro__:
        if benchmark_type in _EVALUATORS:
            return _EVALUATORS[benchmark_type]
    known = ", ".join(sorted(registered.__name__ for registered in _EVALUATORS))
    raise WorkbenchError(
        f"no evaluator is registered for benchmarks of type {type(target).__name__}; known: {known}"
    )


def check_both_kinds(target: Target, same: Bools) -> None:
    """Check that a benchmark has genuine and impostor pairs.

    Args:
        target: the benchmark.
        same: (P,) True for genuine pairs.

    Raises:
        WorkbenchError: if all pairs are of one kind.
    """
    genuine, count = int(np.count_nonzero(same)), len(same)
    if genuine in (0, count):
        raise WorkbenchError(
            f"{target.name}: {genuine:,} genuine and {count - genuine:,} impostor pairs; "
            "at least one of each is needed"
        )


def among_all(angles: Angles, numbers: Integers, count: int) -> Angles:
    """Extend the angles of some images to all images of a benchmark.

    Args:
        angles: angles of N images.
        numbers: (N,) numbers of these images.
        count: number M of all images.

    Returns:
        Angles of M images, NaN for the others.
    """
    own, other = np.full(count, np.nan), np.full(count, np.nan)
    own[numbers], other[numbers] = angles.own, angles.other
    return Angles(own, other)
