"""Reads runs and benchmarks for the pages. What was read is cached until its files change."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import numpy as np
import pandas as pd
import streamlit as st
from numpy.typing import NDArray

from workbench import data, evaluation, faces, images, runs
from workbench.errors import WorkbenchError
from workbench.evaluation import results
from workbench.evaluation.evaluators import Target
from workbench.evaluation.kinds import of_type
from workbench.evaluation.results import left_out_numbers
from workbench.evaluation.sources import TRAIN, open_training_set

if TYPE_CHECKING:
    from workbench.evaluation.model import Model

P = ParamSpec("P")
T = TypeVar("T")
Stamp = tuple[str, int, int]


@dataclass(frozen=True)
class Selection:
    """The choices in the sidebar.

    Attributes:
        runs_dir: folder of the run directories, as it was typed.
        chosen: the runs to compare.
        benchmark: name of the evaluation to show; None if no chosen run has been evaluated.
    """

    runs_dir: str
    chosen: tuple[runs.Run, ...]
    benchmark: str | None

    def evaluated(self) -> list[runs.Run]:
        """Returns the chosen runs that were evaluated on the chosen benchmark."""
        return [run for run in self.chosen if self.benchmark in run.evaluations()]


def list_runs(folder: str) -> list[runs.Run]:
    """Returns the runs in a folder, newest first.

    Args:
        folder: path as a user typed it; it may begin with "~".

    Returns:
        The runs. The list is empty if the folder cannot be read or the text is not a valid path.
    """
    try:
        return runs.list(folder_of(folder))
    except (OSError, RuntimeError, ValueError):
        # OSError: no permission, or the name is too long. RuntimeError: "~user" names no user.
        # ValueError: the text holds a zero byte.
        return []


def folder_of(text: str) -> Path:
    """Returns the folder that a user typed, with "~" replaced; the text itself if that fails."""
    with suppress(RuntimeError):  # "~user" names no user
        return Path(text).expanduser()
    return Path(text)


def _stamp(path: Path) -> Stamp:
    """Returns a value that changes when the file does."""
    try:
        status = path.stat()
    except OSError:
        return str(path), 0, 0
    return str(path), status.st_mtime_ns, status.st_size


def cached_by_files(
    files: Callable[..., Iterable[Path]], cache: Any = st.cache_data, **options: Any
) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Decorator that caches a function until one of the files that it reads changes.

    Args:
        files: called with the arguments of the function, returns the files that it reads.
        cache: Streamlit's cache. `st.cache_data` gives each caller a copy of the value,
            `st.cache_resource` shares one object, such as a model, between all callers.
        options: options of the cache, such as `max_entries`.

    Returns:
        The decorator. It keeps the signature of the function, whose arguments must be hashable by
        Streamlit or runs, which are identified by their folders.
    """

    def decorate(function: Callable[P, T]) -> Callable[P, T]:
        uncached: Callable[..., T] = function

        @wraps(function)
        def read(*args: Any, stamps: tuple[Stamp, ...], **kwargs: Any) -> T:
            return uncached(*args, **kwargs)

        by_folder = {runs.Run: lambda run: str(run.path)}
        cached_read = cache(**{"show_spinner": False} | options, hash_funcs=by_folder)(read)

        @wraps(function)
        def read_if_changed(*args: P.args, **kwargs: P.kwargs) -> T:
            stamps = tuple(_stamp(path) for path in files(*args, **kwargs))
            value: T = cached_read(*args, stamps=stamps, **kwargs)
            return value

        return read_if_changed

    return decorate


def _evaluation_file(run: runs.Run, name: str, *_: Any) -> list[Path]:
    # The .json file of an evaluation is written after its .npz file, so one stamp stands for both.
    return [run.path / runs.EVALUATION / f"{name}.json"]


@cached_by_files(_evaluation_file, max_entries=64)
def result(run: runs.Run, name: str) -> evaluation.Result:
    """Returns a stored result. Raises WorkbenchError as `evaluation.load_result` does."""
    return evaluation.load_result(run, name)


def _calibration_files(run: runs.Run, name: str) -> list[Path]:
    # A calibration is refused if the model was trained further.
    folders = [run.path / runs.CALIBRATION, run.path / runs.EVALUATION]
    return [folder / f"{name}.json" for folder in folders] + [run.path / runs.MODEL]


@cached_by_files(_calibration_files, max_entries=64)
def calibration(run: runs.Run, name: str) -> evaluation.Calibration:
    """Returns a calibration, or an evaluation that serves as one.

    Raises WorkbenchError as `evaluation.load_calibration` does.
    """
    return evaluation.load_calibration(run, name)


@cached_by_files(_evaluation_file, max_entries=64)
def angles(run: runs.Run, name: str) -> evaluation.Angles | None:
    """Returns the stored angles to class centres; None if there are none."""
    return evaluation.load_angles(run, name)


@cached_by_files(_evaluation_file, max_entries=64)
def gaps(run: runs.Run, name: str) -> evaluation.Gaps | None:
    """Returns the stored differences between the images of each pair; None if there are none."""
    return evaluation.load_gaps(run, name)


@cached_by_files(_evaluation_file, max_entries=256)
def invariance(run: runs.Run, name: str, factor: str, far: float) -> evaluation.InvarianceCurve:
    """Returns an invariance curve. Raises WorkbenchError as `evaluation.invariance_curves` does."""
    return evaluation.invariance_curves(run, name, far=far, factors=[factor])[factor]


@cached_by_files(_evaluation_file, max_entries=64)
def projection(run: runs.Run, name: str) -> tuple[evaluation.Projection, list[str]] | None:
    """Returns the stored projection and the names of its identities; None if there is none."""
    return evaluation.load_projection(run, name)


@cached_by_files(lambda run: [run.path / runs.METRICS], max_entries=64)
def metrics(run: runs.Run) -> pd.DataFrame:
    """Returns the metrics that were logged during training, one row for each logged step."""
    return run.metrics()


@cached_by_files(lambda run: [run.path / runs.NOTES], max_entries=64)
def notes(run: runs.Run) -> list[dict[str, Any]]:
    """Returns the notes and warnings of the training."""
    return run.notes()


@cached_by_files(lambda run: run.snapshots(), max_entries=64)
def snapshots(run: runs.Run) -> list[evaluation.Snapshot]:
    """Returns the snapshots of a run. Raises as `evaluation.load_snapshots` does."""
    return evaluation.load_snapshots(run)


@cached_by_files(lambda run, name: run.snapshots(), max_entries=64)
def over_epochs(run: runs.Run, name: str) -> pd.DataFrame:
    """Returns the figures of one set of the snapshots for each epoch."""
    return evaluation.over_epochs(snapshots(run), name)


@cached_by_files(lambda run, name: run.snapshots(), max_entries=64)
def angles_of_epochs(run: runs.Run, name: str) -> dict[int, evaluation.PairAngles]:
    """Returns the angles of all pairs of one set of the snapshots, by epoch."""
    return {one.epoch: one.sets[name].pair_angles() for one in snapshots(run) if name in one.sets}


def _all_evaluation_files(chosen: Sequence[runs.Run]) -> list[Path]:
    return [
        path for run in chosen for name in run.evaluations() for path in _evaluation_file(run, name)
    ]


@cached_by_files(_all_evaluation_files, max_entries=16)
def leaderboard(chosen: Sequence[runs.Run]) -> pd.DataFrame:
    """Returns the table of all evaluations of the runs."""
    return evaluation.leaderboard(list(chosen))


@cached_by_files(
    lambda chosen, name: [path for run in chosen for path in _evaluation_file(run, name)],
    max_entries=64,
    show_spinner="Comparing the runs pair by pair ...",
)
def clearly_best(chosen: Sequence[runs.Run], name: str) -> str | None:
    """Returns the name of the run that is more accurate than every other run; None if none is.

    Raises WorkbenchError as `evaluation.clearly_best` does.
    """
    results = {run.name: evaluation.load_result(run, name) for run in chosen}
    return evaluation.clearly_best(of_type(results, evaluation.VerificationResult))


@cached_by_files(
    lambda run: [run.model_path, run.path / runs.AVERAGED_MODEL],
    st.cache_resource,
    max_entries=6,
    show_spinner="Loading the model (the first one takes some seconds) ...",
)
def model(run: runs.Run) -> Model:
    """Returns the network of a run, on the CPU. Imports torch."""
    return evaluation.load_model(run, device="cpu")


@st.cache_resource(max_entries=4, show_spinner="Opening the pictures ...")
def _benchmark(
    spec: str, unreadable: tuple[int, ...] = ()
) -> data.Benchmark | data.Labelled | data.Identification | data.Templates:
    with data.stored_names():
        return data.open_without(spec, unreadable)


@cached_by_files(
    lambda run, *_: [run.path / runs.CONFIG],
    st.cache_resource,
    max_entries=4,
    show_spinner="Opening the pictures ...",
)
def _training_set(run: runs.Run, training_data: str | None) -> data.Dataset:
    return open_training_set(run, training_data)


def benchmark_of(run: runs.Run, name: str) -> Target | data.Dataset:
    """Opens the images that a run was evaluated on.

    Raises:
        WorkbenchError: if the files are missing, or are not those that were evaluated.
    """
    figures, _ = run.evaluation(name)
    spec, unreadable = str(figures.get("benchmark")), left_out_numbers(figures)
    if spec == TRAIN:
        return _training_set(run, figures.get("training_data"))
    # The fingerprint is that of the whole benchmark before faces are detected.
    whole = _benchmark(data.unprepared(spec) if unreadable else spec)
    if whole.fingerprint() != figures.get("fingerprint"):
        raise WorkbenchError(
            f"{spec}: has changed since {run.name} was evaluated on it; "
            "run `workbench evaluate` again"
        )
    return _benchmark(spec, unreadable) if unreadable else whole


def is_stale(run: runs.Run, name: str) -> bool:
    """Returns whether the run was trained on after it was evaluated on this benchmark."""
    try:
        return results.is_stale(run, run.figures(name))
    except WorkbenchError:  # the pages show the reason
        return False


def pictures_of(run: runs.Run, name: str) -> data.Images:
    """Returns the reader of the images of an evaluation. Raises as `benchmark_of` does."""
    return benchmark_of(run, name).images


@st.cache_data(max_entries=32, show_spinner="Looking for faces ...")
def faces_on(content: bytes) -> list[faces.Face]:
    """Returns the faces on a photo, the largest first. Imports onnxruntime.

    Args:
        content: bytes of an image file.

    Raises:
        WorkbenchError: if the bytes are not an image, or no face detector is available.
    """
    detected = faces.detect(images.decode(content))
    usable = [face for face in detected if faces.can_be_aligned(face)]
    return sorted(usable, key=lambda face: -face.size[0] * face.size[1])


def embed(network: Model, photos: list[NDArray[np.uint8]]) -> NDArray[np.float32]:
    """Embeds single images as an evaluation does.

    Args:
        network: network of a run.
        photos: (H, W, 3) images; each is fitted to the network's input.

    Returns:
        (N, D) embeddings, to which those of the mirrored images are added.
    """
    return network.embed(photos, flip="add")


def thumbnail(reader: data.Images, number: int, side: int = 96) -> NDArray[np.uint8]:
    """Returns an image as a small square, or a grey square if the image cannot be read."""
    try:
        return images.fit(reader[number], (side, side))
    except (WorkbenchError, IndexError):
        return np.full((side, side, 3), 200, dtype=np.uint8)
