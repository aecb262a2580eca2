"""Checking the whole plan of a sweep before its first training begins."""

from __future__ import annotations

from workbench import data
from workbench.errors import WorkbenchError
from workbench.evaluation.evaluators import evaluator_of
from workbench.evaluation.sources import TRAIN
from workbench.experiments.executing import Tell
from workbench.experiments.jobs import Job
from workbench.experiments.plan import Plan
from workbench.experiments.searching import config_of
from workbench.training import check


def check_plan(plan: Plan, tell: Tell) -> None:
    """Checks that all runs of a plan can be started, and that all benchmarks can be opened.

    Runs that differ only in their seed are checked once. Finished runs are not checked.

    Args:
        plan: The plan.
        tell: Function that is called with one line.

    Raises:
        WorkbenchError: for the first run or benchmark that cannot be used.
    """
    benchmarks = list(plan.benchmarks)
    if plan.stop_losers is not None:
        benchmarks.append(plan.stop_losers.benchmark)
    if plan.search is not None:
        benchmarks.append(plan.search.objective)
        for drawn in plan.search.examples():
            check(config_of(plan, drawn, "example"))
    finished = 0
    checked: set[str] = set()
    for cell in plan.cells:
        if Job(cell.title, cell.config, ()).is_finished():
            finished += 1
            continue
        settings = cell.config.model_copy(update={"seed": 0, "name": None})
        if repr(settings) not in checked:
            checked.add(repr(settings))
            try:
                check(settings)
            except WorkbenchError as error:
                raise WorkbenchError(f"{cell.title}: {error}") from None
    for benchmark in benchmarks:
        check_benchmark(benchmark)
    if plan.cells:
        tell(
            f"{plan.name}: {len(plan.cells)} runs, of which {finished} are finished; "
            f"benchmarks: {', '.join(benchmarks) or 'none'}"
        )


def check_benchmark(benchmark: str) -> None:
    """Checks that a benchmark can be opened.

    Args:
        benchmark: Its spec.

    Raises:
        WorkbenchError: if it cannot be opened.
    """
    if benchmark != TRAIN:  # the training data of the runs are checked with the runs
        evaluator_of(data.benchmark(benchmark))
