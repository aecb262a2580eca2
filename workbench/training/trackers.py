"""Experiment trackers: callbacks that also send settings and metrics to TensorBoard, W&B, ...

They are switched on by the setting `trackers`. Each needs the extra of its name, and stores its
data where its own environment variables say, so that it can work offline.
"""

from __future__ import annotations

import json
import math
import os
import time
import uuid
import warnings
from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping
from importlib.util import find_spec
from typing import Any, ClassVar

from workbench import runs
from workbench.errors import WorkbenchWarning, missing_extra
from workbench.registry import Registry
from workbench.training.callbacks import Callback, Training

TRACKERS: Registry[Tracker] = Registry("tracker")
PROJECT = "margin-workbench"
"""Name of the project or experiment, unless the tracker's environment variable gives another."""
LONGEST_PARAMETER = 500
"""Number of characters of a setting that MLflow stores; a longer text is shortened."""


class Tracker(Callback):
    """Base class of trackers: sends the rows of metrics.jsonl to one run of an experiment tracker.

    Subclasses define `start`, `log` and `finish`. The name of the tracker's run and the last step
    that was sent are kept in the run directory, in trackers/NAME.json. A resumed training therefore
    continues the same run of the tracker, and rows that are computed again are not sent twice.

    An error at the start stops the training, as for every callback. If a tracker fails later, for
    example because the network is down, the training continues without it, and a warning is given.

    Attributes:
        name: Name of the tracker in the setting `trackers`.
        package: Package that it needs; the extra has the name of the tracker.
    """

    name: ClassVar[str]
    package: ClassVar[str]

    def on_start(self, training: Training) -> None:
        """Starts or continues the run of the tracker."""
        self._path = training.run.path / runs.TRACKERS / f"{self.name}.json"
        stored = runs.read_json(self._path) if self._path.is_file() else {}
        self.last_step = int(stored.get("step", -1))
        self.last: dict[str, float] = {}
        self.failed = False
        self.id = self.start(training, stored.get("id"))
        self._path.parent.mkdir(exist_ok=True)
        self._remember()

    def on_log(self, training: Training, row: Mapping[str, Any]) -> None:
        """Sends a row, unless it was sent before the training was resumed."""
        self.last = {key: value for key, value in row.items() if _is_number(key, value)}
        step = int(row["step"])
        if step > self.last_step:
            self._try(lambda: self.log(step, self.last))
            self.last_step = step
            self._remember()

    def on_end(self, training: Training, state: str) -> None:
        """Sends the state of the run and its last metrics, and ends the run of the tracker."""
        if hasattr(self, "id"):
            self._try(lambda: self.finish(state, self.last))

    @abstractmethod
    def start(self, training: Training, earlier: str | None) -> str:
        """Starts the run of the tracker.

        Args:
            training: The state of the training.
            earlier: Identifier of the tracker's run to continue; None for a new one.

        Returns:
            The identifier of the tracker's run.
        """

    @abstractmethod
    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Sends the values of a step.

        Args:
            step: Number of the step.
            values: Finite numbers by column name.
        """

    @abstractmethod
    def finish(self, state: str, values: Mapping[str, float]) -> None:
        """Ends the run of the tracker.

        Args:
            state: "finished", "stopped" or "failed".
            values: The last values, as a summary.
        """

    def _remember(self) -> None:
        runs.write_json(self._path, {"id": self.id, "step": self.last_step})

    def _try(self, send: Callable[[], None]) -> None:
        """Calls a function, and stops using the tracker if it fails."""
        if self.failed:
            return
        try:
            send()
        except Exception as error:
            self.failed = True
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            warnings.warn(
                WorkbenchWarning(
                    f"{self.name} failed and receives no more metrics of this training, which "
                    f"continues; metrics.jsonl has all of them ({reason})"
                ),
                stacklevel=2,
            )


def create_trackers(names: Iterable[str]) -> list[Callback]:
    """Creates trackers by name.

    Args:
        names: Names of trackers; repeated names count once.

    Returns:
        The trackers.

    Raises:
        WorkbenchError: if a name is unknown, or the package of a tracker is not installed.

    Example:
        >>> from workbench.training.trackers import create_trackers
        >>> create_trackers([])
        []
    """
    trackers: list[Callback] = []
    for name in dict.fromkeys(names):
        tracker = TRACKERS.create(name)
        if find_spec(tracker.package) is None:
            raise missing_extra(tracker.package, name, f"the tracker {name}")
        trackers.append(tracker)
    return trackers


@TRACKERS.register("tensorboard")
class TensorBoard(Tracker):
    """Writes TensorBoard's event files to the folder `tensorboard` of the run directory."""

    name = "tensorboard"
    package = "tensorboard"

    def start(self, training: Training, earlier: str | None) -> str:
        """Opens the event file, and writes the settings as a text."""
        from torch.utils.tensorboard import SummaryWriter

        self.writer = SummaryWriter(training.run.path / "tensorboard")
        if earlier is None:
            settings = json.dumps(training.config.plain(), indent=2)
            self._text("config", f"```json\n{settings}\n```", training.step)
        return training.run.name

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Writes scalars, and flushes them so that a crash loses none."""
        for key, value in values.items():
            self.writer.add_scalar(key, value, step)
        self.writer.flush()

    def finish(self, state: str, values: Mapping[str, float]) -> None:
        """Writes the state and the last values as a text."""
        lines = [f"state: {state}", *(f"{key}: {value:.6g}" for key, value in values.items())]
        self._text("summary", "  \n".join(lines), max(self.last_step, 0))
        self.writer.close()

    def _text(self, tag: str, text: str, step: int) -> None:
        self.writer.add_text(tag, text, step)


@TRACKERS.register("wandb")
class WeightsAndBiases(Tracker):
    """Sends to Weights & Biases; with WANDB_MODE=offline it writes to the run directory only."""

    name = "wandb"
    package = "wandb"

    def start(self, training: Training, earlier: str | None) -> str:
        """Starts or continues the run of that identifier."""
        import wandb

        identifier = earlier or uuid.uuid4().hex[:12]
        self.run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            id=identifier,
            name=training.run.name,
            dir=str(training.run.path),
            config=training.config.plain(),
            resume="allow",
            reinit="create_new",  # does not end a run that the user has open
        )
        return identifier

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Sends the values under their names."""
        self.run.log(dict(values), step=step)

    def finish(self, state: str, values: Mapping[str, float]) -> None:
        """Writes the state to the summary, which has the last values already."""
        self.run.summary["state"] = state
        self.run.finish(exit_code=int(state == "failed"))


@TRACKERS.register("mlflow")
class MLflow(Tracker):
    """Sends to MLflow: to MLFLOW_TRACKING_URI, by default MLflow's local database mlflow.db."""

    name = "mlflow"
    package = "mlflow"

    def start(self, training: Training, earlier: str | None) -> str:
        """Starts or continues a run of the experiment MLFLOW_EXPERIMENT_NAME."""
        from mlflow import MlflowClient
        from mlflow.entities import Param

        self.client = MlflowClient()
        if earlier is not None:
            self.client.update_run(earlier, status="RUNNING")
            return earlier
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)
        experiment = self.client.get_experiment_by_name(name)
        identifier = experiment.experiment_id if experiment else self.client.create_experiment(name)
        run: str = self.client.create_run(identifier, run_name=training.run.name).info.run_id
        settings = training.config.plain().items()
        parameters = [Param(key, str(value)[:LONGEST_PARAMETER]) for key, value in settings]
        self.client.log_batch(run, params=parameters)
        return run

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Sends the values under their names."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        metrics = [Metric(key, value, now, step) for key, value in values.items()]
        self.client.log_batch(self.id, metrics=metrics)

    def finish(self, state: str, values: Mapping[str, float]) -> None:
        """Sets the state; MLflow shows the last values by itself."""
        self.client.set_tag(self.id, "state", state)
        status = {"finished": "FINISHED", "stopped": "KILLED"}.get(state, "FAILED")
        self.client.set_terminated(self.id, status)


@TRACKERS.register("trackio")
class Trackio(Tracker):
    """Writes to trackio's local database, whose folder TRACKIO_DIR sets."""

    name = "trackio"
    package = "trackio"

    def start(self, training: Training, earlier: str | None) -> str:
        """Starts or continues the run of that name."""
        import trackio

        # trackio finds a run to continue by its name, so names must differ between runs.
        identifier = earlier or f"{training.run.name}-{uuid.uuid4().hex[:6]}"
        self.run = trackio.init(
            project=os.environ.get("TRACKIO_PROJECT", PROJECT),
            name=identifier,
            config=training.config.plain(),
            resume="allow",
            embed=False,
        )
        return identifier

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Sends the values under their names."""
        self.run.log(dict(values), step=step)

    def finish(self, state: str, values: Mapping[str, float]) -> None:
        """Sends the state as 1 for "finished", else 0, since trackio has no summary."""
        self.run.log({"finished": float(state == "finished")}, step=max(self.last_step, 0))
        self.run.finish()


def _is_number(key: str, value: Any) -> bool:
    return key != "step" and isinstance(value, int | float) and math.isfinite(value)
