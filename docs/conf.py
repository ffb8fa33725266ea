"""How Sphinx builds the site; `scripts/docs` calls it. What needs code is in `_ext/house.py`."""

import sys
import tomllib
from importlib.util import find_spec
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE / "_ext")]

import house  # noqa: E402

import lqrad  # noqa: E402

project = "lqrad"
author = "the authors of lqrad"
copyright = author
version = release = lqrad.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.intersphinx",
    "sphinx.ext.mathjax",
    "numpydoc",
    "myst_nb",
    "sphinx_design",
    "sphinx_copybutton",
    "sphinx_gallery.gen_gallery",
    "house",
]
templates_path = ["_templates"]
# Of the gallery, the pages that it makes; of the notebooks, copies.
exclude_patterns = ["gallery", *(f"examples/**.{kind}" for kind in ("ipynb", "json", "py"))]
house.notebooks(HERE.parent / "notebooks", HERE / "notebooks")
nitpicky = True
# A' is a transpose.
smartquotes = False
toc_object_entries_show_parents = "hide"
# Single backquotes in docstrings: a link where there is one, else plain code (house.py).
default_role = "py:obj"

# Docstrings. Their shapes stand in the place of types, so signatures do without annotations.
autodoc_typehints = "none"
autodoc_member_order = "bysource"
autosummary_ignore_module_all = False
autosummary_filename_map = house.distinct_files()
numpydoc_show_class_members = False
numpydoc_xref_param_type = True
numpydoc_xref_ignore = "all"
numpydoc_xref_aliases = house.types()

# Pages and notebooks. Notebooks are shown as they are stored: the tests execute them.
nb_execution_mode = "off"
nb_ipywidgets_js = {}
myst_enable_extensions = ["amsmath", "colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3
# Prompts and outputs are left out of what is copied.
copybutton_prompt_text = r">>> |\.\.\. "
copybutton_prompt_is_regexp = True

# Formulas without a network: the one script that needs no fonts nor other files.
mathjax_path = "tex-svg-full.js"
_mathjax = Path(find_spec("sphinx-mathjax-offline").submodule_search_locations[0])
html_static_path = ["_static", str(_mathjax / "static" / "mathjax" / mathjax_path)]

# Links to NumPy and others, without a network: the names that we use stand in `inventories/`.
intersphinx_mapping = house.inventories(HERE / "inventories", HERE.parent / "out" / "inventories")

# The gallery. An example that raises ends the build; all run in one order, with one look.
_chapters = (
    "lq",
    "descent",
    "growth",
    "smoothing",
    "design",
    "nonlinear",
    "policies",
    "nets",
    "pde",
)
sphinx_gallery_conf = {
    "examples_dirs": "gallery",
    "gallery_dirs": "examples",
    "subsection_order": [*(f"gallery/{chapter}" for chapter in _chapters), "*"],
    "within_subsection_order": "FileNameSortKey",
    "image_scrapers": ("house.pictures",),
    "capture_repr": ("_repr_html_",),
    "ignore_repr_types": "matplotlib|Picture",
    "reset_modules": ("matplotlib",),
    "backreferences_dir": "reference/generated/examples",
    "doc_module": ("lqrad",),
    "reference_url": {"lqrad": None},
    "inspect_global_variables": True,
    "min_reported_time": 3600,
    "thumbnail_size": (400, 280),
    "download_all_examples": False,
    "show_signature": False,
    "write_computation_times": False,
}

_repository = tomllib.loads((HERE.parent / "pyproject.toml").read_text())["project"]["urls"][
    "Repository"
]
html_theme = "pydata_sphinx_theme"
html_title = "lqrad"
html_css_files = ["house.css"]
# Pages that stand alone have no section to go through.
html_sidebars = {key: [] for key in ("index", "glossary", "pitfalls", "performance", "changelog")}
html_show_sourcelink = False
html_copy_source = False
html_theme_options = {
    "show_prev_next": True,
    "navigation_with_keys": False,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": [],
    # Not shown before pyproject.toml is told where the repository stands.
    "external_links": [{"name": "Source", "url": _repository}] * ("example.org" not in _repository),
    "header_links_before_dropdown": 6,
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
}
