"""Searching a space of settings with Optuna."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from workbench import runs
from workbench.errors import WorkbenchError, missing_extra
from workbench.evaluation import Result, load_result
from workbench.experiments.executing import Outcome, Tell
from workbench.experiments.jobs import Job
from workbench.experiments.matching import evaluations_of
from workbench.experiments.plan import Plan
from workbench.experiments.report import write_csv
from workbench.experiments.results import figure_of
from workbench.experiments.space import Search
from workbench.training import TrainConfig

STUDY, BEST = "study.db", "best.yaml"
"""Files of the study and of the settings of the best run, in the folder of the sweep."""
Execute = Callable[[Sequence[Job]], list[Outcome]]


@dataclass(frozen=True)
class SearchResult:
    """The result of a search.

    Attributes:
        plan: The plan.
        trials: One line for each trial: number, state, value (the figure on the validation
            benchmark) and the settings that were drawn.
        config: The settings of the best run; None if no trial succeeded.
        run: The best run; None if no trial succeeded.
        results: {spec of a benchmark: result of the best run}.
    """

    plan: Plan
    trials: pd.DataFrame
    config: TrainConfig | None
    run: runs.Run | None
    results: dict[str, Result]

    def __str__(self) -> str:
        """Returns the report in Markdown."""
        search = _search_of(self.plan)
        done = Counter(self.trials["state"])
        lines = [
            f"# {self.plan.name}",
            "",
            f"{done['COMPLETE']} of {search.trials} trials are finished, "
            f"{done['FAIL']} failed. They were judged by {search.objective}.",
        ]
        if self.run is None:
            return "\n".join(lines)
        scores = self.trials["score"].to_numpy(dtype=float)
        best = self.trials.iloc[int(np.nanargmax(scores))]
        drawn = ", ".join(f"{name} {best[name]}" for name in search.space)
        lines += [
            "",
            f"The best trial is number {best['number']}: {drawn}. Its settings are in "
            f"{self.plan.directory / BEST}, its run is {self.run.path}.",
            "",
            f"- {search.objective}: {best['score']:.4f}. It is the highest of several figures, so "
            "it is too optimistic.",
        ]
        lines += [f"- {name}: {result.summary()}" for name, result in self.results.items()]
        lines += [
            "",
            "These are figures of one run. To compare its settings with others, sweep both with "
            "several seeds.",
        ]
        return "\n".join(lines)


def search(plan: Plan, execute: Execute, count: int, tell: Tell) -> SearchResult:
    """Searches for the settings with the best figure on the validation benchmark.

    The study is stored in the folder of the sweep, so that an interrupted search continues: trials
    that were being trained are resumed first.

    Args:
        plan: The plan, which has a search.
        execute: Does jobs.
        count: Number of trials that are drawn together.
        tell: Function that is called with a line for each trial.

    Returns:
        The trials, and the best run with its results on the benchmarks of the plan.

    Raises:
        WorkbenchError: if Optuna is not installed, or if the stored study is one of another
            objective or other values.
        KeyboardInterrupt: if the user stopped the search.
    """
    with _optuna_messages() as optuna:
        study = _open_study(optuna, plan)
        try:
            _run_trials(optuna, study, plan, execute, count, tell)
        except KeyboardInterrupt:
            _write(_result(study, plan, {}))
            tell(f"stopped; start the search again to continue it ({plan.directory / STUDY})")
            raise
        result = _result(study, plan, {})
        if result.config is not None and plan.benchmarks:
            execute([Job("the best trial", result.config, plan.benchmarks)])
            result = _result(study, plan, _results_of(result.config, plan.benchmarks))
    _write(result)
    return result


def config_of(plan: Plan, settings: dict[str, Any], name: str) -> TrainConfig:
    """Returns the settings of a run from those that were drawn.

    Args:
        plan: The plan.
        settings: The drawn settings. A dotted name such as `loss_options.m` is one entry of a
            setting that is a mapping, and is added to the entries of the plan.
        name: Name of the run.

    Raises:
        WorkbenchError: if a setting is invalid.
    """
    whole = {setting: value for setting, value in settings.items() if "." not in setting}
    plain = plan.make_config(**whole).plain()
    for dotted, value in settings.items():
        setting, dot, option = dotted.partition(".")
        if dot and not isinstance(plain[setting], dict):
            raise WorkbenchError(f"search, {dotted}: the setting {setting!r} has no options")
        if dot:
            plain[setting] = plain[setting] | {option: value}
    return TrainConfig(**plain | {"name": name})


def _search_of(plan: Plan) -> Search:
    if plan.search is None:
        raise WorkbenchError(f"{plan.name}: the plan has no search")
    return plan.search


@contextmanager
def _optuna_messages() -> Iterator[Any]:
    """Imports Optuna, and keeps its own messages from the terminal."""
    try:
        import optuna
    except ImportError:
        raise missing_extra("optuna", "optuna", "a search") from None
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            yield optuna
    finally:
        optuna.logging.set_verbosity(verbosity)


def _open_study(optuna: Any, plan: Plan) -> Any:
    """Opens the study of the sweep, or creates it."""
    path = plan.directory / STUDY
    objective = _search_of(plan).objective
    try:
        study = optuna.create_study(
            storage=f"sqlite:///{path.absolute()}",
            study_name="search",
            direction="maximize",
            load_if_exists=True,
        )
    except Exception as error:  # sqlalchemy has errors of its own
        reason = " ".join(str(error).split())[:160]
        raise WorkbenchError(f"{path}: cannot be opened as a study of Optuna ({reason})") from None
    stored = study.user_attrs.get("objective", objective)
    if stored != objective:
        raise WorkbenchError(
            f"{path}: is a search judged by {stored}, not by {objective}; give another directory"
        )
    study.set_user_attr("objective", objective)
    # With the same seed as before, a continued search would draw the same random settings again.
    study.sampler = optuna.samplers.TPESampler(seed=len(study.trials), constant_liar=True)
    return study


def _run_trials(
    optuna: Any, study: Any, plan: Plan, execute: Execute, count: int, tell: Tell
) -> None:
    search = _search_of(plan)
    running = optuna.trial.TrialState.RUNNING
    interrupted = [trial for trial in study.trials if trial.state is running]
    while True:
        batch: list[tuple[int, dict[str, Any]]] = []
        for trial in interrupted[:count]:
            try:
                batch.append((trial.number, search.settings(trial.params)))
            except WorkbenchError:
                study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
        interrupted = interrupted[count:]
        while len(batch) < count and len(study.trials) < search.trials:
            asked = study.ask()
            try:
                batch.append((asked.number, search.draw(asked)))
            except ValueError as error:
                study.tell(asked.number, state=optuna.trial.TrialState.FAIL)
                raise WorkbenchError(
                    f"{plan.directory / STUDY}: was begun with other values "
                    f"({' '.join(str(error).split())}); give another directory"
                ) from None
        if not batch:
            return
        jobs = [
            Job(
                f"trial {number}",
                config_of(plan, settings, f"{plan.name}-trial{number}"),
                (search.objective,),
            )
            for number, settings in batch
        ]
        for (number, settings), outcome in zip(batch, execute(jobs), strict=True):
            if outcome.problem or outcome.run is None:
                study.tell(number, state=optuna.trial.TrialState.FAIL)
                continue
            score = figure_of(outcome.run, search.objective)
            study.tell(number, score)
            drawn = ", ".join(f"{name} {value}" for name, value in settings.items())
            tell(f"trial {number}: {drawn}: {score:.4f} on {search.objective}")


def _result(study: Any, plan: Plan, results: dict[str, Result]) -> SearchResult:
    search = _search_of(plan)
    lines = []
    for trial in study.trials:
        line = {"number": trial.number, "state": trial.state.name, "score": trial.value}
        if set(search.space) <= set(trial.params):
            line |= search.settings(trial.params)
        lines.append(line)
    table = pd.DataFrame(lines, columns=["number", "state", "score", *search.space])
    if not (table["state"] == "COMPLETE").any():
        return SearchResult(plan, table, None, None, {})
    best = study.best_trial
    config = config_of(plan, search.settings(best.params), f"{plan.name}-trial{best.number}")
    return SearchResult(plan, table, config, Job("the best trial", config, ()).find(), results)


def _results_of(config: TrainConfig, benchmarks: Sequence[str]) -> dict[str, Result]:
    run = Job("the best trial", config, ()).find()
    if run is None:
        return {}
    names = evaluations_of(run)
    return {
        benchmark: load_result(run, names[benchmark])
        for benchmark in benchmarks
        if benchmark in names
    }


def _write(result: SearchResult) -> None:
    """Writes trials.csv, best.yaml and report.md into the folder of the sweep, each as a whole."""
    folder = result.plan.directory
    write_csv(folder / "trials.csv", result.trials)
    if result.config is not None:
        plain = {key: value for key, value in result.config.plain().items() if key != "name"}
        runs.write_settings(folder / BEST, plain)
    runs.write_text(folder / "report.md", f"{result}\n")
