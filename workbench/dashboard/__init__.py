"""The Streamlit dashboard. Reads run directories; never imports the trainer, and torch only for the photo page."""
