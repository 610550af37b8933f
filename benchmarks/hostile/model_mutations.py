"""Damaged and edited model files, training checkpoints and TOML files, from a seed."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from torch import Tensor

from trajcast_ase.models.fingerprint import fingerprint
from trajcast_ase.models.model_header import seal, split_file
from trajcast_ase.training.checkpoint import load_checkpoint, save_checkpoint

VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 2, 7, 10**7, 10**30, -(10**400)),
    *(0.5, 2.5, -1.0, 1e-300, 1e300, math.nan, math.inf, -math.inf),
    *("", "no", "8", "both", "\x1b[2J", "\ud800", "x" * 10_000),
    *([], [1], [None], ["H"], [[[1]]], {}, {"a": 1}, {"kind": []}),
)
NUMBERS = (math.nan, math.inf, -math.inf, 0.0, -1.0, 1e30, -1e30, 1e-40)
DTYPES = (torch.float16, torch.float32, torch.float64, torch.int64, torch.bool)
# TOML that stands for a value.
LITERALS = (
    *("true", "0", "-1", "1", "2.5", "1e999", "-inf", "nan", "9" * 40, "9" * 5000),
    *('""', '"no"', '"a**b"', '"\\u0000"', '"../x"', "'" + "a" * 5000 + "'"),
    *("[]", "[1]", '["*.traj"]', "[[[]]]", "[" * 3000, "{}", "{a = 1}", "{a = " * 3000),
    *("2026-11-21", "07:00:00", "1e-300", "1e300", "100000000"),
)

Rng = np.random.Generator
Tensors = dict[str, Tensor]


def pick(rng: Rng, options: Any) -> Any:
    """Return one of `options`."""
    return options[int(rng.integers(len(options)))]


def truncated(data: bytes, rng: Rng) -> bytes:
    """Return the beginning of a file."""
    return data[: int(rng.integers(len(data)))]


def flipped(data: bytes, rng: Rng) -> bytes:
    """Return a file with one to eight other bytes, most of them near its beginning."""
    changed = bytearray(data)
    for _ in range(int(rng.integers(1, 9))):
        place = int(len(data) * rng.random() ** 3)
        changed[place] ^= int(rng.integers(1, 256))
    return bytes(changed)


def edited_value(value: Any, rng: Rng) -> Any:
    """Return JSON with one entry, at any depth, replaced, dropped or added."""
    value = copy.deepcopy(value)
    inner = value
    while True:
        keys = list(inner) if isinstance(inner, dict) else list(range(len(inner)))
        if not keys or rng.random() < 0.1:
            break
        key = pick(rng, keys)
        if not isinstance(inner[key], dict | list) or rng.random() < 0.3:
            if rng.random() < 0.1:
                del inner[key]
            else:
                inner[key] = pick(rng, VALUES)
            return value
        inner = inner[key]
    if isinstance(inner, dict):
        inner["more"] = pick(rng, VALUES)
    else:
        inner.append(pick(rng, VALUES))
    return value


def edited_tensors(tensors: Tensors, rng: Rng) -> Tensors:
    """Return tensors of which one is dropped, renamed, or has other content."""
    changed = dict(tensors)
    name = pick(rng, sorted(tensors))
    tensor = changed[name].clone()
    kind = int(rng.integers(7))
    if kind == 0:
        del changed[name]
    elif kind == 1:
        changed[name + pick(rng, ("x", ".0", "/step"))] = changed.pop(name)
    elif kind == 2:
        changed[name] = tensor.to(pick(rng, DTYPES))
    elif kind == 3:
        shapes = ((), (0,), (1,), (2**12,), (*tensor.shape, 1), (tensor.numel(),))
        changed[name] = torch.ones(pick(rng, shapes), dtype=tensor.dtype)
    elif tensor.numel() and tensor.is_floating_point():
        place = int(rng.integers(tensor.numel()))
        tensor.view(-1)[place] = pick(rng, NUMBERS)
        changed[name] = tensor
    else:
        changed[name] = tensor - 3
    return changed


def model_parts(data: bytes) -> tuple[dict[str, str], Tensors]:
    """Return metadata and tensors of a model file."""
    _, texts, _ = split_file(data, "the original")
    return dict(texts), safetensors.torch.load(data)


def model_file(texts: dict[str, str], tensors: Tensors) -> bytes:
    """Return a sealed model file, its fingerprint agreeing where there can be one."""
    try:
        found = fingerprint(json.loads(texts["config"]), tensors)
        texts = texts | {"sha256": found}
    except (KeyError, ValueError, TypeError, AttributeError):
        pass
    # safetensors writes UTF-8 only.
    plain = {k: v.encode(errors="replace").decode() for k, v in texts.items()}
    return seal(safetensors.torch.save(tensors, plain | {"file_sha256": "0" * 64}))


def flipped_and_sealed(data: bytes, rng: Rng) -> bytes:
    """Return a file with other bytes and a hash that agrees."""
    return seal(flipped(data, rng))


def edited_configuration(data: bytes, rng: Rng) -> bytes:
    """Return a file with another network configuration, and what repeats it."""
    texts, tensors = model_parts(data)
    config = edited_value(json.loads(texts["config"]), rng)
    texts["config"] = json.dumps(config)
    if isinstance(config, dict):
        for key, name in (("horizon_fs", "horizon_fs"), ("cutoff_A", "cutoff")):
            texts[key] = json.dumps(config.get(name))
        angular = config.get("conserve_angular_momentum")
        both = ["linear momentum", "angular momentum without periodic axes"]
        texts["conserved"] = json.dumps(both if angular else both[:1])
    return model_file(texts, tensors)


def edited_header(data: bytes, rng: Rng) -> bytes:
    """Return a file with one other key of its header."""
    texts, tensors = model_parts(data)
    name = pick(rng, sorted(texts))
    if rng.random() < 0.1:
        del texts[name]
    elif rng.random() < 0.2:
        texts[name] = pick(rng, ("", "[" * 50_000, "{", "NaN", "1e999", "\0", "null"))
    else:
        try:
            texts[name] = json.dumps(edited_value([json.loads(texts[name])], rng)[0])
        except (ValueError, IndexError):
            texts[name] = str(pick(rng, VALUES[:-20]))
    return model_file(texts, tensors)


def edited_weights(data: bytes, rng: Rng) -> bytes:
    """Return a file with other tensors."""
    texts, tensors = model_parts(data)
    return model_file(texts, edited_tensors(tensors, rng))


def edited_table(data: bytes, rng: Rng) -> bytes:
    """Return a file with another table of tensors."""
    length = int.from_bytes(data[:8], "little")
    entries = json.loads(data[8 : 8 + length])
    name = pick(rng, sorted(set(entries) - {"__metadata__"}))
    entries[name] = edited_value(entries[name], rng)
    header = json.dumps(entries, separators=(",", ":")).encode()
    return seal(len(header).to_bytes(8, "little") + header + data[8 + length :])


MODEL_MUTATIONS: tuple[Callable[[bytes, Rng], bytes], ...] = (
    truncated,
    flipped,
    flipped_and_sealed,
    edited_configuration,
    edited_header,
    edited_weights,
    edited_table,
)


def checkpoint_mutation(good: Path, path: Path, rng: Rng) -> str:
    """Write a damaged or edited checkpoint, sealed where it was edited."""
    kind = pick(rng, ("truncated", "flipped", "edited_values", "edited_tensors"))
    if kind in ("truncated", "flipped"):
        damage = truncated if kind == "truncated" else flipped
        path.write_bytes(damage(good.read_bytes(), rng))
        return kind
    checkpoint = load_checkpoint(good)
    if kind == "edited_tensors":
        tensors = edited_tensors(checkpoint.tensors, rng)
        save_checkpoint(replace(checkpoint, tensors=tensors), path)
    elif rng.random() < 0.1:
        step: Any = pick(rng, (-1, 0, 1, 10**6, 10**30, 4.5, "", "a"))
        save_checkpoint(replace(checkpoint, step=step), path)
    else:
        extra = edited_value(checkpoint.extra, rng)
        save_checkpoint(replace(checkpoint, extra=extra), path)
    return kind


def toml_mutation(text: str, rng: Rng) -> tuple[str, bytes]:
    """Return the kind and content of a mutated TOML file."""
    kind = pick(rng, ("truncated", "flipped", "line", "value", "value", "value"))
    data = text.encode()
    if kind == "truncated":
        return kind, truncated(data, rng)
    if kind == "flipped":
        # Printable, or it would hardly ever be UTF-8.
        changed = bytearray(data)
        for _ in range(int(rng.integers(1, 4))):
            changed[int(rng.integers(len(data)))] = int(rng.integers(32, 127))
        return kind, bytes(changed)
    lines = text.splitlines()
    place = int(rng.integers(len(lines)))
    if kind == "line":
        lines.insert(int(rng.integers(len(lines))), lines.pop(place))
        lines[place] = pick(rng, (lines[place], "", lines[place] * 2, "more = 1"))
    else:
        keyed = [k for k, line in enumerate(lines) if " = " in line]
        place = pick(rng, keyed)
        key = lines[place].split(" = ")[0]
        lines[place] = f"{key} = {pick(rng, LITERALS)}"
    return kind, "\n".join(lines).encode()
