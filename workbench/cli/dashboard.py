"""The commands `workbench app` and `workbench demo`, which start the dashboard."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer

from workbench.cli import live_process
from workbench.cli.options import RunsDirOption, examples
from workbench.errors import WorkbenchError

if TYPE_CHECKING:
    from pandas import DataFrame

STREAMLIT_OPTIONS = {
    "browser.gatherUsageStats": "false",
    "client.toolbarMode": "viewer",
    "server.address": "localhost",
    "server.maxUploadSize": "20",
    "server.showEmailPrompt": "false",
    "theme.base": "light",
    "theme.primaryColor": "#0072B2",
}
"""The settings of .streamlit/config.toml, which Streamlit reads only when started in a checkout."""

FIRST_PORT = 8501
"""The first port that is tried, which is Streamlit's default."""
PORTS_TRIED = 100
DASHBOARD_SECONDS = 3.0
"""Time that Streamlit has to end. It waits for open pages of the browser, but has nothing to
save."""

PortOption = Annotated[
    int | None,
    typer.Option(
        min=1,
        max=65535,
        help=f"Port of the dashboard; by default the first free port from {FIRST_PORT} on.",
    ),
]

dashboard_commands = typer.Typer()


@dashboard_commands.command(
    "app", epilog=examples("workbench app", "workbench app --runs-dir /data/runs --port 8600")
)
def app_(runs_dir: RunsDirOption = Path("runs"), port: PortOption = None) -> None:
    """Start the dashboard and print its address.

    Only this machine can open the address. Ctrl-C stops the dashboard.
    """
    sys.exit(_serve(runs_dir, port))


@dashboard_commands.command(
    epilog=examples("workbench demo", "workbench demo --full", "workbench demo --no-app")
)
def demo(
    runs_dir: RunsDirOption = Path("runs"),
    full: Annotated[
        bool,
        typer.Option(
            "--full",
            help="Train all losses of the reference runs instead of two.",
        ),
    ] = False,
    serve: Annotated[
        bool,
        typer.Option(
            "--app/--no-app",
            help="Start the dashboard and train beside it, or only train and print a table.",
        ),
    ] = True,
    port: PortOption = None,
) -> None:
    """Open the dashboard on the reference runs and train beside it.

    The dashboard opens at once. ArcFace and then softmax are trained on 200
    synthetic people in a process of their own, which the page Live shows epoch
    by epoch, and are evaluated on people who are not in the training set.

    Ctrl-C stops both; the training saves a checkpoint, from which the next call
    continues. Runs that are finished are not trained again.
    """
    if not serve:
        _train_and_print(runs_dir, full)
        return
    port = _checked(port)
    _copy_reference_runs(runs_dir)
    typer.echo(f"live training: http://localhost:{port}/live")
    sys.exit(_serve_beside_training(runs_dir, port, full))


def _train_and_print(runs_dir: Path, full: bool) -> None:
    """Trains the runs of the demo in this process, and prints their accuracies."""
    finished = live_process.train(runs_dir, full, progress=True)
    from workbench.evaluation import leaderboard
    from workbench.evaluation.sources import TRAIN

    table = leaderboard(finished)
    of_training_set = table["benchmark"] == TRAIN
    names = [run.name for run in finished]
    _print_accuracies("accuracy on synthfaces-... (id: rank-1)", table[~of_training_set], names)
    _print_accuracies("accuracy on the training set", table[of_training_set], names)


def _print_accuracies(title: str, table: DataFrame, names: list[str]) -> None:
    """Prints a row of accuracies for each run, or nothing if there are none."""
    if table.empty:
        return
    benchmarks = table["benchmark"].str.removeprefix("synthfaces-")
    accuracies = table.assign(benchmark=benchmarks).pivot(
        index="run", columns="benchmark", values="accuracy"
    )
    typer.echo(f"\n{title}\n{accuracies.round(3).reindex(names).to_string()}")


def _copy_reference_runs(runs_dir: Path) -> None:
    """Copies the reference runs that ship with the package into the folder of runs."""
    from workbench import reference

    try:
        reference.runs(runs_dir)
    except WorkbenchError as error:
        typer.secho(f"the reference runs cannot be copied: {error}", fg="yellow", err=True)


def _serve_beside_training(runs_dir: Path, port: int, full: bool) -> int:
    """Runs Streamlit and a training until Streamlit ends; returns its exit code."""
    with _signals_interrupt():
        training = live_process.LiveTraining(runs_dir, full)
        dashboard: subprocess.Popen[bytes] | None = None
        try:
            command, environment = _streamlit(runs_dir, port)
            dashboard = subprocess.Popen(command, env=environment)
            return dashboard.wait()
        except KeyboardInterrupt:
            return 0
        finally:
            if training.is_running():
                typer.echo("stopping: the training saves a checkpoint (Ctrl-C again ends it now)")
            training.stop()
            if dashboard is not None:
                _end(dashboard)


@contextmanager
def _signals_interrupt() -> Iterator[None]:
    """Lets SIGTERM and SIGHUP (the terminal was closed) act as Ctrl-C does."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    names = [name for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    before = {name: signal.signal(getattr(signal, name), interrupt) for name in names}
    try:
        yield
    finally:
        for name, handler in before.items():
            signal.signal(getattr(signal, name), handler)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ends a process that may have received Ctrl-C already."""
    process.terminate()
    try:
        process.wait(DASHBOARD_SECONDS)
    except (KeyboardInterrupt, subprocess.TimeoutExpired):
        process.kill()
        process.wait()


def _serve(runs_dir: Path, port: int | None) -> int:
    """Runs Streamlit until it is stopped and returns its exit code."""
    command, environment = _streamlit(runs_dir, _checked(port))
    try:
        return subprocess.call(command, env=environment)
    except KeyboardInterrupt:
        return 0


def _checked(port: int | None) -> int:
    """Returns a port that is free."""
    if port is not None and _in_use(port):
        raise WorkbenchError(
            f"port {port} is in use; give another one with --port, "
            "or omit --port to use the first free one"
        )
    return port or _free_port()


def _streamlit(runs_dir: Path, port: int) -> tuple[list[str], dict[str, str]]:
    """Prints the address of the dashboard, and returns its command and environment."""
    typer.echo(f"dashboard: http://localhost:{port} (Ctrl-C stops it)")
    command = [sys.executable, "-m", "workbench.dashboard.serve"]
    command += ["--server.port", str(port), "--server.headless", "true"]
    for option, value in STREAMLIT_OPTIONS.items():
        command += [f"--{option}", value]
    return command, os.environ | {"WORKBENCH_RUNS": str(runs_dir)}


def _in_use(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _free_port() -> int:
    for port in range(FIRST_PORT, FIRST_PORT + PORTS_TRIED):
        if not _in_use(port):
            return port
    last = FIRST_PORT + PORTS_TRIED - 1
    raise WorkbenchError(f"no free port from {FIRST_PORT} to {last}; give one with --port")
