"""Doing jobs: one after the other in this process, or several at a time in other processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from workbench import runs
from workbench.errors import WorkbenchError
from workbench.experiments.jobs import Job, Step
from workbench.files import writing
from workbench.training import TrainConfig
from workbench.training.interrupt import stop_on_signal

Tell = Callable[[str], None]

POLL_SECONDS = 0.1
"""Time between two looks at the processes."""
BAR_SECONDS = "10"
"""Time between two states of a progress bar in the file to which a process writes."""


@dataclass(frozen=True)
class Outcome:
    """What became of a job.

    Attributes:
        run: The run; None if there is none that is trained as far as the job needs it.
        problem: The error in one line; empty if there was none.
    """

    run: runs.Run | None
    problem: str


def do(job: Job, title: str, progress: bool, tell: Tell) -> runs.Run:
    """Does the missing steps of a job in this process.

    Args:
        job: The job.
        title: Beginning of each line that is told.
        progress: Whether to show progress bars.
        tell: Function that is called with a line for each step.

    Returns:
        The run.

    Raises:
        WorkbenchError: if a step fails, or another process trains the run.
    """
    _tell_if_trained(job, title, tell)
    for step in job.steps():
        tell(f"{title}: {step.words}")
        step.do(progress)
    return job.trained()


def in_this_process(jobs: Sequence[Job], progress: bool, tell: Tell) -> list[Outcome]:
    """Does jobs one after the other. One that fails does not stop the others.

    Args:
        jobs: The jobs.
        progress: Whether to show progress bars.
        tell: Function that is called with a line for each step.

    Returns:
        What became of each job.

    Raises:
        KeyboardInterrupt: if the user stopped a training; the runs can be resumed.
    """
    outcomes = []
    for number, job in enumerate(jobs, 1):
        title = _title(number, jobs)
        try:
            outcomes.append(Outcome(do(job, title, progress, tell), ""))
        except Exception as error:
            problem = str(WorkbenchError(_error_in_words(error)))
            tell(f"{title}: failed: {problem}")
            outcomes.append(Outcome(_run_if_trained(job), problem))
    return outcomes


def in_processes(
    jobs: Sequence[Job], slots: Sequence[Mapping[str, str]], folder: Path, tell: Tell
) -> list[Outcome]:
    """Does jobs beside each other, each by commands of `workbench` in processes of its own.

    Ctrl-C stops all processes after their current step, with a checkpoint. A second Ctrl-C ends
    them at once.

    Args:
        jobs: The jobs.
        slots: Environment variables of the jobs that run at the same time, one mapping for each.
        folder: Folder for the files of settings and for what the processes print.
        tell: Function that is called with a line for each step.

    Returns:
        What became of each job.

    Raises:
        KeyboardInterrupt: if the user stopped; the runs can be resumed.
    """
    outcomes: dict[int, Outcome] = {}
    waiting = deque(enumerate(jobs, 1))
    active: dict[int, _Active] = {}
    with stop_on_signal() as request, ExitStack() as stack:
        stack.callback(_end, active)  # if anything fails here, no process is left behind
        while waiting or active:
            for slot, variables in enumerate(slots):
                if slot not in active and waiting:
                    number, job = waiting.popleft()
                    _tell_if_trained(job, _title(number, jobs), tell)
                    environment = os.environ | {"TQDM_MININTERVAL": BAR_SECONDS} | dict(variables)
                    active[slot] = _Active(
                        job, number, _title(number, jobs), folder, environment, tell
                    )
            for slot in [slot for slot, one in active.items() if not one.is_busy()]:
                done = active.pop(slot)
                outcomes[done.number] = done.outcome()
            if request.signal:
                tell("stopping: each run that is being trained saves a checkpoint")
                _interrupt(active)
                raise KeyboardInterrupt(request.signal.name)
            if active:
                time.sleep(POLL_SECONDS)
    return [outcomes[number] for number in range(1, len(jobs) + 1)]


class _Active:
    """A job whose steps are done in processes, one after the other."""

    def __init__(
        self,
        job: Job,
        number: int,
        title: str,
        folder: Path,
        environment: Mapping[str, str],
        tell: Tell,
    ) -> None:
        self.job, self.number, self.title, self.folder = job, number, title, folder
        self.environment, self.tell = environment, tell
        self.steps: Iterator[Step] = job.steps()
        self.log = folder / "logs" / f"{job.config.name}.txt"
        self.process: subprocess.Popen[bytes] | None = None
        self.problem = ""

    def is_busy(self) -> bool:
        """Looks at the process, and starts the next step if the last one is done."""
        if self.process is not None:
            code = self.process.poll()
            if code is None:
                return True
            if code != 0:
                self.problem = _last_line(self.log) or f"ended with exit code {code}"
                self.tell(f"{self.title}: failed: {self.problem} (see {self.log})")
                return False
        try:
            step = next(self.steps, None)
            if step is None:
                return False
            self.tell(f"{self.title}: {step.words}")
            self.process = self._start(step)
        except WorkbenchError as error:
            self.problem = str(error)
            self.tell(f"{self.title}: failed: {self.problem}")
            return False
        return True

    def outcome(self) -> Outcome:
        """Returns what became of the job."""
        return Outcome(_run_if_trained(self.job), self.problem)

    def _start(self, step: Step) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "workbench", *step.arguments(self.folder)]
        with writing(self.log):
            self.log.parent.mkdir(parents=True, exist_ok=True)
            with self.log.open("ab") as log:
                # In a session of its own, so that Ctrl-C reaches the process only through this
                # one: the signal would otherwise arrive twice and end the process at once.
                return subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env=dict(self.environment),
                    start_new_session=True,
                )


def _processes(active: Mapping[int, _Active]) -> list[subprocess.Popen[bytes]]:
    return [one.process for one in active.values() if one.process is not None]


def _interrupt(active: Mapping[int, _Active]) -> None:
    """Asks all processes to stop, and waits for them."""
    for process in _processes(active):
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
    for process in _processes(active):
        process.wait()


def _end(active: Mapping[int, _Active]) -> None:
    """Ends all processes that are still there."""
    for process in _processes(active):
        if process.poll() is None:
            process.kill()
            process.wait()


def slots_for(count: int, configs: Sequence[TrainConfig]) -> list[dict[str, str]]:
    """Distributes jobs that run at the same time over the devices of this machine.

    Args:
        count: Number of jobs that run at the same time.
        configs: The settings of the runs.

    Returns:
        Environment variables for each of them: the GPU that it sees, if the runs leave the choice
        of the GPU to the workbench; else the number of CPU threads.
    """
    import torch

    gpus = torch.cuda.device_count()
    if gpus and all(config.device in ("auto", "cuda") for config in configs):
        visible = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
        names = visible if len(visible) == gpus and all(visible) else list(map(str, range(gpus)))
        return [{"CUDA_VISIBLE_DEVICES": names[number % gpus]} for number in range(count)]
    threads = os.environ.get("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // count)))
    return [{"OMP_NUM_THREADS": threads}] * count


def default_count() -> int:
    """Returns the number of jobs that run at the same time: one for each GPU, else 1."""
    import torch

    return max(1, torch.cuda.device_count())


def _title(number: int, jobs: Sequence[Job]) -> str:
    return f"[{number}/{len(jobs)}] {jobs[number - 1].title}"


def _tell_if_trained(job: Job, title: str, tell: Tell) -> None:
    run = _run_if_trained(job)
    if run is not None:
        tell(f"{title}: trained already, {run.path}")


def _run_if_trained(job: Job) -> runs.Run | None:
    run = job.find()
    return run if run is not None and job.is_trained(run) else None


def _error_in_words(error: Exception) -> str:
    if isinstance(error, WorkbenchError):
        return str(error)
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def _last_line(path: Path) -> str:
    """Returns the error at the end of what a process printed, in one line."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines[-20:] if line.startswith("error: ")]
    last = errors[-1] if errors else lines[-1] if lines else ""
    return str(WorkbenchError(last.removeprefix("error: ")))
