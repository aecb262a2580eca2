"""The commands `workbench app` and `workbench demo`, which start the dashboard."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from workbench.cli.options import RunsDirOption, examples
from workbench.errors import WorkbenchError

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


@dashboard_commands.command(epilog=examples("workbench demo", "workbench demo --no-app"))
def demo(
    runs_dir: RunsDirOption = Path("runs"),
    serve: Annotated[
        bool, typer.Option("--app/--no-app", help="Start the dashboard afterwards.")
    ] = True,
    port: PortOption = None,
) -> None:
    """Train six losses on 200 synthetic people, evaluate them and start the dashboard.

    The runs are evaluated on synthetic people who are not in the training set.
    Runs that are already finished are not trained again.
    """
    from workbench import experiments

    finished = experiments.sweep(
        experiments.demo_configs(runs_dir), experiments.DEMO_BENCHMARKS, tell=typer.echo
    )
    from workbench.evaluation import leaderboard

    table = leaderboard(finished, list(experiments.DEMO_BENCHMARKS))
    if len(table):
        table["benchmark"] = table["benchmark"].str.removeprefix("synthfaces-")
        accuracies = table.pivot(index="loss", columns="benchmark", values="accuracy")
        accuracies = accuracies.reindex(list(experiments.DEMO_LOSSES)).round(3)
        typer.echo(f"\naccuracy on synthfaces-... (id: rank-1)\n{accuracies.to_string()}")
    if serve:
        sys.exit(_serve(runs_dir, port))


def _serve(runs_dir: Path, port: int | None) -> int:
    """Runs Streamlit until it is stopped and returns its exit code."""
    if port is not None and _in_use(port):
        raise WorkbenchError(
            f"port {port} is in use; give another one with --port, "
            "or omit --port to use the first free one"
        )
    port = port or _free_port()
    typer.echo(f"dashboard: http://localhost:{port} (Ctrl-C stops it)")
    command = [sys.executable, "-m", "workbench.dashboard.serve"]
    command += ["--server.port", str(port), "--server.headless", "true"]
    for option, value in STREAMLIT_OPTIONS.items():
        command += [f"--{option}", value]
    try:
        return subprocess.call(command, env=os.environ | {"WORKBENCH_RUNS": str(runs_dir)})
    except KeyboardInterrupt:
        return 0


def _in_use(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _free_port() -> int:
    for port in range(FIRST_PORT, FIRST_PORT + PORTS_TRIED):
        if not _in_use(port):
            return port
    last = FIRST_PORT + PORTS_TRIED - 1
    raise WorkbenchError(f"no free port from {FIRST_PORT} to {last}; give one with --port")
