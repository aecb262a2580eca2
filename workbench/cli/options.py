"""What commands read out of their options."""

from __future__ import annotations

import re

from workbench.errors import WorkbenchError


def sides(text: str, option: str = "--image-size") -> int | tuple[int, int]:
    """112 or 112x96 (height x width)."""
    found = text.lower().split("x")
    if not all(re.fullmatch(r"[0-9]{1,5}", side) for side in found) or len(found) > 2:
        raise WorkbenchError(
            f"{option} {short(text)}: expected a side such as 112, or height and width such as 112x96"
        )
    return int(found[0]) if len(found) == 1 else (int(found[0]), int(found[1]))


def short(text: str) -> str:
    """A text in quotes, cut where it is long."""
    return repr(text if len(text) <= 80 else f"{text[:80]}...")
