"""What `workbench app` hands to Streamlit; the same as app.py of a checkout, for an installed package."""

from workbench.dashboard.main import main

main()
