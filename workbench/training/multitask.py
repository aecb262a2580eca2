"""Training several tasks together: the images of a batch, their labels and the total loss.

A batch consists of images of the training set `data`, and of images of the data sets that tasks
bring themselves. The latter have no identity, and only the labels of those tasks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from workbench import data, losses, runs
from workbench.data.dataset import Joined
from workbench.errors import WorkbenchError, unknown_name
from workbench.tasks import IDENTITY, RECOGNITION, Heads, TaskSettings, head_of
from workbench.training.config import TrainConfig

UNKNOWN = -1
"""Identity of the images that have none."""


def active_tasks(config: TrainConfig) -> dict[str, TaskSettings]:
    """Returns the settings of the tasks with a head that are trained.

    Args:
        config: The settings of the run. `task` may name a single task.
    """
    return {
        name: settings
        for name, settings in config.tasks.items()
        if isinstance(settings, TaskSettings) and config.task in (None, name)
    }


def trains_recognition(config: TrainConfig) -> bool:
    """Whether recognition is trained: it is not if another task is trained alone.

    It is not trained with the weight 0 either.
    """
    settings = config.tasks.get(RECOGNITION)
    has_weight = settings is None or settings.weight != 0
    return config.task in (None, RECOGNITION) and has_weight


@dataclass(frozen=True)
class Source:
    """A data set from which a part of each batch comes.

    Attributes:
        dataset: The data set.
        spec: Its spec, as tasks name it; None for the training set `data`.
        share: Share of the images of a batch; None for what the others leave.
    """

    dataset: data.Dataset
    spec: str | None = None
    share: float | None = None


def sources_of(
    config: TrainConfig, dataset: data.Dataset, run: runs.Run | None = None
) -> tuple[Source, ...]:
    """Opens the data sets of the tasks.

    Args:
        config: The settings.
        dataset: The training set `data`.
        run: The run that is resumed, whose paths are relative to the folder in which its training
            was started; None for a new one.

    Returns:
        The data sets of a batch. The first one, which determines the length of an epoch, is `data`
        if recognition is trained or a task uses its attributes.

    Raises:
        WorkbenchError: if a data set cannot be opened, or tasks with the same data set give it
            different shares.
    """
    tasks = active_tasks(config)
    uses_data = trains_recognition(config) or any(one.data is None for one in tasks.values())
    sources = [Source(dataset)] if uses_data else []
    for spec in dict.fromkeys(one.data for one in tasks.values() if one.data is not None):
        of_spec = [one.share for one in tasks.values() if one.data == spec]
        shares = {share for share in of_spec if share is not None}
        if len(shares) > 1:
            raise WorkbenchError(
                f"tasks: {spec} has the shares {' and '.join(map(str, sorted(shares)))}; tasks "
                "with the same data share its images, so give one share"
            )
        opened = data.open(spec) if run is None else _stored(run, spec)
        sources.append(Source(opened, spec, shares.pop() if shares else None))
    return tuple(sources)


def _stored(run: runs.Run, spec: str) -> data.Dataset:
    where = str(run.path / runs.CONFIG)
    return data.open_stored(spec, run.data_folder, where, "put the data back at this place")


def counts_of(sources: Sequence[Source], batch_size: int, multiple: int = 1) -> list[int]:
    """Returns how many images of a batch come from each data set.

    Args:
        sources: The data sets.
        batch_size: Number of images in a batch.
        multiple: The number of the first data set is a multiple of it, and at least twice as large.

    Returns:
        The numbers. Data sets without a share divide what is left evenly. The numbers of the data
        sets after the first are at most the sizes of these.

    Raises:
        WorkbenchError: if fewer than two images are left for the first data set.

    Example:
        >>> import numpy as np
        >>> from workbench.data import Dataset
        >>> faces = Dataset("toy", [np.zeros((4, 4, 3), np.uint8)] * 100, np.arange(100),
        ...                 [str(number) for number in range(100)])
        >>> counts_of([Source(faces), Source(faces, "a", 0.25), Source(faces, "b")], batch_size=64)
        [24, 16, 24]
    """
    given = sum(one.share for one in sources if one.share is not None)
    without = sum(one.share is None for one in sources)
    rest = (1 - given) / without if without else 0.0
    scale = 1.0 if without else 1 / given
    shares = [rest if one.share is None else one.share * scale for one in sources]
    counts = [
        min(max(round(share * batch_size), 1), len(one.dataset))
        for one, share in zip(sources[1:], shares[1:], strict=True)
    ]
    first = batch_size - sum(counts)
    first -= first % multiple
    if first < 2 * multiple or min(shares) <= 0:
        raise WorkbenchError(
            f"tasks: their own data take {sum(counts)} of the {batch_size} images of a batch, so "
            f"that {max(first, 0)} are left for {sources[0].spec or 'the training set'}; lower "
            "their share, or raise batch_size"
        )
    return [first, *counts]


@dataclass(frozen=True)
class Mixture:
    """The images of all data sets of a training, one data set after the other.

    Attributes:
        sources: The data sets. The first one determines the length of an epoch.
        counts: Number of images of each data set in a batch.
    """

    sources: tuple[Source, ...]
    counts: tuple[int, ...]

    @property
    def leading(self) -> data.Dataset:
        """The first data set."""
        return self.sources[0].dataset

    @property
    def batch_size(self) -> int:
        """Number of images in a batch."""
        return sum(self.counts)

    @cached_property
    def images(self) -> data.Images:
        """Reader of all images."""
        if len(self.sources) == 1:
            return self.leading.images
        return Joined(tuple(one.dataset.images for one in self.sources))

    @cached_property
    def identities(self) -> NDArray[np.int64]:
        """(M,) identity of each image; `UNKNOWN` if it comes from the data of a task."""
        if len(self.sources) == 1 and self.sources[0].spec is None:
            return self.leading.identities
        return np.concatenate(
            [
                one.dataset.identities
                if one.spec is None
                else np.full(len(one.dataset), UNKNOWN, dtype=np.int64)
                for one in self.sources
            ]
        )

    def order(self, leading: NDArray[np.int64], epoch: int, seed: int) -> NDArray[np.int64]:
        """Returns the numbers of the images of an epoch.

        The images of each data set are spread evenly over a batch, so that the parts into which
        `accumulate` divides a batch have the same share of each.

        Args:
            leading: Numbers of the images of the first data set, in the order of the epoch; a
                multiple of its number of images in a batch.
            epoch: Number of the epoch, from 0.
            seed: The setting `seed`.

        Returns:
            The numbers of the images of all batches, one batch after the other.
        """
        if len(self.sources) == 1:
            return leading
        steps = len(leading) // self.counts[0]
        columns = [leading.reshape(steps, self.counts[0])]
        first = len(self.leading)
        for place, (one, count) in enumerate(
            zip(self.sources[1:], self.counts[1:], strict=True), start=1
        ):
            begin = epoch * steps * count
            numbers = first + _in_rounds(len(one.dataset), begin, steps * count, (seed, place))
            columns.append(numbers.reshape(steps, count))
            first += len(one.dataset)
        position = np.concatenate([(np.arange(count) + 0.5) / count for count in self.counts])
        spread = np.argsort(position, kind="stable")
        return np.concatenate(columns, axis=1)[:, spread].ravel()

    def labels(self, settings: TaskSettings) -> list[Any]:
        """Returns the labels of a task for all images; None where they are missing.

        Raises:
            WorkbenchError: if the data set of the task has no such attribute.
        """
        labels: list[Any] = []
        for one in self.sources:
            if one.spec == settings.data:
                labels += _column(one.dataset, settings.attribute)
            else:
                labels += [None] * len(one.dataset)
        return labels

    def fingerprints(self) -> dict[str, str]:
        """Returns the fingerprint of each data set that tasks bring themselves, by its spec."""
        return {one.spec: one.dataset.fingerprint() for one in self.sources if one.spec is not None}


def _in_rounds(count: int, begin: int, length: int, key: tuple[int, int]) -> NDArray[np.int64]:
    """Returns a part of an endless order of images, in which each round is shuffled anew.

    Args:
        count: Number of images.
        begin: Place in the order at which the part begins.
        length: Length of the part.
        key: Numbers that determine the order together with the number of the round.
    """
    first, last = begin // count, (begin + length - 1) // count
    rounds = [
        np.random.default_rng([*key, number]).permutation(count)
        for number in range(first, last + 1)
    ]
    return np.concatenate(rounds)[begin - first * count :][:length]


def _column(dataset: data.Dataset, attribute: str) -> list[Any]:
    """Returns the values of an attribute."""
    if attribute == IDENTITY:
        return [dataset.identity_names[identity] for identity in dataset.identities.tolist()]
    if attribute not in dataset.attributes:
        raise unknown_name(
            f"attribute of {dataset.name}", attribute, [*dataset.attributes, IDENTITY]
        )
    return list(dataset.attributes[attribute])


class Value(NamedTuple):
    """The loss of a part of a batch.

    Attributes:
        total: The total loss.
        recognition: The loss of recognition, which is a part of it; 0 if no image has an identity.
    """

    total: Tensor
    recognition: Tensor

    def mixed(self, other: Value, weight: float) -> Value:
        """Returns the weighted mean with the loss for the labels of mixed images.

        Args:
            other: The loss for the labels of the images that were mixed in.
            weight: Weight of this loss, 0..1.
        """
        return Value(
            *(weight * one + (1 - weight) * two for one, two in zip(self, other, strict=True))
        )


@dataclass(frozen=True)
class Objective:
    """What is minimised: the loss of recognition and of the tasks.

    Attributes:
        loss: The loss of recognition.
        heads: The heads of the tasks; None if only recognition is trained.
        trains_recognition: Whether recognition is trained.
        targets: (M,) float32 targets of each task for all images, NaN where the label is missing.
    """

    loss: losses.Loss
    heads: Heads | None = None
    trains_recognition: bool = True
    targets: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def trunk_is_frozen(self) -> bool:
        """Whether only heads are trained, so that nothing reaches the backbone."""
        return (
            self.heads is not None
            and not self.trains_recognition
            and self.heads.detached == set(self.heads)
        )

    def targets_of(self, numbers: Tensor, device: torch.device) -> dict[str, Tensor]:
        """Returns the targets of the images of a batch.

        Args:
            numbers: (N,) numbers of the images.
            device: Device of the result.
        """
        return {
            name: targets[numbers].to(device, non_blocking=True)
            for name, targets in self.targets.items()
        }

    def of_part(
        self, embeddings: Tensor, labels: Tensor, targets: Mapping[str, Tensor], part: Tensor
    ) -> Value:
        """Computes the loss of a part of a batch. The losses of all parts add up to the batch's.

        Args:
            embeddings: (n, D) embeddings of the images of the part.
            labels: (N,) identities of the images of the batch; `UNKNOWN` if they have none.
            targets: (N,) targets of each task.
            part: (n,) places of the images of the part in the batch.
        """
        if self.heads is None:
            value = self.loss(embeddings, labels[part]) * (len(part) / len(labels))
            return Value(value, value.detach())
        labelled = {RECOGNITION: labels != UNKNOWN}
        labelled |= {name: ~target.isnan() for name, target in targets.items()}
        shares: dict[str, float | Tensor] = {
            name: one[part].sum() / one.sum().clamp(min=1) for name, one in labelled.items()
        }
        known = self.recognised(labels[part])
        recognition = None
        if known.any():
            recognition = self.loss(embeddings[known], labels[part][known])
        total = self.heads.total(
            recognition,
            embeddings,
            {name: target[part] for name, target in targets.items()},
            shares,
        )
        if recognition is None:
            return Value(total, total.new_zeros(()))
        return Value(total, recognition.detach() * shares[RECOGNITION])

    def recognised(self, labels: Tensor) -> Tensor:
        """Returns which images of a batch recognition is trained on.

        Args:
            labels: (N,) identities; `UNKNOWN` if they have none.

        Returns:
            (N,) bool.
        """
        if self.trains_recognition:
            return labels != UNKNOWN
        return torch.zeros_like(labels, dtype=torch.bool)

    def measure(self, embeddings: Tensor, targets: Mapping[str, Tensor]) -> dict[str, float]:
        """Returns the figures of the tasks to log; see `Heads.measure`.

        Args:
            embeddings: (N, D) embeddings, without gradient.
            targets: (N,) targets of each task.
        """
        return {} if self.heads is None else self.heads.measure(embeddings, targets)


def objective_of(
    config: TrainConfig, mixture: Mixture, loss: losses.Loss, device: torch.device
) -> Objective:
    """Creates the heads of the tasks that are trained, and reads their labels.

    Args:
        config: The settings.
        mixture: The images.
        loss: The loss of recognition.
        device: Device of the heads.

    Raises:
        WorkbenchError: if a data set lacks an attribute, or its labels do not fit the task.
    """
    tasks = active_tasks(config)
    if not tasks:
        return Objective(loss)
    heads, targets = {}, {}
    for name, settings in tasks.items():
        where = f"task {name!r}, {settings.attribute} of {settings.data or config.data}"
        column = mixture.labels(settings)
        head = head_of(settings, column, config.embedding_dim, where)
        heads[name] = head
        targets[name] = torch.from_numpy(head.targets(column, where)).float()
    return Objective(
        loss,
        Heads(
            heads,
            {name: settings.weight for name, settings in config.tasks.items()},
            [name for name, settings in tasks.items() if settings.frozen_trunk],
        ).to(device),
        trains_recognition(config),
        targets,
    )
