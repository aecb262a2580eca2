"""The command `workbench train`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from workbench.cli.options import examples, name_value_pairs, nested
from workbench.errors import WorkbenchError

training_commands = typer.Typer()


@training_commands.command(
    epilog=examples(
        "workbench train --data synthfaces --loss arcface --loss-option m=0.35",
        "workbench train --data folder:photos@min=5 --backbone mobilefacenet --epochs 30",
        "workbench train --config arcface.yaml --set momentum=0.95",
        "workbench train --resume runs/NAME --epochs 40",
    )
)
def train(
    data: Annotated[
        str | None,
        typer.Option(
            help="Training set: synthfaces, orl, folder:DIR, recordio:DIR, ... folder:DIR@100x20 "
            "is a part of a set (100 identities with 20 images each), and A+B joins two sets."
        ),
    ] = None,
    loss: Annotated[
        str | None,
        typer.Option(
            help="Name of the loss, arcface by default. `workbench losses` lists all names. "
            "Parts are added with +, as in normface+ohem."
        ),
    ] = None,
    loss_option: Annotated[
        list[str] | None,
        typer.Option(
            help="Option of the loss as NAME=VALUE, e.g. m=0.4, or of one of its parts, "
            "e.g. ohem.keep=0.5. Can be repeated."
        ),
    ] = None,
    backbone: Annotated[
        str | None,
        typer.Option(
            help="Name of the backbone, smallresnet by default. `workbench backbones` lists "
            "all names."
        ),
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(help="Number of passes over the training set.")
    ] = None,
    batch_size: Annotated[int | None, typer.Option(help="Number of images in a batch.")] = None,
    image_size: Annotated[
        int | None, typer.Option(help="Height and width of the network's input in pixels.")
    ] = None,
    embedding_dim: Annotated[
        int | None, typer.Option(help="Number of dimensions of an embedding.")
    ] = None,
    lr: Annotated[
        float | None, typer.Option(help="Highest learning rate, which the warm-up ends at.")
    ] = None,
    device: Annotated[
        str | None,
        typer.Option(
            help="Device to train on: auto, cpu, cuda, cuda:1, mps. auto uses a GPU if there is "
            "one, else the CPU."
        ),
    ] = None,
    precision: Annotated[
        str | None,
        typer.Option(help="Numerical precision: auto, fp32, bf16. auto uses bf16 if supported."),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(
            help="Seed of the initial weights, the order of the images and the augmentation."
        ),
    ] = None,
    runs_dir: Annotated[
        str | None, typer.Option(help="Folder in which the run directory is created.")
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(help="Name of the run; loss, backbone, date and time by default."),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(
            help="YAML file with settings. Options on the command line take precedence over it."
        ),
    ] = None,
    setting: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            help="Any other setting of a config.yaml as NAME=VALUE, e.g. momentum=0.95. "
            "Can be repeated.",
        ),
    ] = None,
    resume: Annotated[
        Path | None,
        typer.Option(
            help="Run directory whose training is continued from its last checkpoint. "
            "Only --epochs, --device, --precision, --data and, with --set, workers, broken and "
            "log_every may change then."
        ),
    ] = None,
) -> None:
    """Train a backbone under a loss and write a run directory.

    The run directory holds the settings, the metrics, the weights and a
    checkpoint, from which training can be resumed. `workbench evaluate` and the
    dashboard read it. Ctrl-C stops training after the current step and saves a
    checkpoint.
    """
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
    settings: dict[str, Any] = {key: value for key, value in options.items() if value is not None}
    settings |= name_value_pairs(setting, "--set")
    if loss_option:
        loss_options = name_value_pairs(loss_option, "--loss-option")
        settings["loss_options"] = nested(loss_options, "--loss-option")
    if resume is not None and config is not None:
        raise WorkbenchError(
            "--config cannot be combined with --resume, which takes all settings from the run"
        )
    if resume is None and config is None and "data" not in settings:
        raise WorkbenchError(
            "no training set is given; use --data folder:DIR, --config FILE or --resume RUN"
        )

    from workbench.training import TrainConfig
    from workbench.training import train as train_run

    if resume is not None:
        run = train_run(resume=resume, changes=settings)
    elif config is not None:
        run = train_run(TrainConfig.read(config, **settings))
    else:
        run = train_run(TrainConfig(**settings))
    typer.echo(f"{run.path}: {run.state}. Next: workbench evaluate {run.path} train")
