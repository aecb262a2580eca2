"""A process that renders: is told the numbers of people, one a line, and answers each with a line of JSON when it is done."""

from __future__ import annotations

import json
import os
import sys
import traceback
from pathlib import Path

from workbench.data.rendered import RenderSettings
from workbench.data.rendering import unwritable, write_part
from workbench.errors import WorkbenchError


def main() -> None:
    """`python -m workbench.data.render_worker SETTINGS PARTS`, until standard input ends."""
    settings, parts = RenderSettings(**json.loads(sys.argv[1])), Path(sys.argv[2])
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what a library may print is no answer
    for line in sys.stdin:
        answer = {}
        try:
            write_part(parts, settings, int(line))
        except WorkbenchError as error:
            answer = {"error": str(error)}
        except OSError as error:
            answer = {"error": str(unwritable(parts.parent, error))}
        except Exception as error:
            traceback.print_exc()  # a fault of the renderer; its one line goes to the user
            answer = {"error": f"{settings.renderer} failed on person {int(line)}: {' '.join(repr(error).split())[:300]}"}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
