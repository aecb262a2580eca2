"""The page of the leaderboard: a table of runs and benchmarks, and the states of the runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pandas as pd
import streamlit as st

from workbench import evaluation, plots, runs
from workbench.dashboard import loading
from workbench.dashboard.loading import Selection
from workbench.dashboard.views.parts import chart, collect, nothing_evaluated, protocol
from workbench.errors import WorkbenchError

MOST_CLASSES = 25
"""Largest number of classes that are drawn in one confusion matrix."""


def show(selection: Selection) -> None:
    """Draws the page."""
    st.title("Leaderboard")
    name = selection.benchmark
    if name is None:
        nothing_evaluated(selection)
    else:
        table = loading.leaderboard(selection.chosen)
        if table["accuracy"].notna().any():
            st.markdown(
                "Accuracy of each run on each benchmark (rank-1 for identification), with its "
                "95 % interval. Overlapping intervals do not mean that two runs are equally good, "
                "because both are measured on the same pairs; the paired difference of the runs "
                "shows whether they differ."
            )
            chart(plots.accuracy(table), "accuracy")
        results = collect(selection.evaluated(), lambda run: _readable_result(run, name))
        for kind in dict.fromkeys(result.kind for result in results.values()):
            of_kind = {run: result for run, result in results.items() if result.kind == kind}
            section = _SECTIONS.get(kind, _headlines)
            section(name, of_kind, table, [run for run in selection.chosen if run.name in of_kind])
    _states(selection)


def _readable_result(run: runs.Run, name: str) -> evaluation.Result:
    """Returns a stored result.

    Raises:
        WorkbenchError: if the result or the run's settings cannot be read.
    """
    _ = run.config
    return loading.result(run, name)


def _pairs(
    name: str,
    results: Mapping[str, evaluation.VerificationResult],
    table: pd.DataFrame,
    evaluated: Sequence[runs.Run],
) -> None:
    caption = "In brackets: 95 % interval."
    with_accuracy = [result for result in results.values() if result.has_accuracy]
    if with_accuracy:
        caption = f"Accuracy: mean over the folds. {caption}"
    if well_supported := [
        far for one in results.values() for far in one.tar_at_far if one.well_supported(far)
    ]:
        caption += (
            f" At a FAR of {min(well_supported):g} or more, at least 30 false accepts are "
            "expected (Doddington's rule of 30)."
        )
    _figures(
        name,
        results,
        table,
        {"accuracy": ("Accuracy", 1), "auc": ("AUC", 2), "eer": ("EER", 1)},
        caption,
    )
    if len(with_accuracy) > 1:
        _best(name, [run for run in evaluated if results[run.name].has_accuracy])


def _best(name: str, evaluated: Sequence[runs.Run]) -> None:
    """Draws whether one run is more accurate than each of the others.

    The test is corrected for the number of comparisons.
    """
    try:
        best = loading.clearly_best(evaluated, name)
    except WorkbenchError as error:
        st.caption(f"No best run is marked: {error}")
        return
    count = len(evaluated) * (len(evaluated) - 1) // 2
    comparisons = "comparison" if count == 1 else "comparisons"
    how = (
        "by paired differences on the same pairs, with Holm's correction for "
        f"{count:,} {comparisons}"
    )
    if best is None:
        st.markdown(f"**No run is clearly the best** of these ({how}).")
    else:
        st.markdown(
            f":material/trophy: **{best}** is more accurate than each of the others ({how})."
        )
    st.caption(
        "This is a statement about these runs, not about their losses: the same loss trained with "
        "another seed gives another run."
    )


def _identified(
    name: str,
    results: Mapping[str, evaluation.IdentificationResult],
    table: pd.DataFrame,
    evaluated: Sequence[runs.Run],
) -> None:
    first = next(iter(results.values()))
    caption = (
        f"Rank-1: share of probes whose person scores highest, among {first.enrolled:,} people in "
        f"the gallery and {first.distractors:,} distractors. In brackets: 95 % interval, from a "
        "bootstrap over people."
    )
    _figures(name, results, table, {"accuracy": ("Rank-1", 1)}, caption)


def _figures(
    name: str,
    results: Mapping[str, evaluation.Result],
    table: pd.DataFrame,
    titles: Mapping[str, tuple[str, int]],
    caption: str,
) -> None:
    st.subheader(f"On {name}")
    rows = table[(table["benchmark"] == name) & table["run"].isin(results)].dropna(
        axis="columns", how="all"
    )
    shown, supported = _readable(rows, titles)
    st.dataframe(shown.style.apply(lambda _: _grey(supported), axis=None), hide_index=True)
    st.caption(
        f"{caption} Grey: fewer than 10 false accepts are expected at this rate; the figure is "
        "biased upwards, and the brackets give a lower and an upper bound."
    )
    left, right, _ = st.columns([1, 1, 4])
    left.download_button(
        "CSV", rows.to_csv(index=False), f"{name}.csv", "text/csv", icon=":material/download:"
    )
    right.download_button(
        "LaTeX", shown.to_latex(index=False, escape=True), f"{name}.tex", icon=":material/download:"
    )
    protocol(results)


def _readable(
    rows: pd.DataFrame, titles: Mapping[str, tuple[str, int]]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Returns the cells as texts, and for each whether there are enough impostor pairs for it.

    Args:
        rows: rows of the leaderboard.
        titles: {column: (heading, digits)}. All TAR columns of `rows` are added after these.
    """
    columns: dict[str, list[str]] = {"Run": list(rows["run"])}
    supported = {"Run": [True] * len(rows)}

    def add(title: str, key: str, digits: int = 1) -> None:
        def cell(row: pd.Series) -> str:
            text = f"{row[key]:.{digits}%}"
            if pd.notna(row.get(f"{key}_low")):
                text += f"  [{row[f'{key}_low']:.{digits}%}, {row[f'{key}_high']:.{digits}%}]"
            return text

        columns[title] = [cell(row) for _, row in rows.iterrows()]
        supported[title] = [bool(row.get(f"{key}_supported", True)) for _, row in rows.iterrows()]

    for key, (title, digits) in titles.items():
        if key in rows:
            add(title, key, digits)
    for key in rows.columns:
        if key.startswith("tar@") and key.count("_") == 0:
            add(f"TAR at FAR {float(key.removeprefix('tar@')):g}", key)
    return pd.DataFrame(columns), pd.DataFrame(supported)


def _grey(supported: pd.DataFrame) -> pd.DataFrame:
    return supported.map(lambda fine: "" if fine else "color: #B0B0B0")


def _closed_set(
    name: str,
    results: Mapping[str, evaluation.ClosedSetResult],
    table: pd.DataFrame,
    evaluated: Sequence[runs.Run],
) -> None:
    st.subheader(f"On {name}: true and predicted classes")
    for run, result in results.items():
        low, high = result.interval
        st.markdown(
            f"**{run}**: {result.accuracy:.2%} of {len(result.labels):,} images correct, 95 % "
            f"interval {low:.2%} to {high:.2%}"
        )
        if len(result.class_names) > MOST_CLASSES:
            st.caption(
                f"The {MOST_CLASSES} of {len(result.class_names):,} classes with the most mistakes."
            )
        chart(
            plots.confusion(result.confusion, result.class_names, MOST_CLASSES), f"confusion-{run}"
        )
    protocol(results)


def _attributes(
    name: str,
    results: Mapping[str, evaluation.AttributesResult],
    table: pd.DataFrame,
    evaluated: Sequence[runs.Run],
) -> None:
    st.subheader(f"On {name}: attributes")
    for run, result in results.items():
        st.markdown(f"**{run}**: {result.summary()}")
        for task, classes in result.classes.items():
            st.caption(
                f"{task}: {len(classes.labels):,} images; always answering the most frequent class "
                f"would be right in {classes.baseline:.1%}"
            )
            matrix = plots.confusion(classes.confusion, classes.class_names, MOST_CLASSES)
            chart(matrix, f"confusion-{run}-{task}")
        for task, numbers in result.numbers.items():
            st.caption(
                f"{task}: {len(numbers.true):,} images; always answering the median would be off "
                f"by {numbers.baseline:.1f} {result.unit(task)} on average"
            )
            drawn = plots.calibration(numbers, result.attributes[task], result.unit(task))
            chart(drawn, f"calibration-{run}-{task}")
    protocol(results)


def _headlines(
    name: str,
    results: Mapping[str, evaluation.Result],
    table: pd.DataFrame,
    evaluated: Sequence[runs.Run],
) -> None:
    """Draws one line for each result, for kinds of results that have no section of their own."""
    st.subheader(f"On {name}")
    for run, result in results.items():
        st.markdown(f"**{run}**: {result.summary()}")
    protocol(results)


_SECTIONS: Mapping[str, Callable[..., None]] = {
    evaluation.VerificationResult.kind: _pairs,
    evaluation.IdentificationResult.kind: _identified,
    evaluation.ClosedSetResult.kind: _closed_set,
    evaluation.AttributesResult.kind: _attributes,
}
"""Section of the page for each kind of result."""


def _states(selection: Selection) -> None:
    st.subheader("Runs")
    rows = [_state(run) for run in selection.chosen]
    st.dataframe(pd.DataFrame(rows), hide_index=True)


def _state(run: runs.Run) -> dict[str, str]:
    try:
        status, config = run.status, run.config
    except WorkbenchError as error:
        return {"Run": run.name, "State": "unreadable", "Message": str(error)}
    done = (
        f"{status['step']} of {status['total']}" if "step" in status and "total" in status else ""
    )
    options = ", ".join(
        f"{key} = {value:g}" if isinstance(value, float) else f"{key} = {value}"
        for key, value in _options(config)
    )
    return {
        "Run": run.name,
        "State": run.state,
        "Loss": f"{config.get('loss')} {options}".strip(),
        "Backbone": str(config.get("backbone")),
        "Data": str(config.get("data", "")),  # an imported model has no data and no epochs
        "Epochs": str(config.get("epochs", "")),
        "Steps": done,
        "Message": str(status.get("message", "")),
    }


def _options(config: Mapping[str, Any]) -> list[tuple[str, Any]]:
    options = config.get("loss_options")
    return list(options.items()) if isinstance(options, Mapping) else []
