"""Reading runs for the pages, cached by what the files are, so that a new evaluation shows at the next click."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

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

Stamp = tuple[int, int]


@dataclass(frozen=True)
class Selection:
    """What the sidebar says: the runs to compare, and on which benchmark."""

    runs_dir: str
    chosen: tuple[runs.Run, ...]
    benchmark: str | None

    def evaluated(self) -> list[runs.Run]:
        """The selected runs that were evaluated on the selected benchmark."""
        return [run for run in self.chosen if self.benchmark in run.evaluations()]


def list_runs(folder: str) -> list[runs.Run]:
    """The runs in a folder that someone typed, newest first; none where it cannot be one."""
    try:
        return runs.list(Path(folder).expanduser())
    except (
        OSError,
        RuntimeError,
        ValueError,
    ):  # not ours to read, or too long; a user who is not there; a zero byte
        return []


def _stamp(path: Path) -> Stamp:
    """Changes when the file does."""
    try:
        found = path.stat()
    except OSError:
        return (0, 0)
    return found.st_mtime_ns, found.st_size


def _evaluation_stamp(run: runs.Run, name: str) -> Stamp:
    return _stamp(run.path / runs.EVALUATION / f"{name}.json")


@st.cache_data(max_entries=64, show_spinner=False)
def _result(path: Path, name: str, stamp: Stamp) -> evaluation.Result:
    return evaluation.load_result(runs.Run(path), name)


@st.cache_data(max_entries=64, show_spinner=False)
def _angles(path: Path, name: str, stamp: Stamp) -> evaluation.Angles | None:
    return evaluation.load_angles(runs.Run(path), name)


@st.cache_data(max_entries=64, show_spinner=False)
def _gaps(path: Path, name: str, stamp: Stamp) -> evaluation.Gaps | None:
    return evaluation.load_gaps(runs.Run(path), name)


@st.cache_data(max_entries=256, show_spinner=False)
def _invariance(
    path: Path, name: str, stamp: Stamp, factor: str, far: float
) -> evaluation.InvarianceCurve:
    return evaluation.invariance_curves(runs.Run(path), name, far=far, factors=[factor])[factor]


@st.cache_data(max_entries=64, show_spinner=False)
def _projection(
    path: Path, name: str, stamp: Stamp
) -> tuple[evaluation.Projection, list[str]] | None:
    return evaluation.load_projection(runs.Run(path), name)


@st.cache_data(max_entries=64, show_spinner=False)
def _metrics(path: Path, stamp: Stamp) -> pd.DataFrame:
    return runs.Run(path).metrics()


@st.cache_data(max_entries=16, show_spinner=False)
def _leaderboard(paths: Sequence[Path], stamps: Sequence[Stamp]) -> pd.DataFrame:
    return evaluation.leaderboard([runs.Run(path) for path in paths])


@st.cache_data(max_entries=64, show_spinner="Comparing the runs pair by pair ...")
def _clearly_best(paths: Sequence[Path], name: str, stamps: Sequence[Stamp]) -> str | None:
    results = {path.name: evaluation.load_result(runs.Run(path), name) for path in paths}
    return evaluation.clearly_best(of_type(results, evaluation.VerificationResult))


@st.cache_resource(
    max_entries=6, show_spinner="Loading the model (the first one takes some seconds) ..."
)
def _model(path: Path, stamp: Stamp) -> Model:
    return evaluation.load_model(runs.Run(path), device="cpu")


@st.cache_resource(max_entries=4, show_spinner="Opening the pictures ...")
def _benchmark(
    spec: str, unreadable: tuple[int, ...] = ()
) -> data.Benchmark | data.ClosedSet | data.Identification | data.Templates:
    with data.stored_names():
        return data.open_without(spec, unreadable)


@st.cache_resource(max_entries=4, show_spinner="Opening the pictures ...")
def _training_set(path: Path, training_data: str | None, stamp: Stamp) -> data.Dataset:
    return open_training_set(runs.Run(path), training_data)


def result(run: runs.Run, name: str) -> evaluation.Result:
    """The run's stored result; raises WorkbenchError as `evaluation.load_result`."""
    return _result(run.path, name, _evaluation_stamp(run, name))


def angles(run: runs.Run, name: str) -> evaluation.Angles | None:
    return _angles(run.path, name, _evaluation_stamp(run, name))


def gaps(run: runs.Run, name: str) -> evaluation.Gaps | None:
    return _gaps(run.path, name, _evaluation_stamp(run, name))


def invariance(run: runs.Run, name: str, factor: str, far: float) -> evaluation.InvarianceCurve:
    """The run's curve; raises WorkbenchError as `evaluation.invariance_curves`."""
    return _invariance(run.path, name, _evaluation_stamp(run, name), factor, far)


def projection(run: runs.Run, name: str) -> tuple[evaluation.Projection, list[str]] | None:
    return _projection(run.path, name, _evaluation_stamp(run, name))


def metrics(run: runs.Run) -> pd.DataFrame:
    return _metrics(run.path, _stamp(run.path / runs.METRICS))


def leaderboard(chosen: Sequence[runs.Run]) -> pd.DataFrame:
    stamps = [_evaluation_stamp(run, name) for run in chosen for name in run.evaluations()]
    return _leaderboard([run.path for run in chosen], stamps)


def clearly_best(chosen: Sequence[runs.Run], name: str) -> str | None:
    """Name of the run that is more accurate than every other one; raises WorkbenchError as `evaluation.clearly_best`."""
    return _clearly_best(
        [run.path for run in chosen], name, [_evaluation_stamp(run, name) for run in chosen]
    )


def model(run: runs.Run) -> Model:
    """The run's network, on the CPU; imports torch."""
    return _model(run.path, _stamp(run.model_path))


def benchmark_of(run: runs.Run, name: str) -> Target | data.Dataset:
    """The pictures behind an evaluation.

    Raises:
        WorkbenchError: the files are no longer there, or hold other pairs than those evaluated.
    """
    figures, _ = run.evaluation(name)
    spec, unreadable = str(figures.get("benchmark")), left_out_numbers(figures)
    if spec == TRAIN:
        return _training_set(run.path, figures.get("training_data"), _stamp(run.path / runs.CONFIG))
    # The fingerprint is that of the whole benchmark, whose pictures are the same before faces are looked for.
    whole = _benchmark(data.unprepared(spec) if unreadable else spec)
    if whole.fingerprint() != figures.get("fingerprint"):
        raise WorkbenchError(
            f"{spec}: has changed since {run.name} was evaluated on it; run `workbench evaluate` again"
        )
    return _benchmark(spec, unreadable) if unreadable else whole


def is_stale(run: runs.Run, name: str) -> bool:
    """Whether the run was trained on since it was evaluated on this benchmark."""
    try:
        return results.is_stale(run, run.figures(name))
    except WorkbenchError:  # the pages say what is wrong with it
        return False


def pictures_of(run: runs.Run, name: str) -> data.Images:
    """Reader of the pictures behind an evaluation; raises as `benchmark_of`."""
    return benchmark_of(run, name).images


@st.cache_data(max_entries=32, show_spinner="Looking for faces ...")
def faces_on(content: bytes) -> list[faces.Face]:
    """The faces on a photo, which is an image file's bytes, the largest first; imports onnxruntime.

    Raises:
        WorkbenchError: not an image, or there is no detector.
    """
    found = [face for face in faces.detect(images.decode(content)) if faces.can_be_aligned(face)]
    return sorted(found, key=lambda face: -face.size[0] * face.size[1])


def embed(chosen: Model, pictures: list[NDArray[np.uint8]]) -> NDArray[np.float32]:
    """Embed single pictures as the evaluation does: fitted to the input, mirror image added."""
    return chosen.embed(pictures, flip="add")


def thumbnail(reader: data.Images, number: int, side: int = 96) -> NDArray[np.uint8]:
    """A picture as a small square; a grey one where it cannot be read or is no longer there."""
    try:
        return images.fit(reader[number], (side, side))
    except (WorkbenchError, IndexError):
        return np.full((side, side, 3), 200, dtype=np.uint8)
