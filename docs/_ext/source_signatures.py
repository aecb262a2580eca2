"""Shows signatures as the source has them: `NDArray[np.float64]`, not what numpy makes of it."""

from __future__ import annotations

import inspect
from typing import Any

from pydantic import BaseModel
from sphinx.application import Sphinx


def on_signature(
    app: Sphinx, what: str, name: str, obj: Any, options: object, signature: str, returns: str
) -> tuple[str, str] | None:
    """Returns the parameters and the return type of a function, method or class."""
    if what not in ("function", "method", "class") or signature is None:
        return None
    if inspect.isclass(obj) and issubclass(obj, BaseModel):
        return "(**settings)", ""
    try:
        found = inspect.signature(obj)
    except (TypeError, ValueError):
        return None
    parameters = list(found.parameters.values())
    if what == "method" and parameters and parameters[0].name in ("self", "cls"):
        parameters = parameters[1:]
    written = found.replace(
        parameters=[one.replace(annotation=_source(one.annotation)) for one in parameters],
        return_annotation=inspect.Signature.empty,
    )
    returned = _source(found.return_annotation)
    return str(written), "" if returned is inspect.Signature.empty else str(returned)


class _Source:
    """An annotation whose representation is its source."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return self.text


def _source(annotation: Any) -> Any:
    return _Source(annotation) if isinstance(annotation, str) else annotation


def setup(app: Sphinx) -> dict[str, bool]:
    """Registers the extension."""
    app.connect("autodoc-process-signature", on_signature)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
