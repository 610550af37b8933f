"""Checkpoints as files: tensors and plain values, sealed by a hash, without code."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from trajcast_ase.files import write_atomically


class SealError(ValueError):
    """A file is damaged, was edited, or is of another kind."""


@dataclass(frozen=True, slots=True)
class Sealed:
    """What a sealed file holds.

    Attributes
    ----------
    tensors : dict of str to Tensor
    values : dict
        Plain JSON values. Floats come back to the last bit.
    """

    tensors: dict[str, Tensor]
    values: dict[str, Any]


def write_sealed(path: Path, kind: str, content: Sealed) -> None:
    """Write `content` so that a kill at any moment leaves the old or the new file.

    Parameters
    ----------
    path : Path
    kind : str
        Name and version of the format.
    content : Sealed
    """
    tensors = {n: t.detach().cpu().contiguous() for n, t in content.tensors.items()}
    values = json.dumps(content.values)
    digest = seal(kind, values, tensors)
    metadata = {"format": kind, "values": values, "sha256": digest}
    write_atomically(path, save(tensors, metadata))


def read_sealed(path: Path, kind: str) -> Sealed:
    """Read what :func:`write_sealed` wrote.

    Raises
    ------
    FileNotFoundError
    SealError
        The text names the file and what is wrong with it.
    """
    if not path.exists():
        raise FileNotFoundError(f"there is no file {path}")
    metadata, tensors = read_tensors(path)
    if metadata.get("format") != kind:
        raise SealError(f"{path} is no {kind}, but {metadata.get('format')!r}")
    values = metadata.get("values", "")
    if metadata.get("sha256") != seal(kind, values, tensors):
        raise SealError(
            f"{path} is not as it was written: its contents do not match their hash"
        )
    try:
        return Sealed(tensors, json.loads(values))
    except (ValueError, RecursionError) as error:
        raise SealError(f"{path} holds values that are no JSON ({error})") from error


def read_tensors(path: Path) -> tuple[Mapping[str, str], dict[str, Tensor]]:
    """Return metadata and tensors of a safetensors file.

    Raises
    ------
    SealError
        It is damaged, or no such file.
    """
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  not a mapping
            return file.metadata() or {}, tensors
    except (SafetensorError, OSError) as error:
        raise SealError(f"{path} is damaged or no checkpoint ({error})") from error


def seal(first: str, second: str, tensors: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of two texts and all tensors."""
    digest = hashlib.sha256(f"{first}\0{second}".encode())
    for name in sorted(tensors):
        array = tensors[name].cpu()
        digest.update(f"\0{name}\0{array.dtype}{list(array.shape)}".encode())
        digest.update(array.numpy().tobytes())
    return digest.hexdigest()
