"""How fast SynthFaces renders, where the time goes, and how much memory it takes.

`python benchmarks/synthfaces.py --help` lists the options.
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

from _machine import between, machine
from threadpoolctl import threadpool_limits
from tqdm.auto import tqdm

from workbench import runs
from workbench.data.jobs import processes
from workbench.data.rendered import rendering
from workbench.data.rendered.store import RenderSettings
from workbench.errors import WorkbenchError

PARTS = {
    "start": "seconds until the first picture is there, on a machine that never rendered and "
    "on one that did",
    "speed": "images a second of the processes that `workbench data render` uses",
    "stages": "milliseconds an image in each stage of the renderer, in one process with one thread",
    "memory": "peak memory of one of those processes, after the people and after four times as "
    "many",
}
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
"""The functions of a stage.

Time in one that another calls counts for the inner one alone; what is in none is the rest.
"""


def main(arguments: list[str] | None = None) -> int:
    """Measure, print a table, and write JSON where asked to; the exit code."""
    given = _parser().parse_args(arguments)
    settings = RenderSettings(given.people, given.images, size=given.size)
    try:
        if given.out is not None and not given.out.parent.is_dir():
            raise WorkbenchError(
                f"{given.out.parent}: no such folder, give --out a file in one that exists"
            )
        found = measure(settings, given.workers or processes.cores(), given.parts)
        print("\n".join(table(found)))
        if given.out is not None:
            runs.write_json(given.out, found)
    except (WorkbenchError, OSError, subprocess.CalledProcessError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.epilog = "parts:\n" + "\n".join(f"  {name:8}{what}" for name, what in PARTS.items())
    parser.add_argument(
        "--people", type=between(1, 10_000), default=24, help="people to render (default: 24)"
    )
    parser.add_argument(
        "--images", type=between(1, 1000), default=40, help="pictures of each (default: 40)"
    )
    parser.add_argument(
        "--size",
        type=between(32, 512),
        default=112,
        help="height and width in pixels (default: 112)",
    )
    parser.add_argument(
        "--workers", type=between(1, 1024), help="processes, beside 1 (default: as many as cores)"
    )
    parser.add_argument(
        "--parts",
        nargs="+",
        choices=PARTS,
        default=list(PARTS),
        help="what to measure (default: all)",
    )
    parser.add_argument("--out", type=Path, help="write the figures to this JSON file as well")
    return parser


def measure(settings: RenderSettings, workers: int, parts: list[str]) -> dict[str, Any]:
    """The figures of the parts asked for, in a cache that is thrown away afterwards."""
    found: dict[str, Any] = {
        "machine": machine("numpy", "numba", "pillow"),
        "settings": settings.about,
    }
    with tempfile.TemporaryDirectory() as folder, patch.dict(os.environ, WORKBENCH_CACHE=folder):
        if "start" in parts:
            found["start"] = start(settings)
        if {"speed", "stages", "memory"} & set(parts):
            # Another person than those who are measured, so that what is compiled, and the anatomy,
            # are kept from here on.
            rendering.ensure(replace(settings, people=1, first=settings.people), workers=0)
        if "speed" in parts:
            found["speed"] = [speed(settings, count) for count in sorted({1, workers})]
        if "stages" in parts:
            found["stages"] = stages(settings)
        if "memory" in parts:
            found["memory"] = memory(settings)
    return found


def start(settings: RenderSettings) -> dict[str, float]:
    """Seconds of the command that renders one picture: everything compiled and the anatomy read
    first, then both kept.
    """
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
        found = {}
        for seed, name in enumerate(("cold_seconds", "warm_seconds")):
            begin = time.perf_counter()
            subprocess.run(
                [*command, f"synthfaces:1x1,seed={seed},size={settings.size}"],
                env=environment,
                check=True,
                stdout=subprocess.DEVNULL,
            )
            found[name] = time.perf_counter() - begin
    return found


def speed(settings: RenderSettings, workers: int) -> dict[str, float]:
    """Seconds of the whole call, and images a second beyond the first picture of each process,
    which has the start in it.
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
    """Seconds within functions, less those within others that are timed too."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self._inner = [0.0]

    def timed(self, stage: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, whose time counts for the stage."""

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
    def on(self, wanted: dict[str, tuple[str, ...]]) -> Iterator[None]:
        """Time these functions, given as `module:name`, by stage."""
        with ExitStack() as stack:
            for stage, names in wanted.items():
                for name in names:
                    stack.enter_context(
                        patch(name.replace(":", "."), self.timed(stage, resolve_name(name)))
                    )
            yield


def stages(settings: RenderSettings) -> dict[str, dict[str, float]]:
    """Milliseconds an image and share of the whole, by stage, in this process, which has rendered
    before.
    """
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
    """Peak resident memory of one worker, in 10^6 bytes, after so many people.

    Empty where the system has no /proc.
    """
    found = []
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
        for number, said in enumerate([job, *(f"{person}\n".encode() for person in people)]):
            worker.stdin.write(said)
            worker.stdin.flush()
            if error := json.loads(worker.stdout.readline() or '{"error": "the worker ended"}').get(
                "error"
            ):
                raise WorkbenchError(error)
            bar.update(number > 0)
            if number in (settings.people, 4 * settings.people):
                lines = dict(
                    line.split(":", 1) for line in status.read_text(encoding="ascii").splitlines()
                )
                found.append(
                    {"people": number, "peak_mb": int(lines["VmHWM"].split()[0]) * 1024 / 1e6}
                )
    return found


def table(found: dict[str, Any]) -> list[str]:
    """The figures as lines of text."""
    lines = [f"{key:12}{value}" for key, value in found["machine"].items()]
    if "start" in found:
        cold, warm = found["start"].values()
        lines += ["", f"first picture: {cold:.1f} s with nothing kept, {warm:.1f} s once compiled"]
    if "speed" in found:
        lines += ["", "workers   images  seconds  images/s  after the start"]
        lines += [
            "{workers:7} {images:8} {seconds:8.1f} {images_per_second:9.1f} "
            "{images_per_second_after_start:16.1f}".format(**row)
            for row in found["speed"]
        ]
    if "stages" in found:
        lines += ["", f"{'stage':26}ms/image   share"]
        lines += [
            f"{stage:26}{row['ms_per_image']:8.2f} {row['share']:7.1%}"
            for stage, row in found["stages"].items()
        ]
    if "memory" in found:
        lines += ["", "people  peak memory of a worker (MB)"]
        lines += [f"{row['people']:6}{row['peak_mb']:9.0f}" for row in found["memory"]] or [
            "not known: no /proc here"
        ]
    return lines


if __name__ == "__main__":
    sys.exit(main())
