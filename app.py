"""Starts the dashboard: `streamlit run app.py`."""

from workbench.dashboard.main import main

main()
