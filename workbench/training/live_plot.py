"""A callback that draws the metrics in a notebook while the training runs."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from workbench.errors import WorkbenchError
from workbench.training.callbacks import Callback, Training


class LivePlot(Callback):
    """Draws training curves below a notebook cell, and updates them while the cell runs.

    Args:
        columns: Columns of metrics.jsonl to draw, each in a figure of its own. Columns that a run
            does not log are left out.
        seconds: Smallest time between two updates, >= 0. Drawing takes time from the training.

    Raises:
        WorkbenchError: if it is created outside a notebook.

    Example:
        >>> import workbench as wb
        >>> config = wb.TrainConfig(data="synthfaces-mini", image_size=64)
        >>> live = wb.training.LivePlot(["loss", "accuracy"])  # doctest: +SKIP
        >>> run = wb.train(config, callbacks=[live], progress=False)  # doctest: +SKIP
    """

    def __init__(self, columns: Sequence[str] = ("loss", "accuracy"), seconds: float = 2.0) -> None:
        if not _in_notebook():
            raise WorkbenchError(
                "LivePlot draws in a notebook; in a terminal, watch the progress bar or the page "
                "Training of `workbench app`"
            )
        self.columns = [columns] if isinstance(columns, str) else list(columns)
        self.seconds = seconds
        self._rows: list[Mapping[Any, Any]] = []
        self._displays: dict[str, Any] = {}
        self._drawn_at = 0.0

    def on_start(self, training: Training) -> None:
        """Reads the rows of the part before, if the run is resumed, and removes old figures."""
        self._rows = [*training.run.metrics().to_dict("records")]
        self._displays = {}
        self._drawn_at = time.monotonic()

    def on_log(self, training: Training, row: Mapping[str, Any]) -> None:
        """Adds the row, and draws if the last update is old."""
        self._rows.append(dict(row))
        if time.monotonic() - self._drawn_at >= self.seconds:
            self._draw(training)

    def on_end(self, training: Training, state: str) -> None:
        """Draws the last rows."""
        self._draw(training)

    def _draw(self, training: Training) -> None:
        import pandas as pd
        from IPython.display import display

        from workbench import plots

        table = pd.DataFrame(self._rows)
        for column in self.columns:
            if column not in table:
                continue
            figure = plots.training_curves({training.run.name: table}, column)
            # Plotly's own display cannot be updated, so its data are handed to the notebook.
            bundle = figure._repr_mimebundle_()
            if column in self._displays:
                self._displays[column].update(bundle, raw=True)
            else:
                handle = display(bundle, raw=True, display_id=True)  # type: ignore[no-untyped-call]
                self._displays[column] = handle
        self._drawn_at = time.monotonic()


def _in_notebook() -> bool:
    """Whether the code runs in a kernel, which shows figures and can update them."""
    try:
        from IPython import get_ipython
    except ImportError:
        return False
    shell = get_ipython()
    return shell is not None and hasattr(shell, "kernel")
