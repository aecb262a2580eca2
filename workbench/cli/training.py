"""The command `workbench train`."""

from __future__ import annotations

import inspect
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from workbench.cli.options import examples, name_value_pairs
from workbench.errors import WorkbenchError

training_commands = typer.Typer()

EPILOG = examples(
    "workbench train --data synthfaces --loss arcface --loss-option m=0.35",
    "workbench train --data folder:photos@min=5 --backbone mobilefacenet --epochs 30",
    "workbench train --preset casia-arcface-r50 --data recordio:casia --batch-size 64",
    "workbench train --config arcface.yaml --momentum 0.95",
    "workbench train --resume runs/NAME --epochs 40",
)


class SettingsCommand(TyperCommand):
    """A command whose options are made from the settings when they are first needed.

    Reading `TrainConfig` would slow down all other commands.
    """

    @cached_property
    def _command(self) -> Any:
        from workbench.cli.settings import parameters

        source = inspect.signature(train_with, eval_str=True)
        own = [one for one in source.parameters.values() if one.kind is one.KEYWORD_ONLY]

        def command(**values: Any) -> None:
            train_with(**values)

        command.__doc__ = train.__doc__
        command.__signature__ = source.replace(  # type: ignore[attr-defined]
            parameters=[*own, *parameters()]
        )
        app = typer.Typer(add_completion=False, rich_markup_mode="markdown")
        app.command(name="train", epilog=EPILOG)(command)
        return typer.main.get_command(app)

    def get_params(self, ctx: Any) -> list[Any]:
        """Returns the options, with --help."""
        params: list[Any] = self._command.get_params(ctx)
        return params

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Prints the help."""
        self._command.format_help(ctx, formatter)

    def invoke(self, ctx: Any) -> Any:
        """Runs the command with the values of the options."""
        return self._command.invoke(ctx)


def train_with(
    *,
    preset: Annotated[
        str | None,
        typer.Option(help="Preset to begin with; `workbench presets` lists them."),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(help="YAML file of settings to begin with, such as a run's config.yaml."),
    ] = None,
    resume: Annotated[
        Path | None,
        typer.Option(
            help="Run directory whose training is continued from its last checkpoint. Only "
            "--epochs, --device, --precision, --data, --workers, --broken, --log-every, --trackers "
            "and --snapshots may change then."
        ),
    ] = None,
    stop_after: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="EPOCHS",
            help="Interrupt the training after this number of epochs, with a checkpoint from "
            "which --resume continues. The schedule stays that of the whole training.",
        ),
    ] = None,
    setting: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="NAME=VALUE",
            help="Any setting as it is written in a config.yaml, e.g. tasks={gender: {kind: "
            "classes}}. Can be repeated.",
        ),
    ] = None,
    **values: Any,
) -> None:
    """Trains with the values of the options; see `train`."""
    from workbench import presets
    from workbench.cli.settings import as_settings
    from workbench.runs import read_settings
    from workbench.training import TrainConfig
    from workbench.training.config import from_earlier_version
    from workbench.training.overriding import with_overrides

    starts = {"--preset": preset, "--config": config, "--resume": resume}
    given = [option for option, value in starts.items() if value is not None]
    if len(given) > 1:
        raise WorkbenchError(
            f"{' and '.join(given)} cannot be combined; each gives the settings to begin with"
        )
    base: dict[str, Any] = {}
    if preset is not None:
        base = dict(presets.get(preset).settings)
    elif config is not None:
        base = from_earlier_version(read_settings(config))
    settings = as_settings(values, base) | name_value_pairs(setting, "--set")
    if not given and "data" not in settings:
        raise WorkbenchError(
            "no training set is given; use --data folder:DIR, --preset NAME, --config FILE or "
            "--resume RUN"
        )
    checked = None
    if preset is not None:
        checked = presets.load(preset, **settings)
    elif resume is None:
        checked = TrainConfig(**with_overrides(base, settings))

    from workbench.training import train

    if checked is not None:
        run = train(checked, stop_after=stop_after)
    else:
        run = train(resume=resume, changes=settings, stop_after=stop_after)
    typer.echo(f"{run.path}: {run.state}. Next: workbench evaluate {run.path} train")


@training_commands.command(cls=SettingsCommand, epilog=EPILOG)
def train() -> None:
    """Train a backbone under a loss and write a run directory.

    The run directory holds the settings, the metrics, the weights and a
    checkpoint, from which training can be resumed. `workbench evaluate` and the
    dashboard read it. Ctrl-C stops training after the current step and saves a
    checkpoint.

    Every setting is an option. Options take precedence over the preset or the
    config file. Where a description mentions null, the value can be `null`.
    """
