"""Configuration of the documentation: sphinx, myst-nb and furo."""

import os
import sys
from pathlib import Path

VERSION_FILE = Path(__file__).parents[1] / "trajcast_ase" / "_version.py"
# Cells call the command line of the environment that builds these pages.
os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
# No progress bars in pages.
os.environ["TTY_COMPATIBLE"] = "0"

project = "trajcast-ase"
author = "The trajcast_ase developers"
project_copyright = author
release = VERSION_FILE.read_text(encoding="utf-8").split('"')[-2]

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.mathjax",
    "sphinx.ext.napoleon",
]
myst_enable_extensions = ["amsmath", "dollarmath"]
myst_heading_anchors = 3
exclude_patterns = ["_build"]

nb_execution_mode = "force"
nb_execution_in_temp = True
nb_execution_raise_on_error = True
nb_execution_timeout = 600
nb_merge_streams = True

autodoc_typehints = "none"
autodoc_member_order = "bysource"
napoleon_use_ivar = True

html_theme = "furo"
html_title = f"trajcast-ase {release}"
