"""`workbench data ...`: look at data sets and benchmarks, render, pack and align them."""

from __future__ import annotations

import warnings
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from workbench.cli.options import sides
from workbench.errors import WorkbenchError, WorkbenchWarning
from workbench.files import atomic_path

if TYPE_CHECKING:
    from workbench.data import Benchmark, ClosedSet, Dataset, Identification, Templates
    from workbench.data.writers.common import Written

MOST_SHOWN = 20
data_app = typer.Typer(
    no_args_is_help=True, help="Look at data sets and benchmarks; render, pack and align them."
)


class PackFormat(StrEnum):
    """What a data set is written as."""

    pack = "pack"
    rec = "rec"
    bin = "bin"
    tar = "tar"
    folder = "folder"


class BrokenChoice(StrEnum):
    """What is done about an image that cannot be read."""

    stop = "stop"
    skip = "skip"


@data_app.command("info")
def data_info(
    spec: Annotated[str, typer.Argument(help="KIND:PATH or a known name.")],
    verify: Annotated[
        bool, typer.Option("--verify", help="Read every image, to find those that are damaged.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option(help="With --verify: CSV file for all damaged images.")
    ] = None,
) -> None:
    """Say what a data set or benchmark holds; with --verify, exit code 1 says that something in it is damaged."""
    from workbench import data
    from workbench.data.inspect import summary

    if out is not None and not verify:
        raise WorkbenchError(f"--out {out}: lists what --verify finds; give both")
    with warnings.catch_warnings():
        if data.is_source(spec):
            warnings.simplefilter("ignore", WorkbenchWarning)  # its note says it
        opened = _opened(spec)
    typer.echo("\n".join(summary.describe(opened, spec)))
    if not verify:
        return
    held = _held(opened)
    broken = summary.find_broken(held.images)
    if out is not None:
        summary.write_broken(broken, out)
    if broken:
        _tell_broken(broken, f"of {len(held.images):,} images cannot be read")
        hint = "to go on without them: train with --set broken=skip; evaluate, embed, alignment, pack and pairs with --broken skip"
        typer.echo(hint, err=True)
        raise typer.Exit(1)
    typer.echo(f"all {len(held.images):,} images can be read")


@data_app.command("pack")
def data_pack(
    spec: Annotated[
        str,
        typer.Argument(
            help="Data set, e.g. folder:DIR@exclude=FILE; for a .bin also a benchmark of pairs."
        ),
    ],
    out: Annotated[
        Path,
        typer.Argument(
            help="Its name may say the format: .bin (a file), .rec, .tar, else a pack (all folders)."
        ),
    ],
    kind: Annotated[
        PackFormat | None,
        typer.Option("--format", help="pack (fast, of this workbench), rec (MXNet), ..."),
    ] = None,
    broken: Annotated[
        BrokenChoice, typer.Option(help="At an image that cannot be read: stop, or skip it.")
    ] = BrokenChoice.stop,
) -> None:
    """Write a data set, or the pairs of a benchmark, in another format."""
    from workbench import data
    from workbench.data import writers as writing

    chosen = kind.value if kind else writing.format_of(out)
    opened = (
        data.benchmark(spec) if chosen == "bin" and not data.is_drawn(spec) else data.open(spec)
    )
    _tell_written(writing.write(opened, out, chosen, broken=broken.value), chosen)


@data_app.command("pairs")
def data_pairs(
    spec: Annotated[str, typer.Argument(help="Data set with identities, e.g. folder:DIR.")],
    out: Annotated[
        Path, typer.Argument(help="NAME.bin, a verification pack, or NAME.txt, a list.")
    ],
    folds: Annotated[int, typer.Option(min=2, help="Folds with nobody in two of them.")] = 10,
    pairs: Annotated[
        int, typer.Option(min=1, help="Most genuine, and as many impostor pairs in a fold.")
    ] = 300,
    seed: Annotated[int, typer.Option(min=0, help="Of the draw.")] = 0,
    broken: Annotated[
        BrokenChoice, typer.Option(help="At an image that cannot be read: stop, or skip it.")
    ] = BrokenChoice.stop,
) -> None:
    """Make a verification benchmark of a data set, as LFW's was made of LFW."""
    from workbench import data
    from workbench.data.dataset import source_of
    from workbench.data.writers.pairs import write_pairs

    opened = data.open(spec)
    written = write_pairs(opened, out, folds=folds, per_fold=pairs, seed=seed, broken=broken.value)
    root = getattr(source_of(opened.images, 0)[0], "root", "ROOT")
    _tell_written(written, out.suffix.lower().lstrip("."), root)


@data_app.command("overlap")
def data_overlap(
    source: Annotated[str, typer.Argument(help="Data set to be trained on.")],
    benchmark: Annotated[str, typer.Argument(help="Benchmark, or another data set.")],
    out: Annotated[
        Path | None,
        typer.Option(help="File for the names, which SOURCE@exclude=FILE then leaves out."),
    ] = None,
) -> None:
    """Find the people whom a data set shares with a benchmark, by name: accuracy on people trained on says little."""
    from workbench import data
    from workbench.data.joining import write_names

    names = [
        list(_held(opened).identity_names) for opened in (data.open(source), _opened(benchmark))
    ]
    shared = data.overlap(*names)
    typer.echo(
        f"{len(shared):,} of {len(names[0]):,} identities of {source} are in {benchmark} too, which has {len(names[1]):,}"
    )
    if out is None:
        typer.echo("".join(f"  {name}\n" for name in shared[:MOST_SHOWN]), nl=False)
        if len(shared) > MOST_SHOWN:
            typer.echo(f"  ... and {len(shared) - MOST_SHOWN:,} more; --out FILE writes them all")
    elif len(shared) == len(names[0]):
        typer.echo(f"{out} is not written: nobody would be left")
    elif shared:
        write_names(shared, out)
        parts = data.parts(source)
        option = f"{',' if parts[-1].options else '@'}exclude={out}"
        wanted = (
            f"workbench train --data {source}{option}"
            if len(parts) == 1
            else f"put {option} behind the sets with these people"
        )
        typer.echo(f"{out}. Next: {wanted}")
    else:
        typer.echo(f"{out} is not written, as there is nobody to leave out")


@data_app.command("render")
def data_render(
    name: Annotated[
        str,
        typer.Argument(help="synthfaces, synthfaces:500x20,seed=3,size=64, synthfaces-pose, ..."),
    ],
    workers: Annotated[
        int | None, typer.Option(min=0, help="Processes; as many as there are cores by default.")
    ] = None,
    again: Annotated[
        bool, typer.Option("--again", help="Throw away what is there, e.g. because it is damaged.")
    ] = False,
) -> None:
    """Render synthetic people ahead of time; else that is done when they are first used."""
    from workbench import data

    for folder in data.render(name, workers=workers, again=again):
        typer.echo(folder)


@data_app.command("align")
def data_align(
    source: Annotated[str, typer.Argument(help="Data set, e.g. folder:photos.")],
    out: Annotated[
        Path, typer.Argument(help="Folder for the aligned faces; folder:OUT opens them.")
    ],
    size: Annotated[
        str, typer.Option(help="Side of the crops in pixels, or HEIGHTxWIDTH.")
    ] = "112",
    which: Annotated[
        str, typer.Option(help="Face where there are several: largest, central.")
    ] = "largest",
    detector: Annotated[
        str, typer.Option(help="Face detector: auto, retinaface, centerface, ...")
    ] = "auto",
    miss: Annotated[
        str, typer.Option(help="Where no face is found: skip the image, or crop its middle.")
    ] = "skip",
    broken: Annotated[
        str, typer.Option(help="At an image that cannot be read: skip it and report it, or stop.")
    ] = "skip",
    image_format: Annotated[str, typer.Option("--format", help="jpg (quality 95) or png.")] = "jpg",
    workers: Annotated[
        int | None, typer.Option(min=0, help="Processes; as many as there are cores by default.")
    ] = None,
) -> None:
    """Find and align the faces of a data set, into a folder per identity; called again it does what is new or has changed."""
    from workbench import data

    done = data.align(
        source,
        out,
        size=sides(size, "--size"),
        which=which,
        detector=detector,
        miss=miss,
        broken=broken,
        format=image_format,
        workers=workers,
    )
    typer.echo(f"{done}\neach image: {done.table}. Next: workbench data info folder:{done.path}")


@data_app.command("show")
def data_show(
    name: Annotated[str, typer.Argument(help="KIND:PATH or a known name.")],
    out: Annotated[Path | None, typer.Option(help="PNG file; NAME.png by default.")] = None,
    people: Annotated[int, typer.Option(min=1, help="Most rows.")] = 10,
    images: Annotated[int, typer.Option(min=1, help="Most pictures in a row.")] = 12,
    scale: Annotated[int, typer.Option(min=1, help="Enlarge that many times.")] = 2,
) -> None:
    """Write a contact sheet of a data set or benchmark: a row a person."""
    from workbench import data
    from workbench.images import to_png

    held = _held(_opened(name))
    file = out or Path(f"{held.name}.png")
    if file.suffix.lower() != ".png":
        raise WorkbenchError(f"--out {file}: a PNG is written, give it a name that ends in .png")
    sheet = to_png(data.contact_sheet(held, people, images, scale))
    try:
        with atomic_path(file) as temporary:
            temporary.write_bytes(sheet)
    except OSError as error:
        raise WorkbenchError(f"{file}: cannot be written ({error.strerror})") from None
    typer.echo(file)


def _opened(spec: str) -> Dataset | Benchmark | ClosedSet | Identification | Templates:
    from workbench import data

    return (
        data.open(spec) if isinstance(spec, str) and data.is_source(spec) else data.benchmark(spec)
    )


def _held(
    opened: Dataset | Benchmark | ClosedSet | Identification | Templates,
) -> Dataset | Benchmark | Identification | Templates:
    """What has images and identities."""
    from workbench import data

    return opened.dataset if isinstance(opened, data.ClosedSet) else opened


def _tell_written(written: Written, kind: str, root: object = "") -> None:
    from workbench.data.inspect.summary import in_bytes

    what = f"{written.images:,} images" + (
        f" of {written.identities:,} identities" if written.identities else ""
    )
    opener = {"rec": "recordio", "tar": "webdataset", "txt": "pairs"}.get(kind, kind)
    typer.echo(
        f"{written.path}: {what}, {in_bytes(written.bytes)}; {opener}:{written.path}{f'@{root}' * (kind == 'txt')} opens it"
    )
    if written.note:
        typer.echo(f"note: {written.note}")
    if written.broken:
        _tell_broken(written.broken, "images cannot be read and were left out")


def _tell_broken(broken: list[tuple[str, str]], what: str) -> None:
    typer.echo(f"{len(broken):,} {what}:")
    for where, reason in broken[:MOST_SHOWN]:
        typer.echo(f"  {where}: {reason}")
    if len(broken) > MOST_SHOWN:
        typer.echo(f"  ... and {len(broken) - MOST_SHOWN:,} more")
