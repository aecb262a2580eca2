"""`python -m workbench.dashboard.serve OPTIONS`: Streamlit with what the pages need imported before the first visitor comes."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path

from streamlit.web import cli


def main() -> None:
    """Serve the dashboard; the arguments are those of `streamlit run`."""
    for name in ("pandas", "plotly.graph_objects", "workbench.evaluation", "workbench.plots"):
        import_module(name)
    sys.argv = ["streamlit", "run", str(Path(__file__).with_name("entry.py")), *sys.argv[1:]]
    cli.main()


if __name__ == "__main__":
    main()
