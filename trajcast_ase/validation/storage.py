"""Observables as JSON, to be compared with later or to be bundled."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from trajcast_ase.validation.observables import Conditions, Curve, Observables, Scalar

FORMAT = "trajcast-observables"
VERSION = 1
DIGITS = 5


def save_observables(observables: Observables, path: str | Path) -> None:
    """Write observables as JSON, arrays with five significant digits."""
    content = {"format": FORMAT, "version": VERSION, **asdict(observables)}
    text = json.dumps(_plain(content), ensure_ascii=False, indent=None)
    Path(path).write_text(text + "\n", encoding="utf-8")


def load_observables(path: str | Path) -> Observables:
    """Return the observables in a JSON file.

    Raises
    ------
    FileNotFoundError
    ValueError
        The file is no JSON of :func:`save_observables`.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist")
    return parse_observables(path.read_text(encoding="utf-8"), str(path))


def parse_observables(text: str, source: str) -> Observables:
    """Return the observables in a JSON text; `source` names it in errors.

    Raises
    ------
    ValueError
        The text is no JSON of :func:`save_observables`.
    """
    try:
        content = json.loads(text)
        _check_header(content, source)
        return _observables(content)
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise ValueError(
            f"{source} holds no observables ({type(error).__name__}: {error}); write "
            "them with trajcast validate --write-observables"
        ) from error


def _check_header(content: dict[str, Any], source: str) -> None:
    found = content["format"], content["version"]
    if found != (FORMAT, VERSION):
        raise ValueError(
            f"{source} is {found[0]!r} of version {found[1]}, not {FORMAT!r} of "
            f"version {VERSION}; write it anew with trajcast validate "
            "--write-observables"
        )


def _observables(content: dict[str, Any]) -> Observables:
    fields = {k: v for k, v in content.items() if k not in ("format", "version")}
    conditions = Conditions(**fields.pop("conditions"))
    scalars = {
        name: Scalar(one["unit"], np.array(one["pieces"], dtype=np.float64))
        for name, one in fields.pop("scalars").items()
    }
    curves = {
        name: Curve(
            one["axis"],
            np.array(one["x"], dtype=np.float64),
            np.array(one["pieces"], dtype=np.float64),
        )
        for name, one in fields.pop("curves").items()
    }
    return Observables(**fields, conditions=conditions, scalars=scalars, curves=curves)


def _plain(value: Any) -> Any:
    """Return nested containers of plain numbers, those of arrays rounded."""
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, np.ndarray):
        return _rounded(value.tolist())
    return value


def _rounded(value: Any) -> Any:
    if isinstance(value, list):
        return [_rounded(one) for one in value]
    return float(f"{value:.{DIGITS}g}")
