"""The commands `workbench reference ...`: the runs that ship with the package."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from workbench.cli.options import TableFormatOption, examples
from workbench.cli.tables import TableFormat, print_table
from workbench.errors import WorkbenchError

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
DOCUMENTS = (Path("README.md"), Path("docs/guide/reference-runs.md"))
"""Files into which the table is written, where they exist and have a place for it."""


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


@reference_commands.command(
    epilog=examples(
        "workbench reference package",
        "workbench reference package --folder /data/reference --partial",
    )
)
def package(
    folder: FolderOption = WORK_FOLDER,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder to write the runs and their figures into; by default that of the package "
            "workbench.reference."
        ),
    ] = None,
    partial: Annotated[
        bool, typer.Option("--partial", help="Package what is trained so far.")
    ] = False,
    documents: Annotated[
        list[Path] | None,
        typer.Option(
            "--document",
            help="Markdown file into which the table is written, between the lines that mark its "
            "place; repeat the option for several. By default README.md and "
            "docs/guide/reference-runs.md of the working folder, where they exist.",
        ),
    ] = None,
) -> None:
    """Write the trained reference runs into the package, and their table into the documentation.

    Weights are stored in float16, and evaluations, metrics and snapshots with
    fewer digits. The figures are those of the weights in float16.
    """
    from workbench.experiments import reference
    from workbench.reference import SHIPPED, read_figures

    destination = SHIPPED.parent if out is None else out
    packaged = reference.package_reference(
        reference.planned_runs(), folder, destination, partial=partial, tell=typer.echo
    )
    for title in packaged.missing:
        typer.echo(f"missing: {title}")
    typer.echo(f"{len(packaged.names)} reference runs, {packaged.size / 1e6:.1f} MB")
    text = reference.table(read_figures(destination))
    for path in DOCUMENTS if documents is None else documents:
        if reference.write_table(path, text):
            typer.echo(f"table: {path}")
        elif documents is not None:
            raise WorkbenchError(
                f"{path}: has no place for the table; write the lines {reference.BEGIN} and "
                f"{reference.END} into it"
            )


@reference_commands.command("list", epilog=examples("workbench reference list"))
def list_(table_format: TableFormatOption = TableFormat.text) -> None:
    """Print the reference runs with their loss, length of embeddings and accuracy."""
    from workbench import reference

    print_table(reference.overview(), table_format)


@reference_commands.command(
    epilog=examples("workbench reference copy runs", "workbench reference copy runs --only arcface")
)
def copy(
    folder: Annotated[
        Path, typer.Argument(help="Folder into which the run directories are copied, such as runs.")
    ],
    only: OnlyOption = None,
) -> None:
    """Copy the reference runs into a folder of runs.

    Copies that are there already stay, with all that was added to them. They
    are brought up to date if the package has newer ones.
    """
    from workbench import reference

    for run in reference.runs(folder, only):
        typer.echo(run.path)


@reference_commands.command(
    epilog=examples(
        "workbench reference table", "workbench reference table --figure reference-runs.html"
    )
)
def table(
    figure: Annotated[
        Path | None,
        typer.Option(
            help="File into which the table is drawn as a figure: FILE.html, or with the package "
            "kaleido FILE.png, FILE.svg or FILE.pdf."
        ),
    ] = None,
) -> None:
    """Print the table of the reference runs in Markdown, with all seeds and what is significant."""
    from workbench.experiments import reference
    from workbench.reference import figures

    typer.echo(reference.table(figures()))
    if figure is not None:
        reference.draw(figures(), figure)
        typer.echo(f"figure: {figure}")
