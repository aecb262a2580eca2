"""One page a file; each has `show(selection)`. (Not named `pages`: Streamlit would take the files for scripts.)"""
