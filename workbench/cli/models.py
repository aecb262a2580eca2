"""The commands `workbench import` and `workbench export`: models of other programs."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from workbench.cli.options import RunArgument, RunsDirOption, examples, sides
from workbench.scaling import PerChannel, formula, per_channel, read_per_channel

if TYPE_CHECKING:
    from workbench.runs import Run

model_commands = typer.Typer()


class ChannelsChoice(StrEnum):
    """Order of the colour channels in a network's input."""

    rgb = "rgb"
    bgr = "bgr"


@model_commands.command(
    "import",
    epilog=examples(
        "workbench import backbone.pth --name glint360k-r50",
        "workbench import adaface.ckpt --channels bgr",
        "workbench import model.onnx --output embedding",
        "workbench import dlib --name dlib",
    ),
)
def import_(
    checkpoint: Annotated[
        str,
        typer.Argument(
            help="PyTorch state_dict (backbone.pth, checkpoint_gpu_0.pt, ...) or ONNX file; or "
            "dlib for dlib's face recognition network, which needs the extra reference."
        ),
    ],
    name: Annotated[
        str | None,
        typer.Option(
            help='Name of the run; "imported-" and the backbone, file or model by default.'
        ),
    ] = None,
    runs_dir: RunsDirOption = Path("runs"),
    backbone: Annotated[
        str | None,
        typer.Option(
            help="Backbone of a state_dict; by default the one whose weights have these shapes."
        ),
    ] = None,
    image_size: Annotated[
        str | None,
        typer.Option(
            help="Size of the network's input in pixels, SIDE or HEIGHTxWIDTH; "
            "by default as the file states, otherwise 112."
        ),
    ] = None,
    pixel_mean: Annotated[
        str | None,
        typer.Option(
            help="Mean that is subtracted from pixel values 0..255: one number, or one for each "
            "channel such as 123.675,116.28,103.53; by default as the file states, otherwise 127.5."
        ),
    ] = None,
    pixel_std: Annotated[
        str | None,
        typer.Option(
            help="Standard deviation by which the difference is divided: one number or three; "
            "by default as the file states, otherwise 127.5."
        ),
    ] = None,
    channels: Annotated[
        ChannelsChoice | None,
        typer.Option(
            help="Order of the colour channels; by default as the file states, otherwise rgb."
        ),
    ] = None,
    output: Annotated[
        str | None,
        typer.Option(
            help="Name of the ONNX output that holds the embeddings, if there are several outputs."
        ),
    ] = None,
) -> None:
    """Make a run directory from a model that another program trained.

    The run can be evaluated and shown in the dashboard, but not trained. The
    command prints how it interpreted the file and what it assumed.
    """
    from workbench.exchange import import_model

    mean, std = _mean_and_std(pixel_mean, pixel_std)
    run = import_model(
        checkpoint,
        name=name,
        runs_dir=runs_dir,
        backbone=backbone,
        image_size=None if image_size is None else sides(image_size),
        pixel_mean=mean,
        pixel_std=std,
        channels=None if channels is None else channels.value,
        output=output,
    )
    _print_imported(run)


def _mean_and_std(
    pixel_mean: str | None, pixel_std: str | None
) -> tuple[PerChannel | None, PerChannel | None]:
    """Reads the options --pixel-mean and --pixel-std."""
    mean = std = None
    if pixel_mean is not None:
        mean = read_per_channel(pixel_mean, "--pixel-mean")
    if pixel_std is not None:
        std = read_per_channel(pixel_std, "--pixel-std", positive=True)
    return mean, std


def _print_imported(run: Run) -> None:
    """Prints how the imported file was interpreted, and what was assumed."""
    config = run.config
    size = config["image_size"]
    height, width = size if isinstance(size, list) else (size, size)
    scaling = formula(
        per_channel(config["pixel_mean"], "pixel_mean"),
        per_channel(config["pixel_std"], "pixel_std"),
    )
    typer.echo(
        f"{run.path}: {config['backbone']}, {config['embedding_dim']}-d embeddings of "
        f"{height} x {width} {config['channels']} images, {scaling}. "
        f"Next: workbench evaluate {run.path} synthfaces-wild"
    )
    for note in run.environment["imported"]["notes"]:
        typer.echo(f"note: {note}")


@model_commands.command(
    epilog=examples("workbench export runs/NAME", "workbench export runs/NAME arcface.onnx")
)
def export(
    run: RunArgument,
    out: Annotated[
        Path | None,
        typer.Argument(help="File to write; RUN.onnx in the current folder by default."),
    ] = None,
    onnx: Annotated[
        bool, typer.Option("--onnx", help="Write ONNX, the only supported format.")
    ] = True,
) -> None:
    """Write the backbone of a run as an ONNX file for other programs.

    No file is written if its embeddings differ from those of PyTorch by more
    than 1e-4.
    """
    from workbench.exchange import export_onnx

    written = export_onnx(run, out)
    typer.echo(
        f"{written.path}: {written.size / 1e6:.1f} MB, "
        f"largest difference to PyTorch {written.difference:.1e}"
    )
