"""The run directory, with all files that training and evaluation write.

    config.yaml          all settings, from which `workbench train --config` repeats the run
    environment.json     versions, device, precision, git commit, fingerprint and folder of the
                         training data, and one entry for each time that the run was resumed
    identities.json.gz   names of the identities of the training data, in the order of the class
                         centres
    metrics.jsonl        one line for each logged step, a JSON object: step, epoch, loss, lr,
                         images_per_second, clipped, and the measures of the loss
    notes.jsonl          one line for each note or warning of the training: a JSON object with step,
                         kind, level ("note" or "warning") and text
    broken.txt           one line for each image that could not be read (`broken: skip`)
    last.ckpt            settings, step, backbone, loss, optimiser and random state, to resume
    model.safetensors    weights "backbone.*" and, for losses that have them, class centres "loss.*"
    model.onnx           instead of model.safetensors, if an ONNX file was imported
    evaluation/NAME.json the figures of one evaluation
    evaluation/NAME.npz  its arrays, from which the figures are drawn again
    snapshots/epoch-NNNN.npz
                         embeddings of a few images after each epoch (`snapshots`)
    calibration/         NAME.json and NAME.npz of each calibration: the scores of pairs with which
                         a verdict on two photos is compared
    trackers/NAME.json   the run of an experiment tracker, and the last step that it received
    tensorboard/         TensorBoard's event files (`trackers: tensorboard`)
    status.json          state (see `STATES`), heartbeat, step reached, step of the checkpoint
    run.lock             an empty file, locked by the process that trains the run

Most files are written under a temporary name and then renamed, so that a reader never sees an
incomplete one; lines are appended to metrics.jsonl and broken.txt. This module does not import
torch.
"""

from __future__ import annotations

import builtins
import gzip
import json
import os
import re
import shutil
import time
import uuid
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
import yaml
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from workbench.errors import WorkbenchError, unknown_name
from workbench.files import atomic_path, check_writable

if TYPE_CHECKING:
    import pandas as pd

CONFIG, ENVIRONMENT, METRICS = "config.yaml", "environment.json", "metrics.jsonl"
CHECKPOINT, MODEL, STATUS = "last.ckpt", "model.safetensors", "status.json"
EVALUATION, CALIBRATION, BROKEN, LOCK = "evaluation", "calibration", "broken.txt", "run.lock"
NOTES, IDENTITIES, TRACKERS = "notes.jsonl", "identities.json.gz", "trackers"
SNAPSHOTS = "snapshots"
ONNX_MODEL, AVERAGED_MODEL = "model.onnx", "model_ema.safetensors"

IMPORTED, ONNX = "imported", "onnx"
"""Values of `loss` in the config.yaml of any imported model, and of `backbone` if it is an ONNX
file."""

MADE_WITH = "made_with"
"""Key in the metadata of model.safetensors that holds the settings from `made_with`, as JSON."""
TASKS = "tasks"
"""Key in the metadata of model.safetensors that describes the heads of the tasks, as JSON, and
prefix of the names of their weights."""
_SHAPING = (
    "backbone",
    "backbone_options",
    "embedding_dim",
    "image_size",
    "channels",
    "pixel_mean",
    "pixel_std",
    "loss",
)
"""Settings that are needed to use the weights of a run."""

STATES = ("queued", "running", "finished", "failed", "stopped")
"""Values of `state` in status.json. "failed" has the reason as `message`."""
HEARTBEAT_SECONDS = 5.0
"""Time between two heartbeats of a running run."""
STALE_SECONDS = 120.0
"""Age of the heartbeat from which a run in state "running" counts as "stalled"."""
LOCK_SECONDS = 1.0
"""Time to wait for the lock of a run. A process that only tests the lock holds it very briefly."""
_WRITTEN = "written"
"""Key of a random text that is the same in the two files of one evaluation."""


def write_text(path: Path, text: str) -> None:
    """Writes a text file atomically, in UTF-8.

    Args:
        path: The file.
        text: Its content.

    Raises:
        WorkbenchError: if the file cannot be written.
    """
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Writes a JSON file atomically.

    Args:
        path: The file.
        value: A mapping of plain values. NaN and infinity are not allowed.

    Raises:
        WorkbenchError: if the file cannot be written.
    """
    write_text(path, _as_json(value))


def _as_json(value: Mapping[str, Any]) -> str:
    return json.dumps(value, indent=2, allow_nan=False) + "\n"


def read_json(path: Path) -> dict[str, Any]:
    """Reads a JSON object from a file.

    Args:
        path: The file.

    Raises:
        WorkbenchError: if the file is missing, is not JSON, or contains no object.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise WorkbenchError(f"{path}: cannot be read ({error.strerror})") from None
    except (ValueError, RecursionError) as error:
        raise WorkbenchError(f"{path}: not valid JSON ({error})") from None
    if not isinstance(value, dict):
        raise WorkbenchError(f"{path}: expected a JSON object, found {type(value).__name__}")
    return value


class _Loader(yaml.SafeLoader):
    """Reads 1e-3, which has no point and is a text in YAML 1.1, as a number."""


class _Dumper(yaml.SafeDumper):
    """Writes a text such as "1e3" in quotes, so that `_Loader` reads it as a text."""


for _kind in (_Loader, _Dumper):
    _kind.add_implicit_resolver(
        "tag:yaml.org,2002:float", re.compile(r"[+-]?[0-9]+[eE][+-]?[0-9]+$"), list("+-0123456789")
    )


def read_yaml(text: str) -> Any:
    """Reads a YAML text with a safe loader, which refuses tags of Python objects.

    Args:
        text: The YAML text.

    Returns:
        Its value.

    Raises:
        ValueError: if the text is not YAML, or contains an impossible date such as 2026-13-45.

    Example:
        >>> from workbench.runs import read_yaml
        >>> read_yaml("{lr: 1e-3, image_size: [112, 96]}")
        {'lr': 0.001, 'image_size': [112, 96]}
    """
    try:
        return yaml.load(text, _Loader)
    except (yaml.YAMLError, RecursionError) as error:
        raise ValueError(" ".join(str(error).split())) from None


def read_settings(path: Path) -> dict[str, Any]:
    """Reads a YAML file of settings.

    Args:
        path: The file.

    Returns:
        The settings by name.

    Raises:
        WorkbenchError: if the file is missing, is not YAML, or contains no mapping.
    """
    try:
        value = read_yaml(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise WorkbenchError(f"{path}: cannot be read ({error.strerror})") from None
    except ValueError as error:  # also raised if the file is not UTF-8
        raise WorkbenchError(f"{path}: not valid YAML ({' '.join(str(error).split())})") from None
    if not isinstance(value, dict):
        raise WorkbenchError(
            f"{path}: expected settings 'name: value', found {type(value).__name__}"
        )
    return value


def write_settings(path: Path, settings: Mapping[str, Any]) -> None:
    """Writes a YAML file of settings, atomically.

    Args:
        path: The file.
        settings: The settings by name, as plain values.

    Raises:
        WorkbenchError: if the file cannot be written.
    """
    write_text(path, yaml.dump(dict(settings), Dumper=_Dumper, sort_keys=False, allow_unicode=True))


@dataclass(frozen=True)
class Run:
    """One run directory.

    Creating a `Run` reads nothing. Each property reads its file when it is first used; `status`
    and `state` read it every time.

    Args:
        path: The directory. Use `runs.open` to check that it is one.

    Example:
        >>> import tempfile
        >>> from workbench import runs
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     run = runs.create(folder, "first", {"loss": "arcface"})
        ...     print(run.name, run.state, run.config)
        first queued {'loss': 'arcface'}
    """

    path: Path

    @property
    def name(self) -> str:
        """The name of the directory."""
        return self.path.name

    @cached_property
    def config(self) -> dict[str, Any]:
        """The settings in config.yaml.

        Raises:
            WorkbenchError: if the file is missing or contains no mapping.
        """
        return read_settings(self.path / CONFIG)

    @property
    def model_path(self) -> Path:
        """The file of the network: model.onnx if `backbone` is "onnx", else model.safetensors.

        Raises:
            WorkbenchError: if config.yaml is missing or contains no mapping.
        """
        return self.path / (ONNX_MODEL if self.config.get("backbone") == ONNX else MODEL)

    @cached_property
    def environment(self) -> dict[str, Any]:
        """The contents of environment.json.

        Raises:
            WorkbenchError: if the file is missing or damaged.
        """
        return read_json(self.path / ENVIRONMENT)

    @property
    def data_folder(self) -> str | None:
        """The folder that a relative path in `config["data"]` refers to; None if not recorded."""
        recorded = self.environment.get("data")
        folder = recorded.get("folder") if isinstance(recorded, dict) else None
        return folder if isinstance(folder, str) else None

    @property
    def status(self) -> dict[str, Any]:
        """The current contents of status.json.

        They are `state`, `heartbeat` (seconds since 1970), and, depending on the state,
        `message`, `step`, `checkpoint` and `total`.

        Raises:
            WorkbenchError: if the file is missing or damaged.
        """
        return read_json(self.path / STATUS)

    @property
    def state(self) -> str:
        """The current state: one of `STATES`, or "stalled".

        A run is stalled if status.json says "running" but no process trains the run: the
        heartbeat is older than `STALE_SECONDS`, or the lock is free. On a read-only disk the lock
        cannot be tested, and only the heartbeat counts.
        """
        status = self.status
        state = str(status.get("state"))
        if state != "running":
            return state
        heartbeat = status.get("heartbeat")
        is_recent = isinstance(heartbeat, int | float) and time.time() - heartbeat <= STALE_SECONDS
        return "stalled" if not is_recent or self._lock_is_free() else state

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Holds the lock of the run in the body of a `with` statement.

        Only the process that holds the lock may train the run. The operating system releases the
        lock when the process ends, even if it is killed.

        Raises:
            WorkbenchError: if another process holds the lock, if the folder cannot be written to,
                or if its file system has no locks.
        """
        lock = FileLock(self.path / LOCK, timeout=LOCK_SECONDS)
        try:
            lock.acquire()
        except Timeout:
            raise WorkbenchError(
                f"{self.path}: is being trained already, by another process; wait for it or stop it"
            ) from None
        except (OSError, NotImplementedError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            raise WorkbenchError(
                f"{self.path / LOCK}: cannot be locked ({reason}); training needs a run directory "
                "that can be written to, on a file system with locks"
            ) from None
        try:
            yield
        finally:
            lock.release()

    def _lock_is_free(self) -> bool:
        """Whether no process holds the lock; False if this cannot be tested."""
        if not (self.path / LOCK).is_file():
            return False
        try:
            with FileLock(self.path / LOCK, timeout=0):
                return True
        except (Timeout, OSError, NotImplementedError):
            return False

    def write_config(self, config: Mapping[str, Any]) -> None:
        """Writes config.yaml.

        Args:
            config: The settings, as plain values.

        Raises:
            WorkbenchError: if the file cannot be written.
        """
        self.__dict__.pop("config", None)  # removes the cached value
        write_settings(self.path / CONFIG, config)

    def write_environment(self, environment: Mapping[str, Any]) -> None:
        """Writes environment.json.

        Args:
            environment: Plain values.

        Raises:
            WorkbenchError: if the file cannot be written.
        """
        self.__dict__.pop("environment", None)  # removes the cached value
        write_json(self.path / ENVIRONMENT, environment)

    def write_identity_names(self, names: Sequence[str]) -> None:
        """Writes the names of the identities of the training data, compressed.

        A fine-tuning run matches the class centres by these names. A million names take a few
        megabytes.

        Args:
            names: The names, in the order of the class centres.

        Raises:
            WorkbenchError: if the file cannot be written.
        """
        content = json.dumps(builtins.list(names)).encode()
        with atomic_path(self.path / IDENTITIES) as temporary:
            temporary.write_bytes(gzip.compress(content, compresslevel=1, mtime=0))

    def identity_names(self) -> builtins.list[str] | None:
        """Returns the names of the identities of the training data.

        Returns:
            The names, in the order of the class centres; None if the run did not store them, as an
            imported one.

        Raises:
            WorkbenchError: if the file is damaged.
        """
        path = self.path / IDENTITIES
        if not path.is_file():
            return None
        try:
            names = json.loads(gzip.decompress(path.read_bytes()))
        except (OSError, EOFError, ValueError, zlib.error) as error:
            raise WorkbenchError(f"{path}: damaged ({' '.join(str(error).split())})") from None
        if not isinstance(names, builtins.list):
            raise WorkbenchError(f"{path}: expected a list of names")
        return [str(name) for name in names]

    def metrics(self) -> pd.DataFrame:
        """Returns metrics.jsonl as a table with one row for each logged step.

        Incomplete lines, such as the last one of a run that was killed, are left out.
        """
        import pandas as pd

        return pd.DataFrame(builtins.list(read_metrics(self.path / METRICS)))

    def notes(self) -> builtins.list[dict[str, Any]]:
        """Returns the notes and warnings of the training, in notes.jsonl.

        Returns:
            Mappings with `step`, `kind`, `level` ("note" or "warning") and `text`, in order.
        """
        return [note for note in read_metrics(self.path / NOTES) if "text" in note]

    def snapshots(self) -> builtins.list[Path]:
        """Returns the files of the snapshots, one for each epoch, in the order of the epochs.

        `workbench.evaluation.load_snapshots` reads them.
        """
        return sorted(
            (path for path in (self.path / SNAPSHOTS).glob("epoch-*.npz") if _EPOCH(path.name)),
            key=epoch_of_snapshot,
        )

    def set_status(self, state: str, **details: Any) -> None:
        """Writes status.json, with the current time as its heartbeat.

        Args:
            state: One of `STATES`.
            details: Other entries of the file, such as `message`.

        Raises:
            WorkbenchError: if the state is unknown, or the file cannot be written.
        """
        if state not in STATES:
            raise unknown_name("run state", state, STATES)
        write_json(self.path / STATUS, {"state": state, "heartbeat": time.time(), **details})

    def evaluations(self) -> builtins.list[str]:
        """Returns the names of the stored evaluations, sorted."""
        return sorted(path.stem for path in (self.path / EVALUATION).glob("*.json"))

    def figures(self, name: str) -> dict[str, Any]:
        """Returns the figures of a stored evaluation, without its arrays.

        Args:
            name: Name of the evaluation.

        Raises:
            WorkbenchError: if the file is missing or damaged.
        """
        return read_json(self.path / EVALUATION / f"{name}.json")

    def evaluation(self, name: str) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """Returns a stored evaluation.

        Args:
            name: Name of the evaluation, as in `evaluations`.

        Returns:
            The figures, and the arrays by name.

        Raises:
            WorkbenchError: if the run has no such evaluation, or a file is damaged.
        """
        if name not in self.evaluations():
            raise unknown_name(f"evaluation of run {self.name}", name, self.evaluations())
        return _read_pair(self.path / EVALUATION, name, "run `workbench evaluate` again")

    def save_evaluation(
        self, name: str, figures: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]
    ) -> None:
        """Stores an evaluation. An earlier one of the same name is replaced.

        Both files are complete on the disk before either is renamed, so that they belong together.

        Args:
            name: Name of the evaluation.
            figures: Plain values, for NAME.json.
            arrays: Arrays by name, for NAME.npz.

        Raises:
            WorkbenchError: if the folder cannot be written to, or the disk is full; an earlier
                evaluation is unchanged then.
        """
        _write_pair(self.path / EVALUATION, name, figures, arrays)

    def calibrations(self) -> builtins.list[str]:
        """Returns the names of the stored calibrations, sorted."""
        return sorted(path.stem for path in (self.path / CALIBRATION).glob("*.json"))

    def calibration_figures(self, name: str) -> dict[str, Any]:
        """Returns the figures of a stored calibration, without its arrays.

        Args:
            name: Name of the calibration.

        Raises:
            WorkbenchError: if the file is missing or damaged.
        """
        return read_json(self.path / CALIBRATION / f"{name}.json")

    def calibration(self, name: str) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """Returns a stored calibration, as `evaluation` returns an evaluation.

        Args:
            name: Name of the calibration, as in `calibrations`.

        Returns:
            The figures, and the arrays by name.

        Raises:
            WorkbenchError: if the run has no such calibration, or a file is damaged.
        """
        if name not in self.calibrations():
            raise unknown_name(f"calibration of run {self.name}", name, self.calibrations())
        return _read_pair(self.path / CALIBRATION, name, "run `workbench calibrate` again")

    def save_calibration(
        self, name: str, figures: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]
    ) -> None:
        """Stores a calibration, as `save_evaluation` stores an evaluation.

        Args:
            name: Name of the calibration.
            figures: Plain values, for NAME.json.
            arrays: Arrays by name, for NAME.npz.

        Raises:
            WorkbenchError: if the folder cannot be written to, or the disk is full.
        """
        _write_pair(self.path / CALIBRATION, name, figures, arrays)


def _read_pair(
    folder: Path, name: str, remedy: str
) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Returns the contents of NAME.json and NAME.npz.

    Raises:
        WorkbenchError: if a file is missing or damaged, or if they do not belong together; the
            message ends with the remedy.
    """
    path = folder / f"{name}.npz"
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {key: archive[key] for key in archive.files}
    except Exception as error:
        # A damaged file raises OSError, ValueError, BadZipFile, zlib.error, struct.error, ...
        reason = " ".join(str(error).split())[:160]
        raise WorkbenchError(f"{path}: damaged ({reason}); {remedy}") from None
    figures = read_json(path.with_suffix(".json"))
    mark = arrays.pop(_WRITTEN, None)
    if figures.pop(_WRITTEN, None) != (None if mark is None else str(mark)):
        raise WorkbenchError(
            f"{path}: belongs to another {folder.name} than {path.stem}.json, one of them was "
            f"replaced; {remedy}"
        )
    return figures, arrays


def _write_pair(
    folder: Path, name: str, figures: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]
) -> None:
    """Writes NAME.json and NAME.npz, which belong together, into a folder of a run."""
    check_writable(folder)
    folder.mkdir(exist_ok=True)
    mark = uuid.uuid4().hex
    # The lock keeps two processes from writing at the same time. The .npz file is renamed first,
    # because the .json file announces the evaluation.
    with (
        FileLock(folder.parent / f".{folder.name}.lock"),
        atomic_path(folder / f"{name}.json") as figures_path,
        atomic_path(folder / f"{name}.npz") as arrays_path,
    ):
        with arrays_path.open("wb") as file:
            np.savez_compressed(file, allow_pickle=False, **{_WRITTEN: np.array(mark), **arrays})
            _flush_to_disk(file)
        with figures_path.open("w", encoding="utf-8") as text:
            text.write(_as_json({**figures, _WRITTEN: mark}))
            _flush_to_disk(text)


_EPOCH = re.compile("epoch-([0-9]{4,9})\\.npz").fullmatch


def snapshot_path(run: Run, epoch: int) -> Path:
    """Returns the path of the file of a snapshot.

    Args:
        run: The run.
        epoch: Number of finished epochs.

    Example:
        >>> from pathlib import Path
        >>> from workbench.runs import Run, snapshot_path
        >>> snapshot_path(Run(Path("runs/first")), 3).as_posix()
        'runs/first/snapshots/epoch-0003.npz'
    """
    return run.path / SNAPSHOTS / f"epoch-{epoch:04d}.npz"


def epoch_of_snapshot(path: Path) -> int:
    """Returns the number of finished epochs of a file in `Run.snapshots`.

    Args:
        path: The file.

    Raises:
        WorkbenchError: if the file does not have the name of a snapshot.
    """
    match = _EPOCH(path.name)
    if match is None:
        raise WorkbenchError(f"{path}: not a snapshot; expected a name such as epoch-0003.npz")
    return int(match[1])


def _flush_to_disk(file: IO[Any]) -> None:
    """Writes buffered data to the disk; some file systems report a full disk only then."""
    file.flush()
    os.fsync(file.fileno())


def made_with(config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the settings that are needed to use the weights of a run.

    They describe the network, the scaling of its input, and the loss.

    Args:
        config: The settings of a run.

    Returns:
        The settings that are needed. Missing settings stay missing, except `channels`, which is
        "rgb" in files from before that setting existed.

    Example:
        >>> from workbench.runs import made_with
        >>> made_with({"backbone": "iresnet18", "image_size": 112, "lr": 0.1})
        {'backbone': 'iresnet18', 'image_size': [112, 112], 'channels': 'rgb'}
    """
    size = config.get("image_size")
    complete = {
        "channels": "rgb",
        **config,
        "image_size": [size, size] if isinstance(size, int) else size,
    }
    return {key: complete[key] for key in _SHAPING if complete.get(key) is not None}


def read_metrics(path: Path) -> Iterator[dict[str, Any]]:
    """Yields the JSON objects in a file of lines, such as metrics.jsonl, in order.

    Lines that are not complete JSON objects are skipped. A missing file counts as empty.

    Args:
        path: The file.

    Yields:
        One object for each line.
    """
    if not path.is_file():
        return
    with path.open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            try:
                row = json.loads(line)
            except ValueError:
                continue
            if isinstance(row, dict):
                yield row


def check_name(name: str) -> None:
    """Checks that a run can have a name.

    Args:
        name: The name: letters, digits, '.', '_', '+' and '-', of which the first is a letter or
            a digit; at most 121 characters.

    Raises:
        WorkbenchError: if the name is something else.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,120}", name):
        raise WorkbenchError(
            f"run name {name!r}: use letters, digits, '.', '_', '+' and '-' (at most 121), and "
            "begin with a letter or a digit"
        )


def create(runs_dir: str | Path, name: str, config: Mapping[str, Any]) -> Run:
    """Creates a run directory with a config.yaml, in state "queued".

    Args:
        runs_dir: The folder of the run directories. It is created if it is missing.
        name: The name. If it exists already, "-2", "-3", ... is appended.
        config: The settings, as plain values.

    Returns:
        The run.

    Raises:
        WorkbenchError: if the name is invalid, or if the folder cannot be created or written to.
            No run directory remains then.
    """
    check_name(name)
    root = Path(runs_dir)
    for number in range(1, 10_000):
        path = root / (name if number == 1 else f"{name}-{number}")
        try:
            path.mkdir(parents=True)
            break
        except FileExistsError:
            if not root.is_dir():
                raise WorkbenchError(f"{root}: is a file, expected a folder for the runs") from None
        except OSError as error:
            raise WorkbenchError(f"{path}: cannot be created ({error.strerror})") from None
    run = Run(path)
    try:
        run.write_config(config)
        run.set_status("queued")
    except BaseException:
        shutil.rmtree(path, ignore_errors=True)
        raise
    return run


def timestamped(prefix: str) -> str:
    """Returns a name with the current date and time: arcface-seresnet18-20261121-1405.

    Args:
        prefix: The beginning of the name.
    """
    return f"{prefix}-{datetime.now():%Y%m%d-%H%M}"


def open(path: str | Path | Run) -> Run:
    """Opens a run directory.

    Args:
        path: The directory. A `Run` is returned unchanged.

    Returns:
        The run.

    Raises:
        WorkbenchError: if the directory is missing (the message suggests a similar one), or if it
            has no config.yaml.
    """
    if isinstance(path, Run):
        return path
    folder = Path(path)
    if not folder.is_dir():
        raise unknown_name("run", str(path), [str(run.path) for run in list(folder.parent)])
    if not (folder / CONFIG).is_file():
        inside = [run.name for run in list(folder)]
        hint = f"; did you mean {folder / inside[0]}?" if inside else ""
        raise WorkbenchError(f"{folder}: not a run directory (it has no {CONFIG}){hint}")
    return Run(folder)


def list(runs_dir: str | Path = "runs") -> builtins.list[Run]:
    """Returns the run directories in a folder, the newest first.

    Args:
        runs_dir: The folder. If it is missing, the list is empty.

    Returns:
        The runs, sorted by the time of their config.yaml.
    """
    root = Path(runs_dir)
    if not root.is_dir():
        return []
    paths = [path for path in root.iterdir() if (path / CONFIG).is_file()]
    newest_first = sorted(paths, key=lambda path: (-(path / CONFIG).stat().st_mtime, path.name))
    return [Run(path) for path in newest_first]
