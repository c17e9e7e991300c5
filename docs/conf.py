"""Sphinx: the docs of aiohttp-ably. `make docs` builds them into docs/_build."""

import aiohttp_ably

project = "aiohttp-ably"
version = release = aiohttp_ably.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"aiohttp-ably {release}"

myst_enable_extensions = ["deflist"]
myst_heading_anchors = 3

# Docstrings write `names` as Markdown does.
default_role = "code"
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_class_signature = "mixed"
autodoc_preserve_defaults = True
autodoc_type_aliases = {name: name for name in ("Authorize", "Identify", "OnDenied")}
python_maximum_signature_line_length = 90
python_use_unqualified_type_names = True
