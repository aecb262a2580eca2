"""Settings of the documentation site; `make docs` builds it into build/docs."""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "_ext"))

from workbench import __version__  # noqa: E402

project = "Margin workbench"
author = "The margin workbench authors"
copyright = f"2026, {author}"
version = release = __version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "sphinx_design",
    "local_site",
    "markdown_docstrings",
    "notebooks",
    "reference_tables",
    "public_names",
    "source_signatures",
]
exclude_patterns = ["_ext", "Thumbs.db", ".DS_Store"]
language = "en_GB"
smartquotes_action = "D"  # only dashes; quotes stay as they are
nitpicky = False  # type annotations name classes of other packages, to which the site has no links

# Markdown pages and notebooks. Notebooks are shown as they were saved; nothing is executed.
myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 4
myst_fence_as_directive = []
nb_execution_mode = "off"
nb_ipywidgets_js = {}  # its default fetches scripts from a CDN
nb_merge_streams = True
suppress_warnings = ["myst.header"]

# The API reference.
autodoc_default_options = {
    "members": True,
    "member-order": "groupwise",
    "show-inheritance": True,
}
autodoc_class_signature = "mixed"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 88
add_module_names = False
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_preprocess_types = False

# The theme keeps its fonts, icons and scripts in the site.
html_theme = "pydata_sphinx_theme"
html_title = "Margin workbench"
html_logo = html_favicon = "../workbench/dashboard/icon.png"
html_static_path = ["_static"]
html_css_files = ["workbench.css"]
html_show_sourcelink = False
html_copy_source = False
html_theme_options = {
    "logo": {"text": "Margin workbench"},
    "header_links_before_dropdown": 6,
    "navbar_persistent": ["search-button"],
    "navigation_with_keys": False,
    "show_toc_level": 2,
    "show_prev_next": True,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": ["sphinx-version"],
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
}
html_sidebars = {"changelog": [], "glossary": [], "ARCHITECTURE": [], "getting-started": []}
copybutton_exclude = ".linenos, .gp, .go"
