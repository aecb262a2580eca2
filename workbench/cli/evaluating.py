"""The commands `workbench evaluate`, `alignment`, `embed`, `calibrate` and `compare`."""

from __future__ import annotations

from enum import StrEnum
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from workbench.cli.options import (
    BatchSizeOption,
    BrokenChoice,
    BrokenOption,
    DeviceOption,
    FlipChoice,
    ProjectionOption,
    RunArgument,
    RunsDirOption,
    TableFormatOption,
    WeightsChoice,
    WeightsOption,
    examples,
)
from workbench.cli.tables import TableFormat, print_table
from workbench.errors import WorkbenchError, unknown_name

if TYPE_CHECKING:
    from pandas import DataFrame

    from workbench.evaluation import Calibration
    from workbench.evaluation.kinds import Result
    from workbench.runs import Run


MAX_NAMED_IMAGES = 3
"""Largest number of unreadable images that are named in one line of output."""

evaluation_commands = typer.Typer()


class MeanChoice(StrEnum):
    """Whether a mean embedding is subtracted before embeddings are compared."""

    none = "none"
    subtract = "subtract"


class DistanceChoice(StrEnum):
    """How two embeddings are compared."""

    cosine = "cosine"
    euclidean = "euclidean"
    euclidean_raw = "euclidean-raw"


class PicturesChoice(StrEnum):
    """What the images of a calibration are."""

    photos = "photos"
    rendered = "rendered"


class ThresholdChoice(StrEnum):
    """Which thresholds are tried for the accuracy."""

    exact = "exact"
    grid = "grid"


@evaluation_commands.command(
    epilog=examples(
        "workbench evaluate runs/NAME synthfaces-wild synthfaces-pose",
        "workbench evaluate runs/A runs/B bin:lfw.bin --protocol arcface_torch",
        "workbench evaluate runs/NAME pairs:pairs.txt@lfw.zip --flip none",
        "workbench evaluate runs/NAME train --data folder:NEW/PLACE",
    )
)
def evaluate(
    names: Annotated[
        list[str],
        typer.Argument(
            help="Run directories, then benchmarks: synthfaces-wild, synthfaces-pose, orl, "
            "bin:FILE, pairs:LIST@ROOT, ... The benchmark `train` measures the accuracy on the "
            "run's own training set."
        ),
    ],
    protocol: Annotated[
        str,
        typer.Option(
            help="Protocol for pairs: workbench, arcface_torch or sphereface. "
            "--flip, --mean, --distance and --threshold change parts of it."
        ),
    ] = "workbench",
    flip: Annotated[
        FlipChoice | None,
        typer.Option(
            help="Use of the mirrored image: add its embedding, concatenate both embeddings, "
            "or none."
        ),
    ] = None,
    mean: Annotated[
        MeanChoice | None,
        typer.Option(
            help="Mean embedding to subtract: subtract for that of the other folds, or none."
        ),
    ] = None,
    distance: Annotated[
        DistanceChoice | None,
        typer.Option(
            help="Comparison of two embeddings: cosine, euclidean (of normalised embeddings) "
            "or euclidean-raw."
        ),
    ] = None,
    threshold: Annotated[
        ThresholdChoice | None,
        typer.Option(
            help="Thresholds to choose from: exact tries every score, grid uses the grid of "
            "arcface_torch."
        ),
    ] = None,
    weights: WeightsOption = WeightsChoice.auto,
    device: DeviceOption = "auto",
    batch_size: BatchSizeOption = 128,
    bootstrap: Annotated[
        int,
        typer.Option(
            min=0,
            help="Number of bootstrap resamples for the 95 % intervals of identification. "
            "0 computes no intervals, except those of closed sets.",
        ),
    ] = 1000,
    projection: ProjectionOption = True,
    broken: Annotated[
        BrokenChoice | None,
        typer.Option(
            help="What to do with an image that cannot be read: stop with an error (the default), "
            "or skip the image and every pair that needs it. The default for the benchmark `train` "
            "is the setting that the run was trained with."
        ),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            help="Spec of the training set at its new place, if it was moved. "
            "Only for the benchmark `train`."
        ),
    ] = None,
) -> None:
    """Evaluate runs on benchmarks, store the results and print them.

    Every run is evaluated on every benchmark. The results are stored in the run
    directory, where `workbench compare` and the dashboard find them.
    """
    folders, benchmarks = _runs_and_benchmarks(names)
    if data is not None and "train" not in benchmarks:
        raise WorkbenchError(
            f"--data {data}: gives the place of the training set, "
            "so it can only be used with workbench evaluate RUN train"
        )

    from workbench.evaluation import evaluate as evaluate_run
    from workbench.evaluation.protocol import resolve

    choices = {"flip": flip, "mean": mean, "distance": distance, "threshold": threshold}
    changes = {option: choice.value for option, choice in choices.items() if choice is not None}
    resolved_protocol = resolve(protocol, **changes)
    for folder, benchmark in product(folders, benchmarks):
        result = evaluate_run(
            folder,
            benchmark,
            protocol=resolved_protocol,
            weights=weights.value,
            device=device,
            batch_size=batch_size,
            bootstrap=bootstrap,
            with_projection=projection,
            broken=None if broken is None else broken.value,
            training_data=data,
        )
        _print_result(folder.name, result)


def _runs_and_benchmarks(names: list[str]) -> tuple[list[Path], list[str]]:
    """Divides the arguments of `workbench evaluate` into run directories and benchmarks."""
    from workbench import runs

    folders = [Path(name) for name in names if (Path(name) / runs.CONFIG).is_file()]
    if not folders:
        folders = [runs.open(names[0]).path]  # raises the error that explains what is wrong
    benchmarks = [name for name in names if Path(name) not in folders]
    if not benchmarks:
        raise WorkbenchError("no benchmark is given, e.g. workbench evaluate RUN bin:lfw.bin")
    return folders, benchmarks


def _print_result(run_name: str, result: Result) -> None:
    """Prints the figures of a result, and what was left out."""
    typer.echo(f"{run_name} on {result.name}: {result.summary()}")
    if "left out" in result.protocol:
        typer.echo(
            f"left out: {result.protocol['left out']}; "
            f"evaluation/{result.name}.json lists every image"
        )


@evaluation_commands.command(
    "alignment",
    epilog=examples("workbench alignment runs/NAME pairs:pairs.txt@lfw.zip"),
)
def alignment_(
    run: RunArgument,
    benchmark: Annotated[
        str,
        typer.Argument(
            help="Benchmark of pairs of whole photos, in which the faces are not cropped yet."
        ),
    ],
    device: DeviceOption = "auto",
    projection: ProjectionOption = True,
    broken: Annotated[
        BrokenChoice,
        typer.Option(
            help="What to do with an image that cannot be read: stop with an error, "
            "or skip the image and its pairs."
        ),
    ] = BrokenChoice.stop,
) -> None:
    """Measure how much face alignment improves the accuracy of a run.

    The run is evaluated three times on the same pairs: on the photos as they are,
    cropped to the detected face, and aligned. The paired differences are printed
    with 95 % intervals.
    """
    from workbench import experiments

    study = experiments.alignment(
        run, benchmark, device=device, with_projection=projection, broken=broken.value
    )
    typer.echo(study)


@evaluation_commands.command(
    epilog=examples(
        "workbench embed runs/NAME folder:photos photos.npz",
        "workbench embed runs/NAME bin:lfw.bin lfw.npz --flip concatenate",
    )
)
def embed(
    run: RunArgument,
    source: Annotated[
        str,
        typer.Argument(
            help="Data set or benchmark: folder:DIR, bin:FILE, orl, synthfaces-wild, ..."
        ),
    ],
    out: Annotated[Path, typer.Argument(help="File to write; its name ends in .npz.")],
    flip: Annotated[
        FlipChoice,
        typer.Option(
            help="Use of the mirrored image: add its embedding, concatenate both embeddings, "
            "or none."
        ),
    ] = FlipChoice.add,
    weights: WeightsOption = WeightsChoice.auto,
    device: DeviceOption = "auto",
    batch_size: BatchSizeOption = 128,
    broken: BrokenOption = BrokenChoice.stop,
) -> None:
    """Write the embeddings and identities of all images to an .npz file.

    Other programs can read the file with `numpy.load`. The embeddings are not normalised.
    """
    from workbench.evaluation import embed as embed_source

    embedded = embed_source(
        run,
        source,
        flip=flip.value,
        weights=weights.value,
        device=device,
        batch_size=batch_size,
        broken=broken.value,
        out=out,
    )
    count, length = embedded.embeddings.shape
    typer.echo(
        f"{out}: {count:,} embeddings of length {length}, not normalised, "
        f"{len(embedded.identity_names):,} identities named"
    )
    if skipped := embedded.made.get("left out"):
        names = [image["image"] for image in skipped[:MAX_NAMED_IMAGES]]
        if len(skipped) > MAX_NAMED_IMAGES:
            names.append("...")
        typer.echo(
            f"left out: {len(skipped):,} images, which cannot be read ({', '.join(names)}); "
            "the entry `made` of the file lists all of them"
        )


@evaluation_commands.command(
    epilog=examples(
        "workbench calibrate runs/NAME aligned:folder:photos",
        "workbench calibrate runs/NAME bin:lfw.bin --name lfw",
    )
)
def calibrate(
    run: RunArgument,
    benchmark: Annotated[
        str,
        typer.Argument(
            help="Data set with several photos of each person, of which all pairs are scored, such "
            "as aligned:folder:DIR; or a benchmark of pairs, such as bin:FILE."
        ),
    ],
    name: Annotated[
        str | None,
        typer.Option(help="Name of the calibration; by default that of the benchmark."),
    ] = None,
    pictures: Annotated[
        PicturesChoice | None,
        typer.Option(
            help="What the images are: photos of real people, or rendered. By default, images of "
            "synthfaces are rendered and all others are photos."
        ),
    ] = None,
    device: DeviceOption = "auto",
    batch_size: BatchSizeOption = 128,
    broken: BrokenOption = BrokenChoice.stop,
) -> None:
    """Store the scores of pairs with which verdicts on two photos are compared.

    A verdict on two photos says how many pairs of different people look at least
    as alike. This share holds for photos like those of the calibration, so
    calibrate on photos like those that you want to compare. The people must not be
    in the training set.
    """
    from workbench.evaluation import calibrate as calibrate_run

    calibration = calibrate_run(
        run,
        benchmark,
        name=name,
        pictures=None if pictures is None else pictures.value,
        device=device,
        batch_size=batch_size,
        broken=broken.value,
    )
    _print_calibration(run, calibration)


def _print_calibration(run: Path, calibration: Calibration) -> None:
    """Prints where a calibration is stored, its thresholds and its note."""
    typer.echo(
        f"{run}/calibration/{calibration.name}.json: {calibration.description()}; "
        f"{calibration.result.summary()}"
    )
    for far in calibration.fars:
        threshold = calibration.threshold(far)
        _, tar = calibration.result.rates_at(threshold)
        typer.echo(f"threshold {threshold:.3f}: FAR {far:g}, TAR {tar:.1%}")
    if not calibration.fars:
        typer.echo("no threshold is given: even a FAR of 0.1 needs 100 impostor pairs")
    if calibration.result.note:
        typer.echo(f"note: {calibration.result.note}")


@evaluation_commands.command(
    epilog=examples(
        "workbench compare",
        "workbench compare runs/A runs/B --benchmark lfw --format latex",
        "workbench compare runs/dlib --photos first.jpg second.jpg --far 0.01",
    )
)
def compare(
    run: Annotated[
        list[Path] | None,
        typer.Argument(help="Run directories; all runs in --runs-dir by default."),
    ] = None,
    benchmark: Annotated[
        list[str] | None,
        typer.Option(help="Show only this benchmark. Can be repeated."),
    ] = None,
    runs_dir: RunsDirOption = Path("runs"),
    table_format: TableFormatOption = TableFormat.text,
    photos: Annotated[
        tuple[Path, Path] | None,
        typer.Option(
            help="Two photos. Instead of the table, print for each run how similar their largest "
            "faces are, and the verdict.",
        ),
    ] = None,
    calibration: Annotated[
        str | None,
        typer.Option(
            help="With --photos: calibration, or evaluation on pairs, that the verdict rests on. "
            "By default one of photos, if the run has one."
        ),
    ] = None,
    far: Annotated[
        float | None,
        typer.Option(
            help="With --photos: false accept rate that determines the threshold. By default, the "
            "threshold is the one with the fewest errors on the pairs of the calibration."
        ),
    ] = None,
) -> None:
    """Print a table of stored evaluation results, one row for each run and benchmark.

    No evaluation is repeated. The CSV format has all columns, among them the TAR
    at each FAR and the limits of all intervals. With --photos, two photos are
    compared under each run instead.
    """
    from workbench import runs
    from workbench.evaluation import leaderboard

    selected = [runs.open(path) for path in run] if run else runs.list(runs_dir)
    if not selected:
        raise WorkbenchError(
            f"{runs_dir}: no runs; make some with workbench demo, "
            "or give another folder with --runs-dir"
        )
    if photos is not None:
        _compare_photos(selected, photos, calibration, far)
        return
    if calibration is not None or far is not None:
        option = "--calibration" if calibration is not None else "--far"
        raise WorkbenchError(f"{option}: is only used together with --photos FIRST SECOND")
    evaluated = {name for one in selected for name in one.evaluations()}
    for name in benchmark or []:
        if evaluated and name not in evaluated:
            raise unknown_name("benchmark", name, evaluated)
    table = leaderboard(selected, benchmark)
    if table.empty:
        raise WorkbenchError(
            "none of the runs has been evaluated; use workbench evaluate RUN BENCHMARK"
        )
    if table_format is TableFormat.csv:
        print_table(table, table_format)
        return
    columns = ["run", "benchmark", "accuracy", "accuracy_low", "accuracy_high"]
    columns += ["std", "auc", "eer"]
    columns += [
        name for name in map(str, table) if name.endswith(("_accuracy", "_mae"))
    ]  # of tasks
    columns.append("kind")
    if table["protocol"].nunique() > 1:
        columns.insert(2, "protocol")
    print_table(table[[column for column in columns if column in table]], table_format)
    _print_caveats(table)
    if table_format is TableFormat.text and "identification" in set(table["kind"]):
        typer.echo("accuracy of an identification: rank-1")


def _print_caveats(table: DataFrame) -> None:
    """Prints which rows are stale or incomplete, on standard error to keep the table clean."""
    for row in table.to_dict("records"):
        run, benchmark = row["run"], row["benchmark"]
        if row["stale"]:
            typer.echo(
                f"stale: {run} was trained on since it was evaluated on {benchmark}; "
                "evaluate it again",
                err=True,
            )
        if row["left_out"]:
            typer.echo(f"left out: {run} on {benchmark} is without {row['left_out']}", err=True)


def _compare_photos(
    selected: list[Run], photos: tuple[Path, Path], calibration: str | None, far: float | None
) -> None:
    """Prints the verdict of each run on two photos, and what it rests on."""
    from workbench import images
    from workbench.evaluation import caveats, compare_photos, load_calibration

    first, second = (images.read(path) for path in photos)
    for run in selected:
        verdict = compare_photos(run, first, second, calibration=calibration, far=far)
        used = load_calibration(run, verdict.calibration)
        typer.echo(
            f"{run.name}: similarity {verdict.similarity:.3f}, {verdict.decision} "
            f"{verdict.at_threshold} {verdict.at_similarity}"
        )
        typer.echo(f"  calibration: {used.description()}")
        for sentence in caveats(run, used):
            typer.echo(f"  {sentence}")
