"""The report of a sweep, and the files in its folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from workbench.evaluation import VerificationResult, differences
from workbench.evaluation.kinds import of_type
from workbench.experiments.results import SweepResult
from workbench.experiments.significance import Comparison, DifferenceTest, seeds_needed
from workbench.experiments.tables import markdown_table
from workbench.files import atomic_path
from workbench.runs import write_settings, write_text

DIFFERENCES = (0.005, 0.01, 0.02, 0.05)
"""Differences for which the number of seeds needed is printed, if the figures are shares."""


def report(result: SweepResult) -> str:
    """Writes the report of a sweep in Markdown.

    For each benchmark it has the table, the comparisons with the claims that can be made, and the
    number of seeds that would be needed to find a difference.

    Args:
        result: The result of the sweep.

    Returns:
        The report.
    """
    plan = result.plan
    lines = [f"# {plan.name}", "", _counts(result)]
    for benchmark in plan.benchmarks:
        lines += ["", f"## {result.title(benchmark)}", "", *_benchmark(result, benchmark)]
    if result.failures:
        lines += ["", "## Runs that failed", ""]
        lines += [f"- {title}: {problem}" for title, problem in result.failures.items()]
    lines += _stopped_early(result)
    return "\n".join(lines) + "\n"


def write_report(result: SweepResult) -> None:
    """Writes the files of a sweep into its folder, each as a whole.

    They are report.md, runs.csv, comparisons.csv, sweep.yaml, and for each benchmark BENCHMARK.md,
    .csv, .tex and .html (the figure).

    Args:
        result: The result of the sweep.

    Raises:
        WorkbenchError: if the folder cannot be written to.
    """
    folder = result.directory
    write_settings(folder / "sweep.yaml", result.plan.source)
    write_csv(folder / "runs.csv", result.figures())
    for benchmark in result.plan.benchmarks:
        if result.headline(benchmark) is None:
            continue
        name = result.title(benchmark)
        write_text(folder / f"{name}.md", result.markdown(benchmark) + "\n")
        write_text(folder / f"{name}.tex", result.latex(benchmark) + "\n")
        write_csv(folder / f"{name}.csv", result.table(benchmark))
        write_text(
            folder / f"{name}.html",
            result.plot(benchmark).to_html(include_plotlyjs=True, full_html=True),
        )
    write_csv(folder / "comparisons.csv", comparison_table(result))
    write_text(folder / "report.md", report(result))


def write_csv(path: Path, table: pd.DataFrame) -> None:
    """Writes a table as CSV, as a whole.

    Args:
        path: The file.
        table: The table, without its index.

    Raises:
        WorkbenchError: if the file cannot be written.
    """
    with atomic_path(path) as temporary:
        table.to_csv(temporary, index=False)


def comparison_table(result: SweepResult) -> pd.DataFrame:
    """Returns all comparisons of a sweep as a table of numbers.

    Args:
        result: The result of the sweep.

    Returns:
        One line for each comparison; `low`, `high` and `p` are given for each of the tests
        "benchmark" (seeds are random), "people" and "pairs" (people or pairs are random too).
    """
    lines = []
    for benchmark in result.plan.benchmarks:
        for one in result.comparisons(benchmark):
            line = {
                "benchmark": benchmark,
                "column": one.column,
                "first": one.first,
                "second": one.second,
                "difference": one.difference,
                "seeds_first": one.seeds[0],
                "seeds_second": one.seeds[1],
            }
            tests = {
                "benchmark": one.on_benchmark,
                "people": one.on_people,
                "pairs": one.on_pairs,
            }
            for name, test in tests.items():
                low, high = (None, None) if test is None else test.interval
                line |= {f"low_{name}": low, f"high_{name}": high}
                line[f"p_{name}"] = None if test is None else test.p_value
            lines.append(line | {"seeds_needed": one.seeds_needed, "verdict": one.verdict})
    return pd.DataFrame(lines)


def _counts(result: SweepResult) -> str:
    plan = result.plan
    varied = plan.cells[0].levels if plan.cells else {}
    return (
        f"{len(result.runs)} of {len(plan.cells)} runs are finished"
        + (f"; varied: {', '.join(varied)}" if varied else "")
        + "."
    )


def _benchmark(result: SweepResult, benchmark: str) -> list[str]:
    headline = result.headline(benchmark)
    if headline is None:
        return ["No run was evaluated on it."]
    table, comparisons = result.table(benchmark), result.comparisons(benchmark)
    seeds = table.loc[table["seeds"] > 0, "seeds"]
    unit = "percent" if headline.error_unit is None else headline.error_unit
    spread = "mean ± standard deviation over seeds, " if seeds.max() > 1 else ""
    lines = [
        f"{headline.title} in {unit}: {spread}{_seeds_in_words(seeds)} (benchmark: {benchmark}).",
        "",
        result.markdown(benchmark),
    ]
    if (seeds < 2).any():
        lines += ["", *_one_seed(result, benchmark)]
    if any(one.on_benchmark is not None for one in comparisons):
        lines += ["", *_several_seeds(result, benchmark, comparisons)]
    return lines


def _seeds_in_words(seeds: pd.Series[int]) -> str:
    low, high = int(seeds.min()), int(seeds.max())
    number = str(high) if low == high else f"{low} to {high}"
    return f"{number} {'seed' if high == 1 else 'seeds'} of each setting"


def _one_seed(result: SweepResult, benchmark: str) -> list[str]:
    """Says that one seed allows no claim, and what can be said about the two runs instead."""
    lines = [
        "**No claim about settings with one seed.** Two runs of the same settings with different "
        "seeds are often clearly different, so a difference between two runs may be due to the "
        "seeds alone. Train at least two, better five seeds of each setting."
    ]
    pairs = of_type(result.results(benchmark), VerificationResult)
    single = {
        (one.cell.row, one.cell.column): one.cell.title
        for one in result.outcomes
        if one.cell.title in pairs
    }
    chosen = {title: pairs[title] for title in single.values()}
    if len(chosen) < 2 or len(pairs) > len(chosen):
        return lines
    lines += ["", "What can be said about these runs, and only about them (paired difference):", ""]
    body = []
    for (first, second), difference in differences(chosen).items():
        verdict = "these two runs differ" if difference.p_value < 0.05 else "cannot be told apart"
        body.append([first, second, str(difference), _p(difference.p_value), verdict])
    header = ["first run", "second run", "difference [95 % interval]", "p (Holm)", "claim"]
    return [*lines, markdown_table(header, body)]


def _several_seeds(
    result: SweepResult, benchmark: str, comparisons: Sequence[Comparison]
) -> list[str]:
    headline = result.headline(benchmark)
    unit = None if headline is None else headline.error_unit
    bold = "Bold: the best of each column, and all that cannot be told apart from it."
    body = [
        [
            one.column,
            one.first,
            one.second,
            _in_unit(one.difference, unit),
            _test(one.on_benchmark, unit),
            _test(one.beyond_benchmark, unit),
            one.verdict,
            "-" if one.seeds_needed is None else str(one.seeds_needed),
        ]
        for one in comparisons
    ]
    header = [
        result.plan.columns_title,
        "better",
        "worse",
        "points" if unit is None else unit,
        "on this benchmark",
        "on others too",
        "claim",
        "seeds for 80 %",
    ]
    return [
        *([bold, ""] if result.best(benchmark) else []),
        markdown_table(header, body),
        "",
        *_how_tested(comparisons),
        "",
        *_power(result, benchmark, unit),
    ]


def _how_tested(comparisons: Sequence[Comparison]) -> list[str]:
    """Explains the columns of the comparisons."""
    people = next((one.people for one in comparisons if one.on_people is not None), None)
    on_pairs = any(one.on_pairs is not None for one in comparisons)
    beyond = "is empty, because it is not known which single decisions of the benchmark are right."
    if people is not None:
        beyond = (
            f"would also draw other people: seeds and people are random (paired bootstrap over "
            f"{people:,} people)."
        )
    elif on_pairs:
        beyond = (
            "would also draw other pairs: seeds and pairs are random (paired bootstrap over pairs; "
            "who is on them is not known, so it assumes that no two pairs share a person)."
        )
    return [
        "Each cell has a 95 % interval of the difference and a p value; the p values are adjusted "
        f"for {len(comparisons)} comparisons by Holm's method, the intervals are not.",
        "",
        "- *on this benchmark*: seeds are random, the images are fixed (Welch's t test over runs).",
        f"- *on others too*: a repetition of the study {beyond}",
        "- *seeds for 80 %*: seeds of each setting with which a true difference as large as the "
        "observed one would be found with a probability of 80 %.",
    ]


def _power(result: SweepResult, benchmark: str, unit: str | None) -> list[str]:
    """Says how many seeds would be needed to find differences of several sizes."""
    sd = result.sd(benchmark)
    if not sd > 0:
        return ["All runs of the same settings have the same figure."]
    sizes = DIFFERENCES if unit is None else tuple(sd * times for times in (0.5, 1, 2))
    parts = []
    for size in sizes:
        needed = seeds_needed(size, sd)
        parts.append(f"{'over 10,000' if needed is None else needed} for {_in_unit(size, unit)}")
    points = "points" if unit is None else unit
    return [
        f"Standard deviation over seeds: {_in_unit(sd, unit)} {points}, pooled over all settings. "
        f"Seeds of each setting needed to find a true difference with 80 % power (one comparison): "
        f"{', '.join(parts)} {points}."
    ]


def _stopped_early(result: SweepResult) -> list[str]:
    rule = result.plan.stop_losers
    if rule is None:
        return []
    stopped = [one for one in result.outcomes if one.stopped_after is not None]
    lines = [
        "",
        "## Stopped early",
        "",
        f"After {' and '.join(map(str, rule.rungs))} epochs, the settings with the best "
        f"{rule.keep:.0%} of the mean figures on {rule.benchmark} were trained on (successive "
        f"halving). {rule.benchmark} is not among the benchmarks above. That a setting was stopped "
        "means that it was behind at that point, not that it is significantly worse.",
        "",
    ]
    return [
        *lines,
        *(f"- {one.cell.title}: stopped after {one.stopped_after} epochs" for one in stopped),
        *([] if stopped else ["No run was stopped."]),
    ]


def _test(test: DifferenceTest | None, unit: str | None) -> str:
    if test is None:
        return "-"
    low, high = test.interval
    return f"[{_in_unit(low, unit, '+')}, {_in_unit(high, unit, '+')}], {_p(test.p_value)}"


def _in_unit(value: float, unit: str | None, sign: str = "") -> str:
    return f"{value * (100 if unit is None else 1):{sign}.2f}"


def _p(value: float) -> str:
    return "p < .001" if value < 0.001 else f"p = {value:.3f}".replace("0.", ".", 1)
