"""The training that `workbench demo` runs beside the dashboard, in a process of its own.

The process trains as long as its standard input is open. The command that started it closes the
input to stop the training; the operating system does the same if the command is killed. The
training therefore never remains alone, on any operating system.
"""

from __future__ import annotations

import _thread
import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import typer

from workbench.activity import tracked
from workbench.errors import WorkbenchError

START = "from workbench.cli.live_process import main; main()"
"""Python code that the process runs."""
STOP_SECONDS = 120.0
"""Time that the training has to complete its step and to save a checkpoint."""
STANDARD_INPUT = 0
"""File descriptor of standard input."""
NICENESS = 10
"""Added to the niceness of the process, so that the dashboard goes first on a busy CPU."""


class LiveTraining:
    """The process of the training, from the side of the command that started it.

    Args:
        runs_dir: Folder of the run directories.
        full: Whether all losses of the demo are trained.
    """

    def __init__(self, runs_dir: Path, full: bool) -> None:
        command = [sys.executable, "-c", START, str(runs_dir)]
        # In a session of its own, so that Ctrl-C reaches the process only through `stop`.
        self.process = subprocess.Popen(
            command + (["--full"] if full else []),
            stdin=subprocess.PIPE,
            start_new_session=True,
            creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),  # on Windows
        )

    def stop(self) -> None:
        """Asks the training to save a checkpoint and to end, and waits for it.

        A second Ctrl-C ends it at once.
        """
        try:
            if self.process.stdin is not None:
                with suppress(OSError):
                    self.process.stdin.close()
            self.process.wait(STOP_SECONDS)
        except (KeyboardInterrupt, subprocess.TimeoutExpired):
            self.process.kill()
            self.process.wait()

    def is_running(self) -> bool:
        """Whether the process has not ended yet."""
        return self.process.poll() is None


def train(runs_dir: Path, full: bool, *, progress: bool) -> list[Any]:
    """Carries out the plan of the demo in this process.

    Args:
        runs_dir: Folder of the run directories.
        full: Whether all losses of the demo are trained.
        progress: Whether to show progress bars.

    Returns:
        The runs that are trained and evaluated.

    Raises:
        WorkbenchError: if another process trains in this folder, or it cannot be written to.
    """
    with tracked(runs_dir, "the demo") as tracker:
        tracker.doing("loading PyTorch")
        # The import takes seconds, in which the dashboard can already say what happens.
        from workbench import experiments

        plan = (experiments.full_plan if full else experiments.live_plan)(runs_dir)
        return experiments.carry_out(plan, tracker, progress=progress, tell=_tell)


def main() -> None:
    """Trains until the plan is done or standard input is closed."""
    if hasattr(os, "nice"):  # Windows does not have it
        os.nice(NICENESS)
    threading.Thread(target=_interrupt_at_end_of_input, daemon=True).start()
    runs_dir, full = Path(sys.argv[1]), "--full" in sys.argv[2:]
    try:
        train(runs_dir, full, progress=False)
    except KeyboardInterrupt:
        _tell("live training: stopped; the next `workbench demo` continues it")
    except WorkbenchError as error:
        typer.secho(f"live training: {error}", fg=typer.colors.RED, err=True)
        sys.exit(2)
    else:
        _tell("live training: finished")


def _tell(line: str) -> None:
    """Prints a line, unless the terminal was closed."""
    with suppress(OSError):
        typer.echo(line)


def _interrupt_at_end_of_input() -> None:
    """Waits for the end of standard input, and then interrupts the main thread as Ctrl-C does."""
    # Python cannot exit while another thread reads from the buffered `sys.stdin`.
    with suppress(OSError):
        while os.read(STANDARD_INPUT, 1024):
            pass
    main_thread = threading.main_thread().ident
    if hasattr(signal, "pthread_kill") and main_thread is not None:
        # A real signal also wakes a main thread that waits for a lock.
        signal.pthread_kill(main_thread, signal.SIGINT)
    else:
        _thread.interrupt_main()
