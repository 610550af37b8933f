"""Files of the authors' code, read without running or building what they ask for."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

# The published ones have 1 kB and five levels.
LARGEST_YAML = 2**16
DEEPEST_YAML = 10
LARGEST_WEIGHTS = 2**30


def read_configuration(path: Path) -> Any:
    """Return the content of a YAML file.

    Raises
    ------
    ValueError
        The file is too large, no YAML, nested too deeply, or has aliases or tags.
    """
    size = path.stat().st_size
    if size > LARGEST_YAML:
        raise ValueError(
            f"{path} has {size:,} bytes, a configuration at most {LARGEST_YAML:,}; "
            "give the config*.yaml that belongs to the weights"
        )
    import yaml  # noqa: PLC0415  only the published files are YAML

    try:
        content = path.read_text(encoding="utf-8")
        fault = _fault_of_events(content)
        if fault is None:
            return yaml.safe_load(content)
    # Dates and numbers that do not exist are no YAMLError.
    except (yaml.YAMLError, ValueError) as error:
        fault = str(error).splitlines()[0]
    raise ValueError(
        f"{path} is not a YAML file of plain values ({fault}); give the config*.yaml "
        "that belongs to the weights"
    )


def _fault_of_events(content: str) -> str | None:
    """Return what is wrong with the structure of YAML, before anything is built."""
    import yaml  # noqa: PLC0415  only the published files are YAML

    depth = 0
    for event in yaml.parse(content, Loader=yaml.SafeLoader):
        if isinstance(event, yaml.AliasEvent):
            return f"it has an alias, *{event.anchor}; write the value out"
        if getattr(event, "tag", None) is not None:
            return f"it has the tag {event.tag}"
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > DEEPEST_YAML:
            return f"it nests more than {DEEPEST_YAML} levels"
    return None


def read_state_dict(path: Path) -> Mapping[Any, Any]:
    """Return the mapping in a file of ``torch.save``; no code in it can run.

    Raises
    ------
    FileNotFoundError
    ValueError
        The file is too large, damaged, of the format before torch 1.6, holds more than
        tensors and plain containers, or no mapping.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}; check the path")
    _check_archive(path)
    try:
        # Given explicitly, weights_only holds whatever the environment says. With mmap,
        # a tensor cannot reach beyond its file, and nothing is decompressed.
        content = torch.load(  # noqa: TID251
            path, map_location="cpu", weights_only=True, mmap=True
        )
    except Exception as error:  # a damaged pickle may end in any
        raise ValueError(
            f"{path} is damaged, or holds more than tensors; give the state_dict*.pt "
            "of the model"
        ) from error
    if not isinstance(content, Mapping):
        raise ValueError(  # noqa: TRY004  wrong content, not a wrong argument
            f"{path} is not a mapping of names to tensors; give the state_dict*.pt of "
            "the model"
        )
    return content


def _check_archive(path: Path) -> None:
    """Refuse what is no zip archive, and one that would fill the memory."""
    size = path.stat().st_size
    try:
        if size <= LARGEST_WEIGHTS:
            with zipfile.ZipFile(path) as archive:
                size = sum(entry.file_size for entry in archive.infolist())
    except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError) as error:
        raise ValueError(
            f"{path} is damaged, or was not written by torch.save of torch 1.6 or "
            "later; give the state_dict*.pt of the model"
        ) from error
    if size > LARGEST_WEIGHTS:
        raise ValueError(
            f"{path} holds {size:,} bytes, weights have at most {LARGEST_WEIGHTS:,}; "
            "give the state_dict*.pt of the model"
        )
