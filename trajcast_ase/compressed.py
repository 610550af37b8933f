"""Text files that ASE reads whether they are compressed or not."""

from __future__ import annotations

from io import TextIOWrapper
from pathlib import Path

from ase.io.formats import open_with_compression


def open_text(path: Path, encoding: str) -> TextIOWrapper:
    """Open a file for reading: plain, or .gz, .bz2 or .xz by its name."""
    return TextIOWrapper(open_with_compression(str(path), "rb"), encoding=encoding)
