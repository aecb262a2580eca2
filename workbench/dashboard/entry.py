"""The script that `workbench app` runs in Streamlit. It does what app.py does in a checkout."""

from workbench.dashboard.main import main

main()
