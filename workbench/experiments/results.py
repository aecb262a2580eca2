"""The result of a sweep: its runs, with the tables and comparisons that are made of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pandas as pd
import plotly.graph_objects as go

from workbench import plots, runs
from workbench.evaluation import Headline, Result, load_result
from workbench.experiments.jobs import Job
from workbench.experiments.matching import evaluations_of
from workbench.experiments.plan import Cell, Plan
from workbench.experiments.significance import Comparison, Key, compare, pooled_sd
from workbench.experiments.tables import PERCENT, best_cells, summary, to_latex, to_markdown


@dataclass(frozen=True)
class CellOutcome:
    """What became of one run of a sweep.

    Attributes:
        cell: The run in the plan.
        run: The finished run; None if there is none.
        problem: The error in one line; empty if there was none.
        stopped_after: Number of epochs after which the run was stopped early; None if it was not.
        results: {spec of a benchmark: result}.
    """

    cell: Cell
    run: runs.Run | None
    problem: str
    stopped_after: int | None
    results: dict[str, Result]


@dataclass(frozen=True)
class SweepResult:
    """The result of a sweep.

    Attributes:
        plan: The plan of the sweep.
        outcomes: What became of each run, in the order of the plan.
    """

    plan: Plan
    outcomes: tuple[CellOutcome, ...]

    @property
    def runs(self) -> list[runs.Run]:
        """The finished runs."""
        return [one.run for one in self.outcomes if one.run is not None]

    @property
    def directory(self) -> Path:
        """The folder of the tables."""
        return self.plan.directory

    @property
    def failures(self) -> dict[str, str]:
        """{run in words: error} of the runs that failed."""
        return {one.cell.title: one.problem for one in self.outcomes if one.problem}

    def table(self, benchmark: str) -> pd.DataFrame:
        """Returns the means and standard deviations over seeds on a benchmark.

        Args:
            benchmark: Its spec.

        Returns:
            One line for each cell of the table with the columns row, column, mean, sd and seeds.
        """
        return summary(
            {
                key: [result.headline.value for result in group]
                for key, group in self._groups(benchmark).items()
            }
        )

    def markdown(self, benchmark: str) -> str:
        """Returns the table of a benchmark in Markdown.

        The best cell of each column, and those that cannot be told apart from it, are bold.

        Args:
            benchmark: Its spec.
        """
        bold, factor = self.best(benchmark), self.factor(benchmark)
        return to_markdown(self.table(benchmark), self.plan.rows_title, bold, factor=factor)

    def latex(self, benchmark: str) -> str:
        """Returns the table of a benchmark in LaTeX, with the same cells in bold.

        Args:
            benchmark: Its spec.
        """
        bold, factor = self.best(benchmark), self.factor(benchmark)
        return to_latex(self.table(benchmark), self.plan.rows_title, bold, factor=factor)

    def best(self, benchmark: str) -> set[Key]:
        """Returns the best cell of each column and those that cannot be told apart from it.

        Args:
            benchmark: Spec of the benchmark.
        """
        headline = self.headline(benchmark)
        is_error = headline is not None and headline.error_unit is not None
        return best_cells(self.table(benchmark), self.comparisons(benchmark), is_error=is_error)

    def factor(self, benchmark: str) -> float:
        """Returns the number by which figures are multiplied in tables: 100 for percent, or 1.

        Args:
            benchmark: Spec of the benchmark.
        """
        headline = self.headline(benchmark)
        return 1.0 if headline is not None and headline.error_unit is not None else PERCENT

    def comparisons(self, benchmark: str) -> list[Comparison]:
        """Returns the comparisons of the rows in each column, with adjusted p values.

        Args:
            benchmark: Spec of the benchmark.
        """
        if benchmark not in self._comparisons:
            self._comparisons[benchmark] = compare(self._groups(benchmark))
        return self._comparisons[benchmark]

    def sd(self, benchmark: str) -> float:
        """Returns the standard deviation over seeds, pooled over all settings; NaN if unknown.

        Args:
            benchmark: Spec of the benchmark.
        """
        groups = self._groups(benchmark).values()
        return pooled_sd([[result.headline.value for result in group] for group in groups])

    def figures(self) -> pd.DataFrame:
        """Returns one line for each run and benchmark.

        Returns:
            A column for each factor of the plan, then row, column, seed, run (the directory),
            state, benchmark, figure (its title) and value.
        """
        lines = []
        for one in self.outcomes:
            base = {
                **one.cell.levels,
                "row": one.cell.row,
                "column": one.cell.column,
                "seed": one.cell.config.seed,
                "run": "" if one.run is None else str(one.run.path),
                "state": _state(one),
            }
            for benchmark in self.plan.benchmarks:
                result = one.results.get(benchmark)
                headline = None if result is None else result.headline
                lines.append(
                    {
                        **base,
                        "benchmark": benchmark,
                        "figure": "" if headline is None else headline.title,
                        "value": float("nan") if headline is None else headline.value,
                    }
                )
        return pd.DataFrame(lines)

    def plot(self, benchmark: str) -> go.Figure:
        """Draws the runs on a benchmark; see `wb.plots.sweep`.

        Args:
            benchmark: Spec of the benchmark.
        """
        figures = self.figures()
        chosen = figures[(figures["benchmark"] == benchmark) & figures["value"].notna()]
        headline = self.headline(benchmark)
        title = f"{headline.title if headline else 'Accuracy'} on {self.title(benchmark)}"
        unit = None if headline is None else headline.error_unit
        return plots.sweep(chosen, title, unit)

    def title(self, benchmark: str) -> str:
        """Returns the name of the evaluations on a benchmark, such as lfw for bin:data/lfw.bin.

        Args:
            benchmark: Spec of the benchmark.
        """
        for one in self.outcomes:
            if benchmark in one.results:
                return one.results[benchmark].name
        return benchmark

    def headline(self, benchmark: str) -> Headline | None:
        """Returns the figure by which runs are compared, of any run; None if there is no run.

        Args:
            benchmark: Spec of the benchmark.
        """
        for one in self.outcomes:
            if benchmark in one.results:
                return one.results[benchmark].headline
        return None

    def results(self, benchmark: str) -> dict[str, Result]:
        """Returns the result of each run on a benchmark, by the run in words.

        Args:
            benchmark: Spec of the benchmark.
        """
        return {
            one.cell.title: one.results[benchmark]
            for one in self.outcomes
            if benchmark in one.results
        }

    def __str__(self) -> str:
        """Returns the tables and the number of runs."""
        lines = [f"{self.plan.name}: {len(self.runs)} of {len(self.outcomes)} runs are finished"]
        for benchmark in self.plan.benchmarks:
            headline = self.headline(benchmark)
            if headline is not None:
                unit = "%" if headline.error_unit is None else headline.error_unit
                lines += ["", f"{headline.title} on {self.title(benchmark)}, in {unit}"]
                lines.append(self.markdown(benchmark))
        lines += [f"failed: {title}: {problem}" for title, problem in self.failures.items()]
        return "\n".join(lines)

    def _groups(self, benchmark: str) -> dict[Key, list[Result]]:
        """Returns the results of each cell of the table."""
        groups: dict[Key, list[Result]] = {}
        for one in self.outcomes:
            group = groups.setdefault((one.cell.row, one.cell.column), [])
            if benchmark in one.results:
                group.append(one.results[benchmark])
        return groups

    @cached_property
    def _comparisons(self) -> dict[str, list[Comparison]]:
        return {}


def collect(plan: Plan, stopped: Mapping[str, int], problems: Mapping[str, str]) -> SweepResult:
    """Reads the results of all runs of a plan.

    Args:
        plan: The plan.
        stopped: {name of a run in the plan: epochs after which it was stopped early}.
        problems: {name of a run in the plan: error}.
    """
    outcomes = []
    for cell in plan.cells:
        job = Job(cell.title, cell.config, ())
        run = job.find()
        finished = run if run is not None and job.is_trained(run) else None
        results = {}
        if finished is not None:
            names = evaluations_of(finished)
            results = {
                benchmark: load_result(finished, names[benchmark])
                for benchmark in plan.benchmarks
                if benchmark in names
            }
        problem = problems.get(cell.name, "")
        outcomes.append(CellOutcome(cell, finished, problem, stopped.get(cell.name), results))
    return SweepResult(plan, tuple(outcomes))


def figure_of(run: runs.Run, benchmark: str) -> float:
    """Returns the headline figure of a run on a benchmark, signed so that more is better.

    Args:
        run: The run, which was evaluated on the benchmark.
        benchmark: Spec of the benchmark.
    """
    return float(load_result(run, evaluations_of(run)[benchmark]).headline.score)


def _state(outcome: CellOutcome) -> str:
    if outcome.stopped_after is not None:
        return f"stopped after {outcome.stopped_after} epochs"
    if outcome.problem:
        return "failed"
    return "missing" if outcome.run is None else "finished"
