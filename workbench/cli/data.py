"""The commands `workbench data ...`, which inspect, convert, align and render data sets."""

from __future__ import annotations

import warnings
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from workbench.cli.options import (
    BrokenChoice,
    BrokenOption,
    WorkersOption,
    examples,
    quoted,
    sides,
    yaml_value,
)
from workbench.errors import WorkbenchError, WorkbenchWarning
from workbench.files import atomic_path

if TYPE_CHECKING:
    from workbench.data import Benchmark, Dataset, Identification, Labelled, Templates
    from workbench.data.writers.common import Written

MAX_LISTED = 20
"""Largest number of names or files that are printed in a list."""

SpecArgument = Annotated[
    str,
    typer.Argument(
        help="Data set or benchmark, as KIND:PATH (folder:DIR, bin:FILE, ...) or a registered name."
    ),
]

data_commands = typer.Typer(
    no_args_is_help=True,
    help="Inspect, convert, align and render data sets and benchmarks.",
)


class PackFormat(StrEnum):
    """Format in which a data set is written."""

    pack = "pack"
    rec = "rec"
    bin = "bin"
    tar = "tar"
    folder = "folder"


@data_commands.command(
    "info",
    epilog=examples(
        "workbench data info folder:photos",
        "workbench data info recordio:ms1m --verify --out broken.csv",
    ),
)
def data_info(
    spec: SpecArgument,
    verify: Annotated[
        bool, typer.Option("--verify", help="Read every image to find those that are damaged.")
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(help="CSV file to which --verify writes the list of all damaged images."),
    ] = None,
) -> None:
    """Describe a data set or benchmark: images, identities, sizes and what was left out.

    With --verify the exit code is 1 if an image cannot be read.
    """
    from workbench import data
    from workbench.data.inspect import summary

    if out is not None and not verify:
        raise WorkbenchError(f"--out {out}: is only written with --verify; give both")
    with warnings.catch_warnings():
        if data.is_source(spec):
            # The summary holds the text of this warning.
            warnings.simplefilter("ignore", WorkbenchWarning)
        opened = _open(spec)
    typer.echo("\n".join(summary.describe(opened, spec)))
    if not verify:
        return
    images = _with_images(opened).images
    broken = summary.find_broken(images)
    if out is not None:
        summary.write_broken(broken, out)
    if broken:
        _print_broken(broken, f"of {len(images):,} images cannot be read")
        typer.echo(
            "to skip these images: train, evaluate, embed, alignment, pack and pairs with "
            "--broken skip",
            err=True,
        )
        raise typer.Exit(1)
    typer.echo(f"all {len(images):,} images can be read")


@data_commands.command(
    "pack",
    epilog=examples(
        "workbench data pack recordio:ms1m /fast/ms1m",
        "workbench data pack folder:photos photos.rec",
        "workbench data pack pairs:pairs.txt@lfw.zip lfw.bin",
        "workbench data pack folder:faces@100x20 some --format folder",
    ),
)
def data_pack(
    spec: Annotated[
        str,
        typer.Argument(
            help="Data set, e.g. folder:DIR@exclude=FILE. A .bin file can also be made of a "
            "benchmark of pairs."
        ),
    ],
    out: Annotated[
        Path,
        typer.Argument(
            help="File or folder to write. The ending .bin, .rec or .tar selects that format; "
            "any other name becomes a pack. All but .bin are folders."
        ),
    ],
    kind: Annotated[
        PackFormat | None,
        typer.Option(
            "--format",
            help="pack (the workbench's own format, the fastest to read), rec (MXNet RecordIO), "
            "bin (verification pack), tar (WebDataset shards) or folder (a folder per identity); "
            "by default the ending of OUT decides.",
        ),
    ] = None,
    broken: BrokenOption = BrokenChoice.stop,
) -> None:
    """Write a data set, or a benchmark of pairs, in another format.

    Image files are copied without encoding them anew, if the format allows it.
    """
    from workbench import data
    from workbench.data import writers

    chosen = kind.value if kind else writers.format_of(out)
    is_benchmark = chosen == "bin" and not data.is_drawn(spec)
    opened = data.benchmark(spec) if is_benchmark else data.open(spec)
    _print_written(writers.write(opened, out, chosen, broken=broken.value), chosen)


@data_commands.command(
    "pairs",
    epilog=examples(
        "workbench data pairs folder:other-people mine.bin",
        "workbench data pairs folder:other-people mine.txt --folds 5 --pairs 600",
    ),
)
def data_pairs(
    spec: Annotated[str, typer.Argument(help="Data set with identities, e.g. folder:DIR.")],
    out: Annotated[
        Path,
        typer.Argument(
            help="File to write: NAME.bin for a verification pack, NAME.txt for a list of pairs."
        ),
    ],
    folds: Annotated[
        int, typer.Option(min=2, help="Number of folds. No person is in two of them.")
    ] = 10,
    pairs: Annotated[
        int,
        typer.Option(
            min=1, help="Largest number of genuine pairs in a fold; it has as many impostor pairs."
        ),
    ] = 300,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the random draw of pairs.")] = 0,
    broken: BrokenOption = BrokenChoice.stop,
) -> None:
    """Draw genuine and impostor pairs from a data set to make a verification benchmark.

    The pairs and folds follow the protocol of LFW.
    """
    from workbench import data
    from workbench.data.dataset import source_of
    from workbench.data.writers.pairs import write_pairs

    opened = data.open(spec)
    written = write_pairs(opened, out, folds=folds, per_fold=pairs, seed=seed, broken=broken.value)
    root = getattr(source_of(opened.images, 0)[0], "root", "ROOT")
    _print_written(written, out.suffix.lower().lstrip("."), root)


@data_commands.command(
    "overlap",
    epilog=examples(
        "workbench data overlap folder:faces pairs:pairs.txt@lfw.zip --out overlap.txt",
        "workbench train --data folder:faces@exclude=overlap.txt",
    ),
)
def data_overlap(
    source: Annotated[str, typer.Argument(help="Data set to train on.")],
    benchmark: Annotated[str, typer.Argument(help="Benchmark, or a second data set.")],
    out: Annotated[
        Path | None,
        typer.Option(
            help="File for the shared names; train on SOURCE@exclude=FILE to leave them out."
        ),
    ] = None,
) -> None:
    """Find people who are both in a training set and in a benchmark, by their names.

    The accuracy on people who were in the training set says little about other people.
    """
    from workbench import data
    from workbench.data.joining import write_names

    source_names = list(_with_images(data.open(source)).identity_names)
    benchmark_names = list(_with_images(_open(benchmark)).identity_names)
    shared = data.overlap(source_names, benchmark_names)
    typer.echo(
        f"{len(shared):,} of the {len(source_names):,} identities of {source} "
        f"are among the {len(benchmark_names):,} of {benchmark}"
    )
    if out is None:
        for name in shared[:MAX_LISTED]:
            typer.echo(f"  {name}")
        if len(shared) > MAX_LISTED:
            typer.echo(f"  ... and {len(shared) - MAX_LISTED:,} more; --out FILE writes them all")
    elif not shared:
        typer.echo(f"{out} is not written: the two share no names")
    elif len(shared) == len(source_names):
        typer.echo(f"{out} is not written: it would exclude every identity of {source}")
    else:
        write_names(shared, out)
        parts = data.parts(source)
        option = f"{',' if parts[-1].options else '@'}exclude={out}"
        if len(parts) == 1:
            next_step = f"workbench train --data {source}{option}"
        else:
            next_step = f"add {option} to each joined set that holds these people"
        typer.echo(f"{out}. Next: {next_step}")


@data_commands.command(
    "render",
    epilog=examples(
        "workbench data render synthfaces", "workbench data render synthfaces:500x20,seed=3,size=64"
    ),
)
def data_render(
    name: Annotated[
        str,
        typer.Argument(
            help="Synthetic data set or benchmark: synthfaces, synthfaces:500x20,seed=3,size=64, "
            "synthfaces-pose, ..."
        ),
    ],
    workers: WorkersOption = None,
    again: Annotated[
        bool,
        typer.Option("--again", help="Delete the stored images, e.g. damaged ones, first."),
    ] = False,
) -> None:
    """Render synthetic people and print the folders that hold them.

    Without this command they are rendered when they are first used.
    """
    from workbench import data

    for folder in data.render(name, workers=workers, again=again):
        typer.echo(folder)


@data_commands.command(
    "align",
    epilog=examples(
        "workbench data align folder:photos aligned",
        "workbench data align folder:photos aligned --size 112x96 --miss crop --format png",
    ),
)
def data_align(
    source: Annotated[str, typer.Argument(help="Data set, e.g. folder:photos.")],
    out: Annotated[Path, typer.Argument(help="Folder for the aligned faces; folder:OUT opens it.")],
    size: Annotated[
        str, typer.Option(help="Size of the aligned images in pixels, SIDE or HEIGHTxWIDTH.")
    ] = "112",
    which: Annotated[
        str,
        typer.Option(help="Face to use if an image shows several: largest or central."),
    ] = "largest",
    detector: Annotated[
        str, typer.Option(help="Face detector: auto, retinaface, centerface, ...")
    ] = "auto",
    miss: Annotated[
        str,
        typer.Option(
            help="What to do with an image in which no face is found: skip it, or crop its middle."
        ),
    ] = "skip",
    broken: BrokenOption = BrokenChoice.skip,
    image_format: Annotated[
        str, typer.Option("--format", help="Image format: jpg (quality 95) or png.")
    ] = "jpg",
    workers: WorkersOption = None,
) -> None:
    """Detect and align the faces of a data set and write them to a folder per identity.

    A second call processes only images that are new or have changed.
    """
    from workbench import data

    alignment = data.align(
        source,
        out,
        size=sides(size, "--size"),
        which=which,
        detector=detector,
        miss=miss,
        broken=broken.value,
        format=image_format,
        workers=workers,
    )
    typer.echo(alignment)
    typer.echo(f"each image: {alignment.table}. Next: workbench data info folder:{alignment.path}")


@data_commands.command(
    "show",
    epilog=examples(
        "workbench data show synthfaces",
        "workbench data show bin:lfw.bin --people 20 --out lfw.png",
        "workbench data show synthfaces --augment strong",
        "workbench data show synthfaces --augment '[flip, {blur: {kind: motion}}]'",
    ),
)
def data_show(
    name: SpecArgument,
    out: Annotated[
        Path | None,
        typer.Option(help="PNG file; NAME.png or, with --augment, NAME-augmented.png by default."),
    ] = None,
    people: Annotated[
        int | None,
        typer.Option(
            min=1, help="Largest number of rows, 10 by default; with --augment of columns, 6."
        ),
    ] = None,
    images: Annotated[
        int | None,
        typer.Option(
            min=1, help="Largest number of images in a row, 12 by default; not with --augment."
        ),
    ] = None,
    scale: Annotated[int, typer.Option(min=1, help="Factor by which images are enlarged.")] = 2,
    augment: Annotated[
        str | None,
        typer.Option(
            help="Show the augmentations of a preset or a list, one in each row: none, mirror, "
            "mild, adaface, digiface, strong, or a list in YAML as in the setting augment."
        ),
    ] = None,
) -> None:
    """Write a contact sheet of a data set or benchmark, with one row of images per person.

    With --augment it shows instead what an augmentation does to one image of each person.
    """
    from workbench import data
    from workbench.data.inspect.contact_sheet import sheet
    from workbench.images import to_png

    if augment is not None and images is not None:
        raise WorkbenchError("--images cannot be combined with --augment, which shows one image")
    opened = _with_images(_open(name))
    file = out or Path(f"{opened.name}{'' if augment is None else '-augmented'}.png")
    if file.suffix.lower() != ".png":
        raise WorkbenchError(f"--out {file}: expected a file name that ends in .png")
    if augment is None:
        drawn = data.contact_sheet(opened, people or 10, images or 12, scale)
    else:
        rows = data.augmented(
            opened, yaml_value(augment, f"--augment {quoted(augment)}"), people or 6
        )
        drawn = sheet([list(row) for row in rows.values()], list(rows), scale)
    try:
        with atomic_path(file) as temporary:
            temporary.write_bytes(to_png(drawn))
    except OSError as error:
        raise WorkbenchError(f"{file}: cannot be written ({error.strerror})") from None
    typer.echo(file)


def _open(spec: str) -> Dataset | Benchmark | Labelled | Identification | Templates:
    """Opens a data set, or a benchmark if the spec names no data set."""
    from workbench import data

    return data.open(spec) if data.is_source(spec) else data.benchmark(spec)


def _with_images(
    opened: Dataset | Benchmark | Labelled | Identification | Templates,
) -> Dataset | Benchmark | Identification | Templates:
    """Returns the object that holds the images and the names of the identities."""
    from workbench import data

    return opened.dataset if isinstance(opened, data.Labelled) else opened


def _print_written(written: Written, kind: str, root: object = "") -> None:
    """Prints what was written, and the spec that opens it."""
    from workbench.data.inspect.summary import in_bytes

    content = f"{written.images:,} images"
    if written.identities:
        content += f" of {written.identities:,} identities"
    source_kind = {"rec": "recordio", "tar": "webdataset", "txt": "pairs"}.get(kind, kind)
    spec = f"{source_kind}:{written.path}"
    if kind == "txt":
        spec += f"@{root}"
    typer.echo(f"{written.path}: {content}, {in_bytes(written.bytes)}; {spec} opens it")
    if written.note:
        typer.echo(f"note: {written.note}")
    if written.broken:
        _print_broken(written.broken, "images cannot be read and were left out")


def _print_broken(broken: list[tuple[str, str]], title: str) -> None:
    typer.echo(f"{len(broken):,} {title}:")
    for where, reason in broken[:MAX_LISTED]:
        typer.echo(f"  {where}: {reason}")
    if len(broken) > MAX_LISTED:
        typer.echo(f"  ... and {len(broken) - MAX_LISTED:,} more")
