"""The page of what is being trained now. It is redrawn every few seconds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from workbench import evaluation, plots, runs
from workbench.activity import Activity, read_activity
from workbench.dashboard import loading
from workbench.dashboard.loading import Selection
from workbench.dashboard.views.parts import chart, collect
from workbench.errors import WorkbenchError
from workbench.evaluation.sources import TRAIN

POLLED_EVERY, IDLE_EVERY = 2.0, 10.0
"""Seconds between two looks at the folder of runs, while something is trained and otherwise."""
STATES = {
    "waiting": "waiting",
    "rendering": "rendering images",
    "training": "training",
    "evaluating": "evaluating",
    "finished": "finished",
    "failed": "failed",
}
"""States of an entry of the queue, as the page shows them."""


def show(selection: Selection) -> None:
    """Draws the page."""
    st.title("Live")
    activity = read_activity(loading.folder_of(selection.runs_dir))
    is_busy = activity is not None and activity.is_working
    is_busy |= any(_state(run) == "running" for run in loading.list_runs(selection.runs_dir))
    draw = st.fragment(_now, run_every=POLLED_EVERY if is_busy else IDLE_EVERY)
    draw(selection.runs_dir)


def _now(folder: str) -> None:
    """Draws what is done at the moment in a folder of runs."""
    activity = read_activity(loading.folder_of(folder))
    available = loading.list_runs(folder)
    names = [] if activity is None else [entry.name for entry in activity.queue]
    states = {run.name: _state(run) for run in available}
    followed = [run for run in available if states[run.name] == "running" or run.name in names]
    followed.sort(key=lambda run: names.index(run.name) if run.name in names else len(names))
    is_working = activity is not None and activity.is_working
    if activity is not None:
        _doing(activity)
    for run in followed:
        if states[run.name] == "running":
            _progress(run)
    if activity is not None and activity.queue:
        _queue(activity, {run.name: run for run in followed})
    if not is_working and "running" not in states.values():
        _nothing(activity)
    _curves(followed)


def _state(run: runs.Run) -> str:
    try:
        return run.state
    except WorkbenchError:  # the run is just being created, or its files are damaged
        return "unreadable"


def _doing(activity: Activity) -> None:
    """Draws what the process does besides training, and what went wrong."""
    if activity.problem:
        st.error(f"The training ended: {activity.problem}", icon=":material/error:")
    elif activity.is_lost and activity.process:
        st.error(
            "The process that trained has ended without saving its state; the terminal may show "
            "the reason. Start it again to continue from the last checkpoint.",
            icon=":material/error:",
        )
    for entry in activity.queue:
        if entry.problem:
            st.error(f"{entry.title}: {entry.problem}", icon=":material/error:")
    if not activity.is_working or not activity.doing:
        return
    text = f"{activity.doing[:1].upper()}{activity.doing[1:]}"
    if activity.total:
        st.progress(
            min(activity.done / activity.total, 1.0),
            text=f"{text}: {activity.done:,} of {activity.total:,} images",
        )
        st.caption(
            "The images are rendered once and kept. The first ones take longer, because the "
            "renderer is compiled. Meanwhile, the other pages show the runs that are finished."
        )
    else:
        st.info(f"{text} ...", icon=":material/hourglass_top:")


def _progress(run: runs.Run) -> None:
    """Draws how far a run is trained."""
    try:
        status, metrics = run.status, loading.metrics(run)
        epochs, batch_size = float(run.config["epochs"]), int(run.config["batch_size"])
        step, total = int(status["step"]), int(status["total"])
    except (WorkbenchError, KeyError, TypeError, ValueError):
        return  # the run has just begun
    share = min(step / max(total, 1), 1.0)
    parts = [f"**{run.name}**: epoch {share * epochs:.1f} of {epochs:g}"]
    if len(metrics):
        last = metrics.iloc[-1]
        speed = float(last.get("images_per_second", 0.0))
        parts.append(f"loss {last['loss']:.2f}")
        if speed > 0:
            parts += [f"{speed:.0f} images/s", _in_words((total - step) * batch_size / speed)]
    st.progress(share, text=", ".join(parts))


def _in_words(seconds: float) -> str:
    """Returns a time that is left, such as "about 5 min left"."""
    if seconds < 60:
        return "less than a minute left"
    return f"about {seconds / 60:.0f} min left"


def _queue(activity: Activity, of_name: Mapping[str, runs.Run]) -> None:
    """Draws the runs of the queue with their states."""
    rows: list[dict[str, str]] = []
    for entry in activity.queue:
        run = of_name.get(entry.name)
        state = entry.state
        if state not in ("finished", "failed", "waiting") and not activity.is_working:
            state = "stopped"
        rows.append(
            {
                "run": entry.name or entry.title,
                "state": STATES.get(state, state),
                "epochs": "" if run is None else _epochs(run),
                **({} if run is None else _accuracies(run)),
            }
        )
    st.dataframe(pd.DataFrame(rows).fillna(""), hide_index=True)


def _epochs(run: runs.Run) -> str:
    try:
        status, epochs = run.status, run.config["epochs"]
        return f"{status['step'] / status['total'] * epochs:.1f} of {epochs}"
    except (WorkbenchError, KeyError, TypeError, ZeroDivisionError):
        return ""


def _accuracies(run: runs.Run) -> dict[str, str]:
    """Returns the last accuracy on each set of unseen people, by the title of its column."""
    return {
        f"accuracy on {name}": f"{loading.over_epochs(run, name)['accuracy'].iloc[-1]:.1%}"
        for name in _sets([run])
        if name != TRAIN
    }


def _nothing(activity: Activity | None) -> None:
    """Says that nothing is trained, and how to change that."""
    if activity is not None and activity.end == "finished":
        failed = any(entry.state == "failed" for entry in activity.queue)
        if not failed:
            st.success("All runs of the queue are trained and evaluated.", icon=":material/check:")
        return
    if activity is not None and activity.end == "stopped":
        st.info(
            "The training was stopped. The same command continues it, such as `workbench demo`.",
            icon=":material/pause:",
        )
        return
    if activity is None:
        st.info(
            "Nothing is trained in this folder at the moment. This page shows every training as "
            "soon as it begins:",
            icon=":material/terminal:",
        )
        st.code("workbench demo\nworkbench train --data synthfaces --loss arcface", "bash")


def _sets(chosen: Sequence[runs.Run]) -> list[str]:
    """Returns the names of the image sets in the snapshots of runs, that of training last."""
    names: dict[str, None] = {}
    for run in chosen:
        try:
            names |= dict.fromkeys(evaluation.snapshot_sets(loading.snapshots(run)))
        except WorkbenchError:
            continue  # `_curves` shows the reason
    return sorted(names, key=lambda name: name == TRAIN)


def _curves(followed: Sequence[runs.Run]) -> None:
    """Draws the curves of training, and what the snapshots show about unseen people."""
    metrics = {
        name: table for name, table in collect(followed, loading.metrics).items() if len(table)
    }
    snapshots = collect(followed, loading.snapshots)
    left, right = st.columns(2)
    with left:
        if metrics:
            chart(plots.training_curves(metrics, "loss"), "live-loss")
    sets = _sets([run for run in followed if snapshots.get(run.name)])
    if not sets:
        if metrics:
            right.caption(
                "The accuracy on unseen people is drawn here for runs that were trained with the "
                "setting `snapshots`."
            )
        return
    chosen = st.session_state.get("live-set", sets[0])
    name = chosen if chosen in sets else sets[0]
    having = [run for run in followed if name in _sets([run])]
    with right:
        chart(_accuracy_figure(having, name), "live-accuracy")
    st.selectbox(
        "Images",
        sets,
        key="live-set",
        format_func=_set_in_words,
        help="20 people with up to 10 images each, of which a snapshot is taken every epoch.",
    )
    chart(_angles_figure(having, name), "live-angles")
    st.caption(
        "All pairs of up to 200 images of 20 people, after each epoch. Accuracy: the mean of the "
        "accuracies on genuine and on impostor pairs at the best threshold. Move the slider, or "
        "press Play, to see how the two distributions come apart."
    )


def _snapshot_files(chosen: Sequence[runs.Run], name: str) -> list[Path]:
    return [path for run in chosen for path in run.snapshots()]


# The figures change once in an epoch, but the page is drawn every few seconds.
@loading.cached_by_files(_snapshot_files, st.cache_resource, max_entries=8)
def _accuracy_figure(chosen: Sequence[runs.Run], name: str) -> go.Figure:
    return plots.snapshot_curves({run.name: loading.over_epochs(run, name) for run in chosen})


@loading.cached_by_files(_snapshot_files, st.cache_resource, max_entries=8)
def _angles_figure(chosen: Sequence[runs.Run], name: str) -> go.Figure:
    return plots.snapshot_angles({run.name: loading.angles_of_epochs(run, name) for run in chosen})


def _set_in_words(name: str) -> str:
    if name == TRAIN:
        return "people of the training set"
    return f"unseen people of {name}"
