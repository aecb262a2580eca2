"""Interrupting a training after a number of epochs."""

from __future__ import annotations

from workbench import runs
from workbench.errors import WorkbenchError
from workbench.training.callbacks import Callback, Training


class StopAfter(Callback):
    """Interrupts a training after a number of epochs, as Ctrl-C would.

    The schedules are those of the whole training, so that a resumed run gives the same weights as
    one that was never interrupted.

    Args:
        epochs: Number of epochs, at least 1, counted from the beginning of the run.

    Attributes:
        run: The run that was interrupted; None if none was.

    Raises:
        WorkbenchError: if `epochs` is not a positive integer.
    """

    def __init__(self, epochs: int) -> None:
        if type(epochs) is not int or epochs < 1:
            raise WorkbenchError(
                f"stop_after is {epochs!r}, expected a number of epochs, at least 1"
            )
        self.epochs = epochs
        self.run: runs.Run | None = None

    def on_start(self, training: Training) -> None:
        """Interrupts a resumed run that was trained for so many epochs already."""
        self._stop_if_due(training)

    def on_epoch_end(self, training: Training) -> None:
        """Interrupts the training if enough epochs are done and others would follow."""
        self._stop_if_due(training)

    def _stop_if_due(self, training: Training) -> None:
        if self.epochs <= training.epoch and training.step < training.total:
            self.run = training.run
            raise KeyboardInterrupt(f"stopped after {self.epochs} epochs")
