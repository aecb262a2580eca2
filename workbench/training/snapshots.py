"""Snapshots: the embeddings of a small fixed set of images after every epoch.

They show how the angles between embeddings, and the accuracy on people who are not in the training
set, change during a training. `workbench.evaluation.load_snapshots` reads them.
"""

from __future__ import annotations

import hashlib
import math
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from workbench import data, runs
from workbench.data.batches import batches, to_network
from workbench.data.dataset import Broken
from workbench.errors import WorkbenchError, WorkbenchWarning
from workbench.files import atomic_path
from workbench.losses import ClassificationLoss
from workbench.training.callbacks import Callback, Training

TRAIN = "train"
"""Name of the training set in the setting `snapshots`, and of its arrays."""
IDENTITIES, IMAGES = 20, 10
"""Largest number of identities of a set, and of images of each."""
LARGEST = 2.0**15
"""Largest absolute value that is written. That of float16 is 65,504."""


@dataclass(frozen=True)
class ImageSet:
    """The images of which snapshots are taken.

    Attributes:
        name: Prefix of the names of the arrays.
        images: Reader of the images.
        numbers: (N,) numbers of the chosen images in `images`.
        identities: (N,) identity of each chosen image.
    """

    name: str
    images: data.Images
    numbers: NDArray[np.int64]
    identities: NDArray[np.int64]


def choose_images(identities: NDArray[np.int64]) -> NDArray[np.int64]:
    """Chooses the images of a snapshot, without random numbers.

    The identities with the most images are chosen, up to 20 of them. Of identities with the same
    number of images, or with 10 images or more, the first ones are chosen. Their images, up to 10
    of each, are spread evenly over all images of the identity.

    Args:
        identities: (M,) identity of each image; -1 where it is unknown.

    Returns:
        (N,) numbers of the images, ordered by identity. There are none if no identity has two
        images.

    Example:
        >>> import numpy as np
        >>> choose_images(np.array([4, 4, 7, -1, 2, 2, 2]))
        array([4, 5, 6, 0, 1])
    """
    labelled = identities[identities >= 0]
    names, counts = np.unique(labelled, return_counts=True)
    names, counts = names[counts > 1], counts[counts > 1]
    most_first = np.argsort(-np.minimum(counts, IMAGES), kind="stable")
    chosen = [np.empty(0, dtype=np.int64)]
    for identity in np.sort(names[most_first[:IDENTITIES]]):
        images = np.flatnonzero(identities == identity)
        places = np.linspace(0, len(images) - 1, min(len(images), IMAGES)).round()
        chosen.append(images[places.astype(np.int64)])
    return np.concatenate(chosen)


def open_sets(
    specs: Sequence[str], training_set: data.Dataset, run: runs.Run | None
) -> list[ImageSet]:
    """Opens the image sets that the setting `snapshots` names.

    Args:
        specs: "train", and specs of benchmarks or data sets; repeated ones count once.
        training_set: The training set.
        run: The run that is resumed; None for a new one.

    Returns:
        The sets. The name of each is that of its benchmark, without characters that file names
        should not have; a few hexadecimal digits are added if another set has the name already.

    Raises:
        WorkbenchError: if a benchmark cannot be opened, or has no two identities with two images.
    """
    sets: list[ImageSet] = []
    for spec in dict.fromkeys(specs):
        if spec == TRAIN:
            name, images, identities = TRAIN, training_set.images, training_set.identities
        else:
            benchmark = _open(spec, run)
            names = {TRAIN, *(one.name for one in sets)}
            name, images = _unique_name(benchmark.name, spec, names), benchmark.images
            identities = _identities(benchmark, spec)
        numbers = choose_images(identities)
        if len(np.unique(identities[numbers])) < 2:
            raise WorkbenchError(
                f"snapshots: {spec} has no two identities with two images each, so that genuine "
                "and impostor pairs cannot be compared; name another data set"
            )
        sets.append(ImageSet(name, images, numbers, identities[numbers]))
    return sets


def _open(spec: str, run: runs.Run | None) -> Any:
    """Opens a benchmark or a data set. In a resumed run, the spec is stored in its config.yaml."""
    try:
        if run is None:
            return data.open(spec) if data.is_drawn(spec) else data.benchmark(spec)
        config_file = str(run.path / runs.CONFIG)
        if data.is_drawn(spec):
            remedy = "name its new place with --snapshots"
            return data.open_stored(spec, run.data_folder, config_file, remedy)
        with data.stored_names():
            return data.benchmark(spec)
    except WorkbenchError as error:
        raise WorkbenchError(f"snapshots: {error}") from None


def _identities(benchmark: Any, spec: str) -> NDArray[np.int64]:
    source = benchmark.dataset if isinstance(benchmark, data.Labelled) else benchmark
    if source.identities is None:
        raise WorkbenchError(
            f"snapshots: {spec} does not say whom its images show, only which pairs show the same "
            "person; name a data set or a benchmark with identities, such as synthfaces-frontal"
        )
    identities: NDArray[np.int64] = source.identities
    return identities


def _unique_name(name: str, spec: str, used: set[str]) -> str:
    safe_name = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip(".-") or "benchmark"
    if safe_name in used:
        safe_name += f"-{hashlib.sha256(spec.encode()).hexdigest()[:6]}"
    return safe_name


@dataclass(frozen=True)
class _Pixels:
    """The images of a set in memory, without those that could not be read."""

    images: Tensor
    numbers: NDArray[np.int64]
    identities: NDArray[np.int64]


class Snapshots(Callback):
    """Writes the embeddings of image sets before the first step and after every epoch.

    The files are RUN/snapshots/epoch-NNNN.npz, where NNNN is the number of finished epochs. They
    hold, of each set, `SET/embeddings` (N, D) float16, `SET/identities` (N,) int64 and
    `SET/images` (N,) int64, the numbers of the images in their data set. For the training set and
    a loss with class centres, `train/centres` (C, D) float16 has the class centres of its
    identities in ascending order. `epoch` and `step` are numbers.

    The embeddings are those of the last weights, in evaluation mode and float32, without the
    mirror image. They have their own lengths, unless these are too long for float16; then all
    embeddings of the set are divided by the same power of two.

    Args:
        sets: The image sets.
    """

    def __init__(self, sets: Sequence[ImageSet]) -> None:
        self.sets = sets
        self._pixels: dict[str, _Pixels] = {}

    def on_start(self, training: Training) -> None:
        """Reads the images, and removes snapshots of epochs that are trained again."""
        for path in training.run.snapshots():
            if runs.epoch_of_snapshot(path) * training.steps_per_epoch > training.step:
                path.unlink(missing_ok=True)
        for one in self.sets:
            self._pixels[one.name] = _read(one, training.net.image_size, training.config.broken)
        if training.step % training.steps_per_epoch == 0:
            self.on_epoch_end(training)

    def on_epoch_end(self, training: Training) -> None:
        """Writes the snapshot of the epochs that are finished."""
        if not self._pixels:
            return
        epoch = training.step // training.steps_per_epoch
        arrays: dict[str, NDArray[Any]] = {}
        for name, pixels in self._pixels.items():
            vectors = {"embeddings": _embed(training, pixels.images)}
            if name == TRAIN and isinstance(training.loss, ClassificationLoss):
                centres = training.loss.centres.detach()[np.unique(pixels.identities)]
                vectors["centres"] = centres.float().cpu().numpy()
            for kind, values in vectors.items():
                if not np.isfinite(values).all():
                    _warn_of_no_snapshot(epoch, f"{kind} of {name}")
                    return
                arrays[f"{name}/{kind}"] = _as_float16(values)
            arrays[f"{name}/identities"] = pixels.identities
            arrays[f"{name}/images"] = pixels.numbers
        write(training.run, epoch, training.step, arrays)


def write(run: runs.Run, epoch: int, step: int, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Writes the file of one snapshot, atomically.

    Args:
        run: The run.
        epoch: Number of finished epochs.
        step: Number of steps done.
        arrays: The arrays of the image sets, by name.

    Raises:
        WorkbenchError: if the file cannot be written. An earlier one is unchanged then.
    """
    with (
        atomic_path(runs.snapshot_path(run, epoch)) as temporary,
        temporary.open("wb") as file,
    ):
        np.savez(file, allow_pickle=False, epoch=epoch, step=step, **arrays)


def _warn_of_no_snapshot(epoch: int, what: str) -> None:
    """Warns that a snapshot is left out, which can happen to an untrained deep network."""
    warnings.warn(
        WorkbenchWarning(
            f"no snapshot of epoch {epoch} is written: {what} contain NaN or infinity when the "
            "network is used as in evaluation"
        ),
        stacklevel=2,
    )


def _read(one: ImageSet, size: tuple[int, int], broken: Broken) -> _Pixels:
    """Reads the images of a set; with "skip", those that cannot be read are left out."""
    ((images, numbers),) = batches(one.images, one.numbers, size, len(one.numbers), broken=broken)
    is_read = np.isin(one.numbers, numbers.numpy())
    return _Pixels(images, one.numbers[is_read], one.identities[is_read])


@torch.no_grad()
def _embed(training: Training, images: Tensor) -> NDArray[np.float32]:
    """Embeds images in evaluation mode. `Callbacks` restores the mode of the network."""
    config = training.config
    training.net.eval()
    embeddings = [
        training.net(
            to_network(
                part.to(training.device), config.pixel_mean, config.pixel_std, config.channels
            )
        )
        for part in torch.split(images, config.batch_size)
    ]
    result: NDArray[np.float32] = torch.cat(embeddings).float().cpu().numpy()
    return result


def _as_float16(vectors: NDArray[np.float32]) -> NDArray[np.float16]:
    """Returns vectors as float16, divided by a power of two if they are too long for it."""
    largest = float(np.abs(vectors).max(initial=0.0))
    excess = max(math.ceil(math.log2(largest / LARGEST)), 0) if largest else 0
    return np.ldexp(vectors, -excess).astype(np.float16)
