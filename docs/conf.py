"""Settings of the site; ``python -m sphinx -W -b html docs docs/_build/html`` builds it."""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parent))

import relaysim

project = "relaysim"
author = "The relaysim developers"
project_copyright = "2026, the relaysim developers"
release = version = relaysim.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "myst_nb",
    "relaysim_site",
]
exclude_patterns = ["_build", "relaysim_site", "**.ipynb_checkpoints"]
default_role = "py:obj"
smartquotes = False  # X' is the next X

# Docstrings are the pages of the API; `relaysim_site` writes the lists of what there is.
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_typehints_format = "short"
napoleon_numpy_docstring = False
add_module_names = False
maximum_signature_line_length = 80
toc_object_entries_show_parents = "hide"

# Notebooks are shown as they are committed; a test of the package runs them.
nb_execution_mode = "off"
nb_ipywidgets_js = {}  # widgets would load code from elsewhere; a note stands in their place
nb_merge_streams = True
myst_enable_extensions = ["colon_fence", "deflist", "dollarmath", "attrs_inline"]
myst_heading_anchors = 3

# No page asks anything of another server: formulas are drawn, fonts are the reader's own.
html_math_renderer = "drawn"
html_theme = "furo"
html_title = "relaysim"
html_favicon = "_static/logo.svg"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sourcelink = False
html_theme_options = {
    "light_logo": "logo.svg",
    "dark_logo": "logo.svg",
    "light_css_variables": {
        "color-brand-primary": "#a84700",
        "color-brand-content": "#a84700",
        "color-brand-visited": "#7d4a86",
    },
    "dark_css_variables": {
        "color-brand-primary": "#ff9d5c",
        "color-brand-content": "#ff9d5c",
        "color-brand-visited": "#d9a6e3",
    },
}
