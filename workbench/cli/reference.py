"""The commands `workbench reference ...`: the runs that ship with the package."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from workbench.cli.options import examples

reference_commands = typer.Typer(
    no_args_is_help=True,
    help="List and copy the trained runs that ship with the package, and train them anew.",
)

OnlyOption = Annotated[
    list[str] | None,
    typer.Option(
        help="Name of a reference run, such as arcface or arcface-2d; repeat the option for "
        "several. By default all."
    ),
]
SeedOption = Annotated[
    list[int] | None,
    typer.Option(
        "--seed", help="Seed to train with; repeat the option for several. By default all."
    ),
]
FolderOption = Annotated[
    Path, typer.Option(help="Folder in which the reference runs are trained before packaging.")
]
WORK_FOLDER = Path("build/reference")


@reference_commands.command(
    epilog=examples(
        "workbench reference train",
        "workbench reference train --only arcface --seed 1",
        "workbench reference train --only arcface-2d --folder /data/reference",
    )
)
def train(
    only: OnlyOption = None,
    seed: SeedOption = None,
    folder: FolderOption = WORK_FOLDER,
    plan: Annotated[
        bool, typer.Option("--plan", help="Print the runs and whether each is done; train none.")
    ] = False,
) -> None:
    """Train and evaluate the reference runs anew, as far as they are missing.

    All of them take several hours on a CPU. Ctrl-C stops the training, and the
    same command continues it. Several of these commands can run at the same time
    with the same folder, for different runs.
    """
    from workbench.experiments import reference

    planned = reference.planned_runs(only, seed)
    if plan:
        for one in planned:
            state = "done" if reference.is_evaluated(one, folder) else "missing"
            typer.echo(f"{state:<8} {one.title}")
        return
    reference.train_reference(planned, folder, tell=typer.echo)
