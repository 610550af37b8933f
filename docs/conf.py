"""Configuration of the documentation: sphinx, MyST and furo."""

from pathlib import Path

VERSION_FILE = Path(__file__).parents[1] / "trajcast_ase" / "_version.py"

project = "trajcast-ase"
author = "The trajcast_ase developers"
project_copyright = author
release = VERSION_FILE.read_text(encoding="utf-8").split('"')[-2]

extensions = ["myst_parser", "sphinx.ext.mathjax"]
myst_enable_extensions = ["amsmath", "dollarmath"]
myst_heading_anchors = 3
exclude_patterns = ["_build"]

html_theme = "furo"
html_title = f"trajcast-ase {release}"
