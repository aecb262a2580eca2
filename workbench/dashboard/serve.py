"""Starts Streamlit: `python -m workbench.dashboard.serve OPTIONS`.

The modules that the pages need are imported first, so that the first page opens quickly.
"""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path

from streamlit.web import cli


def main() -> None:
    """Serves the dashboard. The command-line arguments are those of `streamlit run`."""
    for name in ("pandas", "plotly.graph_objects", "workbench.evaluation", "workbench.plots"):
        import_module(name)
    sys.argv = ["streamlit", "run", str(Path(__file__).with_name("entry.py")), *sys.argv[1:]]
    cli.main()


if __name__ == "__main__":
    main()
