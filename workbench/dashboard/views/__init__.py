"""The pages of the dashboard. Each file draws one page with its function `show(selection)`.

The folder is not named `pages`, as Streamlit would run its files as scripts.
"""
