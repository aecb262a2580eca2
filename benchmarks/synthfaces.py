"""Measures the speed, the stages and the memory of rendering SynthFaces.

Run `python benchmarks/synthfaces.py --help` for the options.
"""

from __future__ import annotations

import argparse
import json
import os
import pickle
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from pkgutil import resolve_name
from typing import Any
from unittest.mock import patch

from _command import add_out, between, new_parser, report, run_script
from _machine import machine
from threadpoolctl import threadpool_limits
from tqdm.auto import tqdm

from workbench.data.jobs import processes
from workbench.data.rendered import rendering
from workbench.data.rendered.store import RenderSettings
from workbench.errors import WorkbenchError

PARTS = {
    "start": "seconds until the first image is rendered, on a new machine and with caches",
    "speed": "images per second of the processes that `workbench data render` uses",
    "stages": "milliseconds per image in each stage of the renderer, in one process, one thread",
    "memory": "peak memory of a worker process, after all people and after four times as many",
}
"""What can be measured."""
SCENE = "workbench.synthfaces.scene"
STAGES = {
    "person, head": (
        "workbench.synthfaces.albums:person",
        f"{SCENE}:head_of",
        "workbench.synthfaces.anatomy:Anatomy.displaced",
    ),
    "paint": (f"{SCENE}:paint",),
    "hair, glasses, assembly": tuple(
        f"{SCENE}:{name}"
        for name in ("hair_pieces", "beard_pieces", "glasses_piece", "_occluders", "assemble")
    ),
    "pose, projection": (f"{SCENE}:_pose", f"{SCENE}:_project", f"{SCENE}:_landmarks_on"),
    "raster": (f"{SCENE}:_visible",),
    "shadow map": (f"{SCENE}:_shadow",),
    "normals, shade": (f"{SCENE}:vertex_normals", f"{SCENE}:shade"),
    "develop": (f"{SCENE}:_panel", f"{SCENE}:_brightness", f"{SCENE}:_develop"),
    "JPEG": ("PIL.Image:Image.save",),
}
"""The functions of each stage. Time in a function that another one calls counts only for the inner
one. The rest is the time outside all of these functions."""


def main(arguments: list[str] | None = None) -> int:
    """Measures, prints a table, writes a JSON file with --out, and returns the exit code."""
    return run_script(
        _parser(),
        lambda options: report(options, measure, table),
        arguments,
        errors=(subprocess.CalledProcessError,),
    )


def _parser() -> argparse.ArgumentParser:
    epilog = "parts:\n" + "\n".join(f"  {name:8}{what}" for name, what in PARTS.items())
    parser = new_parser(__doc__, epilog)
    parser.add_argument(
        "--people", type=between(1, 10_000), default=24, help="people to render (default: 24)"
    )
    parser.add_argument(
        "--images", type=between(1, 1000), default=40, help="images of each person (default: 40)"
    )
    parser.add_argument(
        "--size",
        type=between(32, 512),
        default=112,
        help="height and width in pixels (default: 112)",
    )
    parser.add_argument(
        "--workers",
        type=between(1, 1024),
        help="worker processes, compared with 1 (default: one per core)",
    )
    parser.add_argument(
        "--parts",
        nargs="+",
        choices=PARTS,
        default=list(PARTS),
        help="what to measure (default: all)",
    )
    add_out(parser)
    return parser


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Measures the parts that were asked for, in a temporary cache.

    Returns:
        The figures by part, with the machine and the settings.
    """
    settings = RenderSettings(options.people, options.images, size=options.size)
    workers, parts = options.workers or processes.cores(), options.parts
    figures: dict[str, Any] = {
        "machine": machine("numpy", "numba", "pillow"),
        "settings": settings.about,
    }
    with tempfile.TemporaryDirectory() as folder, patch.dict(os.environ, WORKBENCH_CACHE=folder):
        if "start" in parts:
            figures["start"] = start(settings)
        if {"speed", "stages", "memory"} & set(parts):
            # Renders a person who is not measured, so that the compiled code and the anatomy are
            # cached.
            rendering.ensure(replace(settings, people=1, first=settings.people), workers=0)
        if "speed" in parts:
            figures["speed"] = [speed(settings, count) for count in sorted({1, workers})]
        if "stages" in parts:
            figures["stages"] = stages(settings)
        if "memory" in parts:
            figures["memory"] = memory(settings)
    return figures


def start(settings: RenderSettings) -> dict[str, float]:
    """Seconds of the command that renders one image, with empty caches and then with full ones."""
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {"WORKBENCH_CACHE": folder, "NUMBA_CACHE_DIR": folder}
        command = [
            sys.executable,
            "-c",
            "from workbench.cli import main; main()",
            "data",
            "render",
            "--workers",
            "1",
        ]
        seconds = {}
        for seed, name in enumerate(("cold_seconds", "warm_seconds")):
            begin = time.perf_counter()
            subprocess.run(
                [*command, f"synthfaces:1x1,seed={seed},size={settings.size}"],
                env=environment,
                check=True,
                stdout=subprocess.DEVNULL,
            )
            seconds[name] = time.perf_counter() - begin
    return seconds


def speed(settings: RenderSettings, workers: int) -> dict[str, float]:
    """Measures the rendering with a number of worker processes.

    The rate after the start leaves out the first image of each process, which includes its start.
    """
    seconds = []
    for one in (replace(settings, people=workers, images=1, first=settings.people), settings):
        begin = time.perf_counter()
        rendering.ensure(one, workers=workers, again=True)
        seconds.append(time.perf_counter() - begin)
    first, whole = seconds
    images = settings.people * settings.images
    return {
        "workers": workers,
        "images": images,
        "start_seconds": first,
        "seconds": whole,
        "images_per_second": images / whole,
        "images_per_second_after_start": max(images - workers, 0) / max(whole - first, 1e-9),
    }


class Clock:
    """Measures the seconds in functions, without those in other functions that are measured."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self._inner = [0.0]

    def timed(self, stage: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Returns the function with a wrapper that adds its time to a stage."""

        def wrapper(*arguments: Any, **options: Any) -> Any:
            self._inner.append(0.0)
            begin = time.perf_counter()
            try:
                return function(*arguments, **options)
            finally:
                taken = time.perf_counter() - begin
                self.seconds[stage] += taken - self._inner.pop()
                self._inner[-1] += taken

        return wrapper

    @contextmanager
    def on(self, stages: dict[str, tuple[str, ...]]) -> Iterator[None]:
        """Measures the functions of each stage, which are named as `module:name`."""
        with ExitStack() as stack:
            for stage, names in stages.items():
                for name in names:
                    stack.enter_context(
                        patch(name.replace(":", "."), self.timed(stage, resolve_name(name)))
                    )
            yield


def stages(settings: RenderSettings) -> dict[str, dict[str, float]]:
    """Milliseconds per image and share of each stage, in this process, after a first image."""
    clock = Clock()
    with tempfile.TemporaryDirectory() as parts, threadpool_limits(1), clock.on(STAGES):
        begin = time.perf_counter()
        for person in tqdm(settings.numbers, desc="stages", unit="person", dynamic_ncols=True):
            rendering.write_part(Path(parts), settings, person)
        whole = time.perf_counter() - begin
    seconds = {stage: clock.seconds[stage] for stage in STAGES}
    seconds |= {"rest": whole - sum(seconds.values()), "all": whole}
    images = settings.people * settings.images
    return {
        stage: {"ms_per_image": 1000 * own / images, "share": own / whole}
        for stage, own in seconds.items()
    }


def memory(settings: RenderSettings) -> list[dict[str, float]]:
    """Peak resident memory of a worker process in 10^6 bytes; empty on a system without /proc."""
    peaks = []
    with (
        tempfile.TemporaryDirectory() as parts,
        processes._start() as worker,
        tqdm(total=4 * settings.people, desc="memory", unit="person", dynamic_ncols=True) as bar,
    ):
        assert worker.stdin is not None
        assert worker.stdout is not None
        status = Path(f"/proc/{worker.pid}/status")
        people = range(4 * settings.people if status.is_file() else 0)
        job = pickle.dumps(rendering.Renderer(settings, Path(parts)))
        for number, message in enumerate([job, *(f"{person}\n".encode() for person in people)]):
            worker.stdin.write(message)
            worker.stdin.flush()
            answer = json.loads(worker.stdout.readline() or '{"error": "the worker ended"}')
            if error := answer.get("error"):
                raise WorkbenchError(error)
            bar.update(number > 0)
            if number in (settings.people, 4 * settings.people):
                text = status.read_text(encoding="ascii")
                lines = dict(line.split(":", 1) for line in text.splitlines())
                peaks.append(
                    {"people": number, "peak_mb": int(lines["VmHWM"].split()[0]) * 1024 / 1e6}
                )
    return peaks


def table(figures: dict[str, Any]) -> list[str]:
    """Formats the figures as lines of text."""
    lines = [f"{key:12}{value}" for key, value in figures["machine"].items()]
    if "start" in figures:
        cold, warm = figures["start"].values()
        lines += ["", f"first image: {cold:.1f} s with empty caches, {warm:.1f} s with full ones"]
    if "speed" in figures:
        lines += ["", "workers   images  seconds  images/s  after the start"]
        row_format = (
            "{workers:7} {images:8} {seconds:8.1f} {images_per_second:9.1f} "
            "{images_per_second_after_start:16.1f}"
        )
        lines += [row_format.format(**row) for row in figures["speed"]]
    if "stages" in figures:
        lines += ["", f"{'stage':26}ms/image   share"]
        lines += [
            f"{stage:26}{row['ms_per_image']:8.2f} {row['share']:7.1%}"
            for stage, row in figures["stages"].items()
        ]
    if "memory" in figures:
        lines += ["", "people  peak memory of a worker (MB)"]
        lines += [f"{row['people']:6}{row['peak_mb']:9.0f}" for row in figures["memory"]] or [
            "unknown: this system has no /proc"
        ]
    return lines


if __name__ == "__main__":
    sys.exit(main())
