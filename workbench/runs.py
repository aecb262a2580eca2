"""The run directory: all that training leaves behind, and all that looking at a run needs.

    config.yaml          everything needed to run it again
    environment.json     versions, device, precision, git commit, fingerprint of the data
    metrics.jsonl        one object a line: step, epoch, loss, accuracy, lr, images_per_second, ...
    broken.txt           a line an image that could not be read and was left out (`broken: skip`); only where there are such
    last.ckpt            model, loss, optimiser, sampler position, RNG: to resume
    model.safetensors    weights of the backbone ("backbone.*") and the class centres ("loss.*")
    model.onnx           in its place where an ONNX file was imported
    evaluation/NAME.json + NAME.npz    figures of one benchmark, and the arrays to draw them again
    status.json          queued | running (with heartbeat) | finished | failed (why) | stopped; step reached, step of the checkpoint
    run.lock             empty; the operating system's lock on it is held by whoever trains the run, and ends with its process

Files are written under a temporary name in the same folder and renamed, so a reader never sees half of one.
Nothing here needs torch.
"""

from __future__ import annotations

import builtins
import json
import os
import re
import shutil
import time
import uuid
from collections.abc import Iterator, Mapping
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
CHECKPOINT, MODEL, STATUS, EVALUATION = (
    "last.ckpt",
    "model.safetensors",
    "status.json",
    "evaluation",
)
BROKEN, LOCK = "broken.txt", "run.lock"

ONNX_MODEL = "model.onnx"
IMPORTED, ONNX = "imported", "onnx"
"""What config.yaml has as `loss` where a model came from elsewhere, and as `backbone` where it came as an ONNX file."""

MADE_WITH = "made_with"
"""Key of the metadata of model.safetensors under which the settings are that its weights belong to, as JSON."""
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

STATES = ("queued", "running", "finished", "failed", "stopped")
HEARTBEAT_SECONDS = 5.0
STALE_SECONDS = 120.0
"""A run that says "running" without a sign of life for this long is shown as "stalled"."""
LOCK_SECONDS = 1.0
"""How long a lock is waited for: whoever only looks whether it is held has it for an instant."""


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write a JSON file atomically."""
    write_text(path, _as_json(value))


def _as_json(value: Mapping[str, Any]) -> str:
    return json.dumps(value, indent=2, allow_nan=False) + "\n"


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        WorkbenchError: missing, not JSON, or not an object.
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
    """YAML 1.1 takes 1e-3, without a point, for text; here it is the number it looks like."""


class _Dumper(yaml.SafeDumper):
    """Puts a text such as "1e3" into quotes, so that it is read as a text again."""


for _kind in (_Loader, _Dumper):
    _kind.add_implicit_resolver(
        "tag:yaml.org,2002:float", re.compile(r"[+-]?[0-9]+[eE][+-]?[0-9]+$"), list("+-0123456789")
    )


def read_yaml(text: str) -> Any:
    """A YAML text's value, tags for Python's objects refused.

    Raises:
        ValueError: not YAML, or a date such as 2026-13-45.
    """
    try:
        return yaml.load(text, _Loader)  # a SafeLoader
    except (yaml.YAMLError, RecursionError) as error:
        raise ValueError(" ".join(str(error).split())) from None


def read_settings(path: Path) -> dict[str, Any]:
    """Read a YAML file of settings.

    Raises:
        WorkbenchError: missing, not YAML, or not a mapping.
    """
    try:
        value = read_yaml(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise WorkbenchError(f"{path}: cannot be read ({error.strerror})") from None
    except ValueError as error:  # a file that is not UTF-8 too
        raise WorkbenchError(f"{path}: not valid YAML ({' '.join(str(error).split())})") from None
    if not isinstance(value, dict):
        raise WorkbenchError(
            f"{path}: expected settings 'name: value', found {type(value).__name__}"
        )
    return value


@dataclass(frozen=True)
class Run:
    """One run directory. Opening it reads nothing; each property reads its file, once."""

    path: Path

    @property
    def name(self) -> str:
        return self.path.name

    @cached_property
    def config(self) -> dict[str, Any]:
        """config.yaml. Raises WorkbenchError where it is missing or not a mapping."""
        return read_settings(self.path / CONFIG)

    @property
    def model_path(self) -> Path:
        """File of the network: model.onnx where config.yaml says `backbone: onnx`, else model.safetensors. Raises as `config`."""
        return self.path / (ONNX_MODEL if self.config.get("backbone") == ONNX else MODEL)

    @cached_property
    def environment(self) -> dict[str, Any]:
        """environment.json."""
        return read_json(self.path / ENVIRONMENT)

    @property
    def data_folder(self) -> str | None:
        """The folder from which a relative path in `config["data"]` is meant; None where the run does not say."""
        recorded = self.environment.get("data")
        folder = recorded.get("folder") if isinstance(recorded, dict) else None
        return folder if isinstance(folder, str) else None

    @property
    def status(self) -> dict[str, Any]:
        """status.json as it is now: `state`, `heartbeat` (seconds since 1970), `message`, progress."""
        return read_json(self.path / STATUS)

    @property
    def state(self) -> str:
        """One of `STATES`, or "stalled" for a run that is said to be running while nobody does so.

        Nobody does where the last heartbeat is old, or where the run's lock is free. The lock of a run on a read-only
        disk cannot be looked at; the heartbeat alone decides there.
        """
        status = self.status
        state = str(status.get("state"))
        heartbeat = status.get("heartbeat")
        alive = isinstance(heartbeat, int | float) and time.time() - heartbeat <= STALE_SECONDS
        return "stalled" if state == "running" and (not alive or self._lock_is_free()) else state

    @contextmanager
    def lock(self) -> Iterator[None]:
        """While inside, this process alone trains the run. The lock ends with the process, however that ends.

        Raises:
            WorkbenchError: another process has it, or the folder cannot be written to or knows no locks.
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
                f"{self.path / LOCK}: cannot be locked ({reason}); a run is trained in a folder that can be written to, "
                "on a file system with locks"
            ) from None
        try:
            yield
        finally:
            lock.release()

    def _lock_is_free(self) -> bool:
        """Whether certainly nobody trains the run; False where that cannot be found out."""
        if not (self.path / LOCK).is_file():
            return False
        try:
            with FileLock(self.path / LOCK, timeout=0):
                return True
        except (Timeout, OSError, NotImplementedError):
            return False

    def write_config(self, config: Mapping[str, Any]) -> None:
        """Write config.yaml, of plain values."""
        self.__dict__.pop("config", None)  # what was read before
        write_text(
            self.path / CONFIG,
            yaml.dump(dict(config), Dumper=_Dumper, sort_keys=False, allow_unicode=True),
        )

    def write_environment(self, environment: Mapping[str, Any]) -> None:
        """Write environment.json."""
        self.__dict__.pop("environment", None)
        write_json(self.path / ENVIRONMENT, environment)

    def metrics(self) -> pd.DataFrame:
        """metrics.jsonl as a table, one row a logged step. A last line that was cut off is left out."""
        import pandas as pd

        return pd.DataFrame(builtins.list(read_metrics(self.path / METRICS)))

    def set_status(self, state: str, **details: Any) -> None:
        """Write status.json with the time of writing as heartbeat."""
        if state not in STATES:
            raise unknown_name("run state", state, STATES)
        write_json(self.path / STATUS, {"state": state, "heartbeat": time.time(), **details})

    def evaluations(self) -> builtins.list[str]:
        """Names of the benchmarks this run was evaluated on, sorted."""
        return sorted(path.stem for path in (self.path / EVALUATION).glob("*.json"))

    def figures(self, name: str) -> dict[str, Any]:
        """The figures alone of a stored evaluation. Raises WorkbenchError where they are missing or damaged."""
        return read_json(self.path / EVALUATION / f"{name}.json")

    def evaluation(self, name: str) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """What was stored for benchmark `name`: the figures, and the arrays.

        Raises:
            WorkbenchError: not evaluated on it, or a file is damaged.
        """
        if name not in self.evaluations():
            raise unknown_name(f"evaluation of run {self.name}", name, self.evaluations())
        path = self.path / EVALUATION / f"{name}.npz"
        try:
            with np.load(path, allow_pickle=False) as archive:
                arrays = {key: archive[key] for key in archive.files}
        except Exception as error:  # a broken archive raises OSError, ValueError, BadZipFile, zlib.error, struct.error, ...
            reason = " ".join(str(error).split())[:160]
            raise WorkbenchError(
                f"{path}: damaged ({reason}); run `workbench evaluate` again"
            ) from None
        figures = read_json(path.with_suffix(".json"))
        written = arrays.pop(_WRITTEN, None)
        if figures.pop(_WRITTEN, None) != (None if written is None else str(written)):
            raise WorkbenchError(
                f"{path}: is of another evaluation than {path.stem}.json, one of them was replaced; run `workbench evaluate` again"
            )
        return figures, arrays

    def save_evaluation(
        self, name: str, figures: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]
    ) -> None:
        """Store one evaluation: both files are on the disk before either takes its place, so that they belong together.

        Raises:
            WorkbenchError: the folder cannot be written to, or the disk is full; what was stored before is left as it was.
        """
        folder = self.path / EVALUATION
        check_writable(folder)
        folder.mkdir(exist_ok=True)
        written = uuid.uuid4().hex  # the two files are found to be of different evaluations by it
        with (
            FileLock(
                self.path / ".evaluation.lock"
            ),  # of two processes that evaluate at the same time, one comes after the other
            atomic_path(folder / f"{name}.json") as figures_file,
            atomic_path(
                folder / f"{name}.npz"
            ) as arrays_file,  # takes its place first, as the .json announces it
        ):
            with arrays_file.open("wb") as file:
                np.savez_compressed(
                    file, allow_pickle=False, **{_WRITTEN: np.array(written), **arrays}
                )
                _to_disk(file)
            with figures_file.open("w", encoding="utf-8") as text:
                text.write(_as_json({**figures, _WRITTEN: written}))
                _to_disk(text)


_WRITTEN = "written"


def _to_disk(file: IO[Any]) -> None:
    """A full disk is sometimes found only now."""
    file.flush()
    os.fsync(file.fileno())


def made_with(config: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a config.yaml without which weights are of no use: the network's shape and how its input is scaled.

    Those that config.yaml leaves out are left out here too, but for the order of colours, which was RGB before there was another.
    """
    size = config.get("image_size")
    normal = {
        "channels": "rgb",
        **config,
        "image_size": [size, size] if isinstance(size, int) else size,
    }
    return {key: normal[key] for key in _SHAPING if normal.get(key) is not None}


def read_metrics(path: Path) -> Iterator[dict[str, Any]]:
    """The objects of a metrics.jsonl in order; lines that are not whole JSON objects are passed over."""
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
    """Raises WorkbenchError where a run cannot be called so: the name is no plain folder name."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,120}", name):
        raise WorkbenchError(
            f"run name {name!r}: use letters, digits, '.', '_', '+' and '-' (at most 121)"
        )


def create(runs_dir: str | Path, name: str, config: Mapping[str, Any]) -> Run:
    """Make a new run directory with its config.yaml, state "queued".

    Args:
        runs_dir: the folder of runs; made if missing.
        name: wished name; "-2", "-3", ... is appended where it is taken.
        config: plain values only.

    Raises:
        WorkbenchError: the name is no plain folder name, or the folder cannot be made or written to; none is left then.
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
            raise WorkbenchError(f"{path}: cannot be made ({error.strerror})") from None
    run = Run(path)
    try:
        run.write_config(config)
        run.set_status("queued")
    except BaseException:
        shutil.rmtree(path, ignore_errors=True)
        raise
    return run


def timestamped(prefix: str) -> str:
    """`prefix` with today's date and time behind it, as run names have it: arcface-seresnet18-20261121-1405."""
    return f"{prefix}-{datetime.now():%Y%m%d-%H%M}"


def open(path: str | Path | Run) -> Run:
    """Open a run directory.

    Raises:
        WorkbenchError: no such folder (a similar one is suggested), or no config.yaml in it.
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
    """The run directories in a folder, newest first; empty where the folder is missing."""
    root = Path(runs_dir)
    if not root.is_dir():
        return []
    found = [path for path in root.iterdir() if (path / CONFIG).is_file()]
    return [
        Run(path)
        for path in sorted(found, key=lambda path: (-(path / CONFIG).stat().st_mtime, path.name))
    ]
