"""Models of other programs: `import_model` makes a run of one, `export_onnx` writes one."""

from __future__ import annotations

from workbench.exchange.exporting import Exported, export_onnx
from workbench.exchange.importing import import_model

__all__ = ["Exported", "export_onnx", "import_model"]
