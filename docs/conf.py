"""Sphinx: the docs of aiohttp-ably. `make docs` builds them into docs/_build."""

import re

from sphinx.application import Sphinx

import aiohttp_ably

project = "aiohttp-ably"
version = release = aiohttp_ably.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"aiohttp-ably {release}"

myst_enable_extensions = ["deflist"]
myst_heading_anchors = 3

# Docstrings write `names` as Markdown does. Their sections (Args, Raises) are read by napoleon.
default_role = "code"
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_class_signature = "mixed"
autodoc_preserve_defaults = True
_ALIASES = "Authorize CapabilityLike Identify KeyFor Keys OnDenied Operations Resolve"
autodoc_type_aliases = {name: name for name in _ALIASES.split()}
python_maximum_signature_line_length = 90
python_use_unqualified_type_names = True


def _name_aliases(*event: object) -> tuple[str | None, str | None] | None:
    """Write `Keys | None` in a signature, where autodoc writes `TypeAliasForwardRef('Keys') | None`."""
    *_, arguments, returns = event
    if not isinstance(arguments, str):
        return None
    return re.sub(r"TypeAliasForwardRef\('(\w+)'\)", r"\1", arguments), returns  # type: ignore[return-value]


def setup(app: Sphinx) -> None:
    app.connect("autodoc-process-signature", _name_aliases)
