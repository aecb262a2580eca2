"""The Streamlit dashboard, which shows run directories.

It never imports the trainer. Only the page of two photos imports torch.
"""
