"""`workbench data ...`: look at data sets and benchmarks, render, pack and align them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from workbench.errors import WorkbenchError

if TYPE_CHECKING:
    from workbench.data import Benchmark, ClosedSet, Dataset, Identification

data_app = typer.Typer(no_args_is_help=True, help="Look at data sets and benchmarks, render synthetic people.")


@data_app.command("info")
def data_info(
    spec: Annotated[str, typer.Argument(help="KIND:PATH or a known name.")],
    verify: Annotated[bool, typer.Option("--verify", help="Read every image, to find those that are damaged.")] = False,
) -> None:
    """Say what a data set or benchmark holds."""
    import numpy as np

    from workbench import data
    from workbench.data.summary import ranges

    opened = _opened(spec)
    held = opened.dataset if isinstance(opened, data.ClosedSet) else opened
    height, width = held.images[0].shape[:2]
    if isinstance(opened, data.Dataset):
        counts = np.bincount(opened.identities)
        typer.echo(f"{spec}: {len(opened):,} images of {opened.num_identities:,} identities, the first {height} x {width}")
        typer.echo(f"images per identity: {counts.min()} to {counts.max()}, median {np.median(counts):g}")
        typer.echo(f"fingerprint: {opened.fingerprint()}")
    elif isinstance(opened, data.ClosedSet):
        typer.echo(f"{spec}: {len(opened.dataset):,} images of {opened.dataset.num_identities:,} classes")
    elif isinstance(opened, data.Identification):
        enrolled = len(np.unique(opened.identities[opened.gallery]))
        typer.echo(
            f"{spec}: {len(opened.probes):,} probes, {enrolled:,} people enrolled with {len(opened.gallery):,} images, "
            f"{len(opened.distractors):,} distractors, the first image {height} x {width}"
        )
    else:
        genuine, folds = int(opened.same.sum()), int(opened.folds.max()) + 1
        typer.echo(
            f"{spec}: {genuine:,} genuine and {len(opened.same) - genuine:,} impostor pairs in {folds} folds, "
            f"{len(opened.images):,} images, the first {height} x {width}"
        )
    if not isinstance(opened, data.Dataset) and opened.note:
        typer.echo(f"note: {opened.note}")
    for name, words in ranges(held.attributes).items():
        typer.echo(f"{name}: {words}")
    if verify:
        from tqdm.auto import tqdm

        for number in tqdm(range(len(held.images)), desc="reading", unit="image", dynamic_ncols=True):
            _ = held.images[number]
        typer.echo(f"all {len(held.images):,} images can be read")


@data_app.command("render")
def data_render(
    name: Annotated[str, typer.Argument(help="synthfaces, synthfaces:500x20,seed=3,size=64, synthfaces-pose, ...")],
    workers: Annotated[int | None, typer.Option(min=0, help="Processes; as many as there are cores by default.")] = None,
    again: Annotated[bool, typer.Option("--again", help="Throw away what is there, e.g. because it is damaged.")] = False,
) -> None:
    """Render synthetic people ahead of time; else that is done when they are first used."""
    from workbench import data

    for folder in data.render(name, workers=workers, again=again):
        typer.echo(folder)


@data_app.command("show")
def data_show(
    name: Annotated[str, typer.Argument(help="KIND:PATH or a known name.")],
    out: Annotated[Path | None, typer.Option(help="PNG file; NAME.png by default.")] = None,
    people: Annotated[int, typer.Option(min=1, help="Most rows.")] = 10,
    images: Annotated[int, typer.Option(min=1, help="Most pictures in a row.")] = 12,
    scale: Annotated[int, typer.Option(min=1, help="Enlarge that many times.")] = 2,
) -> None:
    """Write a contact sheet of a data set or benchmark: a row a person."""
    from workbench import data, runs
    from workbench.images import to_png

    opened = _opened(name)
    held = opened.dataset if isinstance(opened, data.ClosedSet) else opened
    file = out or Path(f"{held.name}.png")
    if file.suffix.lower() != ".png":
        raise WorkbenchError(f"--out {file}: a PNG is written, give it a name that ends in .png")
    sheet = to_png(data.contact_sheet(held, people, images, scale))
    try:
        with runs.atomic_path(file) as temporary:
            temporary.write_bytes(sheet)
    except OSError as error:
        raise WorkbenchError(f"{file}: cannot be written ({error.strerror})") from None
    typer.echo(file)


def _opened(spec: str) -> Dataset | Benchmark | ClosedSet | Identification:
    from workbench import data

    return data.open(spec) if spec.partition(":")[0] in data.SOURCES.names() else data.benchmark(spec)
