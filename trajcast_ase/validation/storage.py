"""Observables as JSON, to be compared with later or to be bundled."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from trajcast_ase.validation.conditions import Conditions
from trajcast_ase.validation.observables import Observables
from trajcast_ase.validation.quantities import Curve, Scalar
from trajcast_ase.validation.topology import Topology

FORMAT = "trajcast-observables"
VERSION = 4
DIGITS = 5
CURVE_DIGITS = 3
"""Of curves, which are many numbers with much scatter."""


def save_observables(observables: Observables, path: str | Path) -> None:
    """Write observables as JSON, numbers with five significant digits, curves three."""
    content = {"format": FORMAT, "version": VERSION, **asdict(observables)}
    for curve in content["curves"].values():
        curve["pieces"] = _rounded(curve["pieces"].tolist(), CURVE_DIGITS)
    text = json.dumps(_plain(content), ensure_ascii=False, separators=(",", ":"))
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text + "\n", encoding="utf-8")


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
    shared = fields.pop("conditions")
    conditions = Conditions(**shared | {"pbc": tuple(shared["pbc"])})
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
    bonds = fields.pop("topology")
    topology = Topology(
        np.array(bonds["atomic_numbers"], dtype=np.int64),
        np.array(bonds["pairs"], dtype=np.int64).reshape(-1, 2),
    )
    for name in ("run_pieces", "bands_cm"):
        fields[name] = tuple(fields[name])
    return Observables(
        **fields,
        conditions=conditions,
        topology=topology,
        scalars=scalars,
        curves=curves,
    )


def _plain(value: Any) -> Any:
    """Return nested containers of plain numbers, those of arrays rounded."""
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, np.ndarray):
        if value.dtype.kind == "i":
            return value.tolist()
        return _rounded(value.tolist(), DIGITS)
    return value


def _rounded(value: Any, digits: int) -> Any:
    if isinstance(value, list):
        return [_rounded(one, digits) for one in value]
    return float(f"{value:.{digits}g}")
