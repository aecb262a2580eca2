"""The command `workbench sweep`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from workbench.cli.options import examples

FAILED_CODE = 1

sweep_commands = typer.Typer()


@sweep_commands.command(
    epilog=examples(
        "workbench sweep margins.yaml --check",
        "workbench sweep margins.yaml",
        "workbench sweep margins.yaml --jobs 4 --out results/margins",
    )
)
def sweep(
    file: Annotated[
        Path,
        typer.Argument(help="YAML file with the base settings, what to vary, and the benchmarks."),
    ],
    jobs: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Number of runs that are trained at the same time; by default one for each GPU, "
            "else 1. 0 trains one after the other in this process, with progress bars.",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder of the tables; by default sweeps/NAME."),
    ] = None,
    runs_dir: Annotated[
        Path | None,
        typer.Option(help="Folder in which the run directories are created; by default runs."),
    ] = None,
    check: Annotated[
        bool,
        typer.Option(
            "--check", help="Check the file and print the runs, without training anything."
        ),
    ] = False,
) -> None:
    """Train and evaluate many runs and write tables of their results.

    The file says which settings are varied: losses, backbones, seeds or any
    other. Finished runs with the same settings are reused. Ctrl-C stops the
    sweep, and the same command continues it. The tables are written as Markdown,
    CSV, LaTeX and figures, with the mean and standard deviation over seeds and
    with the differences that are significant.
    """
    from workbench import experiments

    if check:
        plan = experiments.read_plan(file, directory=out, runs_dir=runs_dir)
        for cell in plan.cells:
            typer.echo(cell.title)
        experiments.check_plan(plan, typer.echo)
        return
    result = experiments.sweep(file, jobs=jobs, directory=out, runs_dir=runs_dir, tell=typer.echo)
    if isinstance(result, experiments.SweepResult):
        typer.echo(f"\n{result}\n\nreport: {result.directory / 'report.md'}")
        if result.failures:
            raise typer.Exit(FAILED_CODE)
    else:
        typer.echo(f"\n{result}")
