"""Runs side by side: one table of runs x benchmarks."""

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
    """One row per run and benchmark that it was evaluated on.

    Args:
        chosen: runs. benchmarks: names to keep; all by default.

    Returns:
        Columns run, loss, backbone, benchmark, protocol (of pairs), kind, accuracy, std, accuracy_low, accuracy_high, auc, eer,
        stale (whether the model was trained on since), left_out (the images that could not be read, in words), and for each FAR
        tar@FAR with _low, _high and _supported; missing figures are NaN. The accuracy of an identification is its rank-1; one of
        templates has none, as nearly all of IJB's pairs are impostors. Damaged evaluations are left out.
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
