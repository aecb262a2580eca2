"""Compares runs in one table with a row per run and benchmark."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from workbench.errors import WorkbenchError
from workbench.evaluation.results import is_stale, load_result
from workbench.runs import Run

_NAMES = ("run", "loss", "backbone", "benchmark", "protocol", "kind")
COLUMNS = (
    *_NAMES,
    "accuracy",
    "std",
    "accuracy_low",
    "accuracy_high",
    "auc",
    "eer",
    "stale",
    "left_out",
)


def leaderboard(chosen: Sequence[Run], benchmarks: Sequence[str] | None = None) -> pd.DataFrame:
    """Build a table with one row per run and benchmark on which it was evaluated.

    Args:
        chosen: runs.
        benchmarks: names of evaluations to keep; by default all.

    Returns:
        Columns run, loss, backbone, benchmark, protocol (of pairs), kind, accuracy, std,
        accuracy_low, accuracy_high, auc, eer, stale (whether the run was trained on since its
        evaluation), left_out (description of images that could not be read), and for each FAR
        tar@FAR with _low, _high and _supported. A kind of result may add columns. Missing figures
        are NaN. The accuracy of an identification is its rank-1 rate. Templates have no accuracy,
        as nearly all pairs of IJB are impostor pairs. Damaged evaluations are left out.
    """
    rows = []
    for run in chosen:
        for name in run.evaluations():
            if benchmarks is not None and name not in benchmarks:
                continue
            try:
                rows.append(_row(run, name))
            except WorkbenchError:
                continue
    table = pd.DataFrame(rows)
    return table.reindex(columns=[*COLUMNS, *(column for column in table if column not in COLUMNS)])


def _row(run: Run, name: str) -> dict[str, Any]:
    result = load_result(run, name)
    return {
        "run": run.name,
        "loss": run.config.get("loss"),
        "backbone": run.config.get("backbone"),
        "benchmark": name,
        "protocol": result.protocol.get("protocol"),
        "kind": result.kind,
        "stale": is_stale(run, run.figures(name)),
        "left_out": result.protocol.get("left out", ""),
        **result.columns(),
    }
