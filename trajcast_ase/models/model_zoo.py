"""The models that come with the package, found by name without torch."""

from __future__ import annotations

from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

from trajcast_ase.models.model_header import SUFFIX, ModelFileError


def bundled_models() -> dict[str, Traversable]:
    """Return the bundled model files by name, in alphabetical order."""
    folder = files("trajcast_ase") / "models"
    found = {
        file.name.removesuffix(SUFFIX): file
        for file in folder.iterdir()
        if file.name.endswith(SUFFIX)
    }
    return dict(sorted(found.items()))


def available_models() -> list[str]:
    """Return the names of the bundled models; :func:`load_model` takes them."""
    return list(bundled_models())


def find_model(name_or_path: str | Path) -> Traversable:
    """Return the file of a bundled name or of a path.

    A bundled name may be a Path, too, unless a file has that name.

    Raises
    ------
    ModelFileError
        Neither a bundled name nor an existing file.
    """
    bundled = bundled_models()
    if isinstance(name_or_path, str) and name_or_path in bundled:
        return bundled[name_or_path]
    path = Path(name_or_path)
    if path.is_file():
        return path
    if str(name_or_path) in bundled:
        return bundled[str(name_or_path)]
    known = ", ".join(bundled) or "none"
    if path.suffix == SUFFIX or path.parent != Path():
        raise ModelFileError(
            f"there is no model file {path}; correct the path, or use a bundled model "
            f"({known})"
        )
    raise ModelFileError(
        f"unknown model {str(name_or_path)!r}; bundled are: {known}; or give the path "
        f"of a {SUFFIX} file"
    )
