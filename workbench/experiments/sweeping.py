"""Sweeps: training and evaluating many runs, reusing what is there."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, overload

from filelock import FileLock, Timeout

from workbench import runs
from workbench.errors import WorkbenchError
from workbench.experiments.checking import check_plan
from workbench.experiments.executing import (
    Outcome,
    Tell,
    default_count,
    do,
    in_processes,
    in_this_process,
    slots_for,
)
from workbench.experiments.halving import Ladder, StopLosers, survivors
from workbench.experiments.jobs import Job
from workbench.experiments.matching import PLACE
from workbench.experiments.plan import Cell, Plan, read_plan
from workbench.experiments.report import write_report
from workbench.experiments.results import SweepResult, collect, figure_of
from workbench.experiments.searching import Execute, SearchResult, search
from workbench.experiments.significance import Key
from workbench.files import check_writable
from workbench.training import TrainConfig

LOCK = "sweep.lock"


@overload
def sweep(
    plan: Sequence[TrainConfig],
    benchmarks: Sequence[str],
    *,
    progress: bool = True,
    tell: Tell = print,
) -> list[runs.Run]: ...
@overload
def sweep(
    plan: str | Path | Mapping[str, Any] | Plan,
    benchmarks: None = None,
    *,
    jobs: int | None = None,
    directory: str | Path | None = None,
    runs_dir: str | Path | None = None,
    progress: bool = True,
    tell: Tell = print,
) -> SweepResult | SearchResult: ...
def sweep(
    plan: Sequence[TrainConfig] | str | Path | Mapping[str, Any] | Plan,
    benchmarks: Sequence[str] | None = None,
    *,
    jobs: int | None = None,
    directory: str | Path | None = None,
    runs_dir: str | Path | None = None,
    progress: bool = True,
    tell: Tell = print,
) -> list[runs.Run] | SweepResult | SearchResult:
    """Trains and evaluates several runs, reusing earlier results.

    A finished run with the same settings is not trained again, and a stopped one is resumed from
    its checkpoint. Evaluations that exist for the current model of a run are not repeated. An
    interrupted sweep is therefore continued by calling this function again.

    If `plan` is a sweep file, the whole plan is checked before the first training begins. A run
    that fails does not stop the others. The tables, the figures and the comparisons are written to
    the folder of the sweep, also after Ctrl-C.

    Args:
        plan: A sweep file, a mapping with the same keys, or the configs of the runs.
        benchmarks: Specs of benchmarks, if `plan` is a list of configs.
        jobs: Number of runs that are trained at the same time, each in a process of its own; by
            default one for each GPU, else 1. With 0, the runs are trained one after the other in
            this process, which losses and backbones need that are registered in a notebook. Lists
            of configs are always trained in this process.
        directory: Folder of the tables; by default the one in the plan, else sweeps/NAME.
        runs_dir: Folder of the run directories; by default the one in the plan.
        progress: Whether to show progress bars of what is done in this process.
        tell: Function that is called with a line for each step, such as `print`.

    Returns:
        The runs in the order of the configs, if `plan` is a list of configs. Otherwise the result
        of the sweep, or of the search if the plan has one.

    Raises:
        WorkbenchError: if the plan is invalid, if another process works on the same sweep, or if
            its folder cannot be written to. With a list of configs: if another process is training
            a run with the same settings; also the errors of `wb.train` and `wb.evaluate`.
        KeyboardInterrupt: if the user stopped the sweep.

    Example:
        >>> from workbench import experiments
        >>> plan = {
        ...     "base": {"data": "synthfaces-mini", "image_size": 64, "epochs": 1},
        ...     "vary": {"loss": ["cosface", "arcface"], "seed": [0, 1, 2]},
        ...     "benchmarks": ["synthfaces-frontal"],
        ... }
        >>> print(experiments.sweep(plan))  # doctest: +SKIP
    """
    if isinstance(plan, Sequence) and not isinstance(plan, str):
        if benchmarks is None:
            raise WorkbenchError("sweep: a list of configs needs a list of benchmarks")
        return _sweep_configs(plan, benchmarks, progress, tell)
    if benchmarks is not None:
        raise WorkbenchError("sweep: the benchmarks are named in the plan of the sweep")
    read = (
        plan if isinstance(plan, Plan) else read_plan(plan, directory=directory, runs_dir=runs_dir)
    )
    count = default_count() if jobs is None else jobs
    if type(count) is not int or count < 0:
        raise WorkbenchError(f"jobs is {jobs!r}, expected a number of processes, at least 0")
    check_writable(read.directory)
    with _locked(read.directory):
        check_plan(read, tell)
        execute = _Executor(count, read.directory, progress, tell)
        if read.search is not None:
            return search(read, execute, max(count, 1), tell)
        return _sweep_plan(read, execute, tell)


def _sweep_configs(
    configs: Sequence[TrainConfig], benchmarks: Sequence[str], progress: bool, tell: Tell
) -> list[runs.Run]:
    """Trains and evaluates configs in this process; the first error ends the sweep."""
    jobs = [
        Job(
            f"{config.loss} on {config.data}",
            config,
            tuple(benchmarks),
            projection=True,
            ignored=PLACE,
        )
        for config in configs
    ]
    return [
        do(job, f"[{number}/{len(jobs)}] {job.title}", progress, tell)
        for number, job in enumerate(jobs, 1)
    ]


class _Executor:
    """Does jobs in the way that the user chose."""

    def __init__(self, count: int, folder: Path, progress: bool, tell: Tell) -> None:
        self.count, self.folder, self.progress, self.tell = count, folder, progress, tell

    def __call__(self, jobs: Sequence[Job]) -> list[Outcome]:
        if self.count == 0:
            return in_this_process(jobs, self.progress, self.tell)
        slots = slots_for(self.count, [job.config for job in jobs])
        return in_processes(jobs, slots, self.folder, self.tell)


def _sweep_plan(plan: Plan, execute: Execute, tell: Tell) -> SweepResult:
    """Trains and evaluates the runs of a grid, and writes its tables."""
    stopped: dict[str, int] = {}
    problems: dict[str, str] = {}
    try:
        if plan.stop_losers is not None:
            _halve(plan, plan.stop_losers, execute, stopped, tell)
        cells = [cell for cell in plan.cells if cell.name not in stopped]
        outcomes = execute([_job(cell, *plan.benchmarks) for cell in cells])
        problems = {
            cell.name: outcome.problem for cell, outcome in zip(cells, outcomes, strict=True)
        }
    except KeyboardInterrupt:
        write_report(collect(plan, stopped, problems))
        tell(
            f"stopped; {plan.directory} has the tables of what is finished. Start the sweep again "
            "to continue it"
        )
        raise
    result = collect(plan, stopped, problems)
    write_report(result)
    return result


def _halve(
    plan: Plan, rule: StopLosers, execute: Execute, stopped: dict[str, int], tell: Tell
) -> None:
    """Trains all candidates to each rung, and stops those that are worse.

    Args:
        plan: The plan.
        rule: How losers are stopped.
        execute: Does jobs.
        stopped: {name of a cell: rung}, to which the cells that are stopped are added.
        tell: Function that is called with a line for each rung.
    """
    ladder = Ladder(plan.directory, rule)
    for rung in rule.rungs:
        candidates: dict[Key, list[Cell]] = {}
        for cell in plan.cells:
            if cell.name not in stopped:
                candidates.setdefault((cell.row, cell.column), []).append(cell)
        _measure(candidates, ladder, rung, execute)
        means = {
            key: ladder.mean(rung, [cell.name for cell in cells])
            for key, cells in candidates.items()
        }
        # Settings whose runs were all finished before could not be measured at the rung. They are
        # kept, as they cost nothing more.
        judged = {
            key: mean
            for key, mean in means.items()
            if not (math.isnan(mean) and all(_job(cell).is_finished() for cell in candidates[key]))
        }
        kept = survivors(judged, rule.keep) if len(judged) > 1 else list(judged)
        losers = [key for key in judged if key not in kept]
        stopped |= {cell.name: rung for key in losers for cell in candidates[key]}
        tell(
            f"after {rung} epochs, by {rule.benchmark}: {len(kept)} of {len(judged)} settings are "
            f"trained on; stopped: {'; '.join(', '.join(key) for key in losers) or 'none'}"
        )


def _measure(
    candidates: Mapping[Key, Sequence[Cell]], ladder: Ladder, rung: int, execute: Execute
) -> None:
    """Trains all candidates to a rung and adds their figures to the ladder."""
    missing = [
        cell
        for cells in candidates.values()
        for cell in cells
        if ladder.score(rung, cell.name) is None and not _job(cell).is_finished()
    ]
    outcomes = execute([_job(cell, ladder.benchmark, stop_after=rung) for cell in missing])
    for cell, outcome in zip(missing, outcomes, strict=True):
        if outcome.run is not None and not outcome.problem:
            ladder.add(rung, cell.name, figure_of(outcome.run, ladder.benchmark))
    ladder.write()


def _job(cell: Cell, *benchmarks: str, stop_after: int | None = None) -> Job:
    return Job(cell.title, cell.config, benchmarks, stop_after=stop_after)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Keeps two processes from working on the same sweep."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / LOCK, timeout=0)
        lock.acquire()
    except Timeout:
        raise WorkbenchError(
            f"{folder}: another process is working on this sweep; wait for it or stop it"
        ) from None
    except (OSError, NotImplementedError) as error:
        raise WorkbenchError(f"{folder / LOCK}: cannot be locked ({error})") from None
    try:
        yield
    finally:
        lock.release()
