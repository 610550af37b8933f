"""The header of a model file, read and checked without torch.

A ``name.trajcast`` file is a safetensors file: eight bytes that give the length of a
JSON header, the header, and the tensors. The header's ``__metadata__`` holds strings;
``file_sha256`` among them is the hash of the whole file with its own 64 digits set to
zero, so that no byte can change unnoticed.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from trajcast_ase.models.header_values import (
    JSON_CHECKS,
    TEXT_CHECKS,
    check_agreement,
    tensor_entries,
)
from trajcast_ase.strict import parse_json, shortened, text
from trajcast_ase.thermostats.setting import ThermostatSetting

FORMAT = "trajcast-model"
VERSION = 1
SUFFIX = ".trajcast"
UNSEALED = "0" * 64
# First bytes of a zip archive and of pickle protocols 2 to 5.
_PICKLES = (b"PK", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
_SEAL = b'"file_sha256":"'
# A network of as many parameters as the package supports, in float64, is smaller.
LARGEST_FILE = 2**30


class ModelFileError(ValueError):
    """A model file that cannot be found, or must not be used."""


@dataclass(frozen=True, slots=True)
class ModelCard:
    """What a model file says about the model beside its configuration.

    Attributes
    ----------
    training : dict
        Hash of the data, pairs, temperature, density and pressure range, reference
        method, thermostat of the reference run.
    errors : dict
        Held-out errors of displacements and velocities, with their number of pairs.
    licence, citation : str
    periodic : bool or None
        Whether the training systems were periodic; None if unknown.
    masses_amu : dict of symbol to amu, or None
        Masses in the training data; None for the standard ones.
    thermostat : ThermostatSetting or None
        That of the validated runs; None where nobody has validated any.
    """

    training: Mapping[str, Any] = field(default_factory=dict)
    errors: Mapping[str, Any] = field(default_factory=dict)
    licence: str = ""
    citation: str = ""
    periodic: bool | None = None
    masses_amu: Mapping[str, float] | None = None
    thermostat: ThermostatSetting | None = None


@dataclass(frozen=True, slots=True)
class ModelHeader:
    """Everything that a model file states.

    Attributes
    ----------
    name : str
    version : int
        Of the file format.
    package_version, created : str
    config : dict
        Of ``ForecasterConfig.to_dict``.
    horizon_fs : float, fs
    units : dict
    elements : tuple of symbols
    masses_amu : tuple of float, amu
        In the order of `elements`.
    cutoff_A : float, Å
    periodic : bool or None
    conserved : tuple of str
    training, errors : dict
    thermostat : ThermostatSetting or None
        That of the validated runs.
    licence, citation : str
    sha256 : str
        Fingerprint of configuration and tensors.
    file_sha256 : str
        Hash of the whole file.
    n_parameters, n_bytes : int
    dtypes : tuple of str
        As safetensors names them, e.g. ``F32``.
    """

    name: str
    version: int
    package_version: str
    config: dict[str, Any]
    horizon_fs: float
    units: dict[str, str]
    elements: tuple[str, ...]
    masses_amu: tuple[float, ...]
    cutoff_A: float
    periodic: bool | None
    conserved: tuple[str, ...]
    training: dict[str, Any]
    errors: dict[str, Any]
    thermostat: ThermostatSetting | None
    licence: str
    citation: str
    created: str
    sha256: str
    file_sha256: str
    n_parameters: int
    n_bytes: int
    dtypes: tuple[str, ...]


def read_header(path: str | Path | Traversable) -> ModelHeader:
    """Return the header of a model file after checking the whole file.

    Raises
    ------
    ModelFileError
        The file cannot be read, is damaged, of another kind, or of a newer format.
    """
    source = Path(path) if isinstance(path, str) else path
    return parse_header(read_bytes(source), str(source))


def read_bytes(source: Traversable) -> bytes:
    """Return the content of a file, or raise ModelFileError."""
    try:
        if isinstance(source, Path) and source.stat().st_size > LARGEST_FILE:
            raise ModelFileError(
                f"{source} has {source.stat().st_size:,} bytes, no model has more than "
                f"{LARGEST_FILE:,}; give the path of a {SUFFIX} file"
            )
        return source.read_bytes()
    except OSError as error:
        raise ModelFileError(
            f"{source} cannot be read ({error.strerror or error}); give the path of a "
            f"{SUFFIX} file or the name of a bundled model"
        ) from error


def parse_header(data: bytes, source: str) -> ModelHeader:
    """Return the header of a model file's bytes; `source` names it in errors.

    Raises
    ------
    ModelFileError
        The file is damaged, of another kind or of a newer format, or states a value
        that no model has; the text names the key.
    """
    entries, texts, n_data = split_file(data, source)
    _check_kind(texts, source)
    _check_length(entries, n_data, source)
    _check_seal(data, texts, source)
    try:
        values = _values(texts)
    except ValueError as error:
        raise ModelFileError(
            f"{source}: {error}; write it anew with trajcast_ase.save_model"
        ) from error
    return ModelHeader(
        version=VERSION,
        file_sha256=texts["file_sha256"],
        n_parameters=sum(math.prod(entry["shape"]) for entry in entries.values()),
        n_bytes=len(data),
        dtypes=tuple(sorted({entry["dtype"] for entry in entries.values()})),
        **values,
    )


def _values(texts: Mapping[str, Any]) -> dict[str, Any]:
    """Return what metadata state, checked."""
    values: dict[str, Any] = {}
    for name, check in TEXT_CHECKS.items():
        values[name] = check(_text(texts, name), name)
    for name, check in JSON_CHECKS.items():
        values[name] = check(_json(texts, name), name)
    check_agreement(values)
    for name in ("elements", "masses_amu", "conserved"):
        values[name] = tuple(values[name])
    # Absent where nobody has validated any.
    stated = "thermostat" in texts
    values["thermostat"] = (
        ThermostatSetting.from_plain(_json(texts, "thermostat")) if stated else None
    )
    return values


def header_texts(header: Mapping[str, Any]) -> dict[str, str]:
    """Return safetensors metadata of header values, not yet sealed.

    Raises
    ------
    ValueError
        A value is not JSON: NaN, or an object of another type.
    """
    texts = {"format": FORMAT, "version": str(VERSION), "file_sha256": UNSEALED}
    texts |= {name: str(header[name]) for name in TEXT_CHECKS}
    texts |= {name: json_text(name, header[name]) for name in JSON_CHECKS}
    return texts_with_thermostat(texts, header["thermostat"])


def json_text(name: str, value: Any) -> str:
    """Return a header value as JSON; `name` names it in errors.

    Raises
    ------
    ValueError
        It is no JSON: NaN, or an object of another type.
    """
    try:
        return json.dumps(value, allow_nan=False, sort_keys=True)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{name} = {value} cannot go into a model file ({error}); use finite "
            "numbers, strings, lists and dictionaries"
        ) from error


def texts_with_thermostat(
    texts: Mapping[str, str], setting: ThermostatSetting | None
) -> dict[str, str]:
    """Return metadata that state another thermostat, or none; not yet sealed."""
    changed = {name: text for name, text in texts.items() if name != "thermostat"}
    if setting is not None:
        changed["thermostat"] = json.dumps(setting.to_plain(), sort_keys=True)
    return changed | {"file_sha256": UNSEALED}


def seal(data: bytes) -> bytes:
    """Return the file's bytes with their hash filled in."""
    start = _seal_start(data)
    digest = _file_digest(data, start).encode()
    return data[:start] + digest + data[start + len(digest) :]


def split_file(data: bytes, source: str) -> tuple[dict[str, Any], dict[str, str], int]:
    """Return tensor entries, metadata and number of tensor bytes.

    Raises
    ------
    ModelFileError
        The file is truncated, damaged or of another kind.
    """
    if data[8:9] != b"{" and data[:2] in _PICKLES:
        raise ModelFileError(
            f"{source} is a pickle or a zipped PyTorch file, which may contain code "
            "and is never loaded; convert published weights with 'trajcast import'"
        )
    length = int.from_bytes(data[:8], "little")
    if len(data) < 8 or len(data) < 8 + length:  # noqa: PLR2004  the length field
        raise ModelFileError(
            f"{source} ends within its header, after {len(data)} bytes: it is "
            f"truncated or no {SUFFIX} file; copy or download it again"
        )
    try:
        entries = parse_json(data[8 : 8 + length])
        texts = entries.pop("__metadata__", {})
        if not isinstance(texts, dict):
            raise TypeError("its metadata are not a dictionary")  # noqa: TRY301
    except (ValueError, AttributeError, TypeError) as error:
        raise ModelFileError(
            f"{source} has no readable header ({error}): it is damaged or no {SUFFIX} "
            "file; copy or download it again"
        ) from error
    return entries, texts, len(data) - 8 - length


def _check_kind(texts: Mapping[str, str], source: str) -> None:
    if texts.get("format") != FORMAT:
        raise ModelFileError(
            f"{source} is not a {SUFFIX} model: its format is "
            f"{texts.get('format')!r} instead of {FORMAT!r}; write models with "
            "trajcast_ase.save_model"
        )
    version = texts.get("version")
    if version != str(VERSION):
        raise ModelFileError(
            f"{source} has format version {version!r}, this package reads version "
            f"{VERSION}; update trajcast-ase, or fetch the file again if it is damaged"
        )


def _check_length(entries: Mapping[str, Any], n_data: int, source: str) -> None:
    try:
        ends = tensor_entries(entries)
    except ValueError as error:
        raise ModelFileError(
            f"{source} has a damaged table of tensors ({error}); copy or download it "
            "again"
        ) from error
    if max(ends, default=0) != n_data:
        raise ModelFileError(
            f"{source} holds {n_data} bytes of tensors instead of "
            f"{max(ends, default=0)}: it is truncated or damaged; copy or download it "
            "again"
        )


def _check_seal(data: bytes, texts: Mapping[str, str], source: str) -> None:
    start = _seal_start(data)
    if start < 0 or texts.get("file_sha256") != _file_digest(data, start):
        raise ModelFileError(
            f"{source} does not have the content that its hash promises: it was "
            "damaged or changed after it was written; copy or download it again"
        )


def _seal_start(data: bytes) -> int:
    """Return the position of the hash's digits, or -1.

    Quotes inside other strings are escaped, so that the key occurs once.
    """
    length = int.from_bytes(data[:8], "little")
    found = data.find(_SEAL, 8, 8 + length)
    return found if found < 0 else found + len(_SEAL)


def _file_digest(data: bytes, start: int) -> str:
    rest = start + len(UNSEALED)
    return hashlib.sha256(data[:start] + UNSEALED.encode() + data[rest:]).hexdigest()


def _text(texts: Mapping[str, Any], name: str) -> Any:
    if name not in texts:
        raise ValueError(f"it lacks the header key {name!r}")
    return texts[name]


def _json(texts: Mapping[str, Any], name: str) -> Any:
    content = text(_text(texts, name), name)
    try:
        return parse_json(content)
    except ValueError as error:
        raise ValueError(
            f"{name} = {shortened(content)} is no JSON ({error})"
        ) from error
