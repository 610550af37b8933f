"""Networks to and from ``.trajcast`` files: tensors and a header, never code."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import asdict, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from ase.data import atomic_masses
from safetensors import SafetensorError
from torch import Tensor

from trajcast_ase._version import __version__
from trajcast_ase.files import write_atomically
from trajcast_ase.models.fingerprint import fingerprint
from trajcast_ase.models.header_values import UNITS
from trajcast_ase.models.model_header import (
    SUFFIX,
    UNSEALED,
    ModelCard,
    ModelFileError,
    ModelHeader,
    header_texts,
    json_text,
    parse_header,
    read_bytes,
    seal,
    split_file,
    texts_with_thermostat,
)
from trajcast_ase.models.model_zoo import find_model
from trajcast_ase.models.reversal_limits import ReversalLimits
from trajcast_ase.network.config import ForecasterConfig
from trajcast_ase.network.forecaster import Forecaster
from trajcast_ase.network.shapes import tensor_shapes
from trajcast_ase.thermostats.setting import ThermostatSetting

DTYPES = (torch.float32, torch.float64)


def save_model(
    model: Forecaster,
    path: str | Path,
    *,
    metadata: ModelCard | Mapping[str, Any] | None = None,
) -> ModelHeader:
    """Write a network to one file, atomically, in the dtype of its parameters.

    Parameters
    ----------
    model : Forecaster
    path : path that ends in ``.trajcast``
        Its stem becomes the name of the model.
    metadata : ModelCard or dict of its fields, optional

    Returns
    -------
    ModelHeader
        As read from the written bytes.

    Raises
    ------
    ValueError
        Another suffix, parameters that are not finite or neither float32 nor float64,
        or metadata that a model file cannot hold.
    """
    path = _checked_path(path)
    tensors = _tensors_to_save(model)
    header = _header_values(model, tensors, path.stem, _card(metadata))
    return _written(tensors, header_texts(header), path)


def load_model(
    name_or_path: str | Path,
    *,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
) -> Forecaster:
    """Return the network of a model file, frozen, with the fastest backend.

    Parameters
    ----------
    name_or_path : str or path
        One of :func:`available_models`, or a ``.trajcast`` file.
    device : optional
        Default: the CPU.
    dtype : torch.float32 or torch.float64, optional
        In which the network computes. Default: as in the file, which is float32 for
        the bundled models.

    Raises
    ------
    ModelFileError
        Unknown name, or a file that is damaged, of another kind or of a newer format.
    ValueError
        A device or dtype that cannot be used.
    """
    where = checked_device(device)
    source = find_model(name_or_path)
    data, name = read_bytes(source), str(source)
    header = parse_header(data, name)
    config = _config(header, name)
    tensors = _read_tensors(data, name)
    _check_tensors(config, tensors, header, name)
    stored = next(iter(tensors.values())).dtype
    chosen = stored if dtype is None else _checked_dtype(dtype)
    tensors = {key: tensor.to(chosen) for key, tensor in tensors.items()}
    _check_finite(tensors, name)
    # The weights drawn here are overwritten; the caller's random stream stays. Those
    # read are to count their changes, for the tables, whatever mode the caller is in.
    with torch.random.fork_rng(devices=[]), torch.inference_mode(mode=False):
        model = Forecaster(config).to(device=where, dtype=chosen)
        model.load_state_dict(tensors)
    model.name, model.header = header.name, header
    return model.set_backend("auto").requires_grad_(requires_grad=False).eval()


def with_thermostat(
    name_or_path: str | Path, setting: ThermostatSetting | None, path: str | Path
) -> ModelHeader:
    """Write a model file anew with another recommended thermostat, atomically.

    Weights, their hash, and all else that the header states stay; the name of the model
    is the stem of `path`.

    Parameters
    ----------
    name_or_path : str or path
        One of :func:`available_models`, or a ``.trajcast`` file.
    setting : ThermostatSetting or None
        None: no recommendation.
    path : path that ends in ``.trajcast``
        May be that of the model itself.

    Raises
    ------
    ModelFileError
        The model cannot be read.
    ValueError
        `path` has another suffix.
    """
    path = _checked_path(path)
    _, texts, tensors = _parts(name_or_path)
    texts = texts_with_thermostat(texts | {"name": path.stem}, setting)
    return _written(tensors, texts, path)


def with_reversal(
    name_or_path: str | Path, limits: ReversalLimits, path: str | Path
) -> ModelHeader:
    """Write a model file anew with other limits for going back, atomically.

    Weights, their hash, the errors, and all else that the header states stay; the name
    of the model is the stem of `path`.

    Parameters
    ----------
    name_or_path : str or path
        One of :func:`available_models`, or a ``.trajcast`` file.
    limits : ReversalLimits
        As :func:`trajcast_ase.training.reversibility.limits_of_pairs` measures them.
    path : path that ends in ``.trajcast``
        May be that of the model itself.

    Raises
    ------
    ModelFileError
        The model cannot be read.
    ValueError
        `path` has another suffix.
    """
    path = _checked_path(path)
    header, texts, tensors = _parts(name_or_path)
    errors = header.errors | {"reversal": asdict(limits)}
    changed = {"name": path.stem, "errors": json_text("errors", errors)}
    return _written(tensors, texts | changed | {"file_sha256": UNSEALED}, path)


def _parts(
    name_or_path: str | Path,
) -> tuple[ModelHeader, dict[str, str], dict[str, Tensor]]:
    """Return the checked header of a file, its texts, and its tensors."""
    source = find_model(name_or_path)
    data, name = read_bytes(source), str(source)
    header = parse_header(data, name)
    _, texts, _ = split_file(data, name)
    return header, texts, _read_tensors(data, name)


def _written(
    tensors: Mapping[str, Tensor], texts: Mapping[str, str], path: Path
) -> ModelHeader:
    """Write a file that can be read, and return its header."""
    data = seal(safetensors.torch.save(dict(tensors), dict(texts)))
    header = parse_header(data, str(path))
    write_atomically(path, data)
    return header


def _checked_path(path: str | Path) -> Path:
    path = Path(path)
    if path.suffix != SUFFIX:
        raise ValueError(
            f"{path} does not end in {SUFFIX}; name it {path.stem}{SUFFIX}"
        )
    return path


def _tensors_to_save(model: Forecaster) -> dict[str, Tensor]:
    _checked_dtype(model.dtype)
    tensors = {
        name: tensor.detach().cpu().contiguous()
        for name, tensor in model.state_dict().items()
    }
    for name, tensor in tensors.items():
        if not bool(torch.isfinite(tensor).all()):
            raise ValueError(
                f"parameter {name!r} is not finite; a network that diverged cannot be "
                "saved, go back to an earlier checkpoint"
            )
    return tensors


def _card(metadata: ModelCard | Mapping[str, Any] | None) -> ModelCard:
    if isinstance(metadata, ModelCard):
        return metadata
    given = dict(metadata or {})
    known = [field.name for field in fields(ModelCard)]
    unknown = sorted(set(given) - set(known))
    if unknown:
        raise ValueError(
            f"unknown key {unknown[0]!r} in the metadata; known: {', '.join(known)}"
        )
    return ModelCard(**given)


def _header_values(
    model: Forecaster, tensors: Mapping[str, Tensor], name: str, card: ModelCard
) -> dict[str, Any]:
    config = model.config
    standard = {
        symbol: float(atomic_masses[number])
        for symbol, number in zip(config.symbols, config.elements, strict=True)
    }
    masses = standard | dict(card.masses_amu or {})
    return {
        "name": name,
        "package_version": __version__,
        "config": config.to_dict(),
        "horizon_fs": float(config.horizon_fs),
        "units": UNITS,
        "elements": config.symbols,
        "masses_amu": [masses[symbol] for symbol in config.symbols],
        "cutoff_A": float(config.cutoff),
        "periodic": card.periodic,
        "conserved": _conserved(config),
        "training": dict(card.training),
        "errors": dict(card.errors),
        "thermostat": card.thermostat,
        "licence": card.licence,
        "citation": card.citation,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "sha256": fingerprint(config.to_dict(), tensors),
    }


def _conserved(config: ForecasterConfig) -> list[str]:
    conserved = ["linear momentum"]
    if config.conserve_angular_momentum:
        conserved.append("angular momentum without periodic axes")
    return conserved


def _read_tensors(data: bytes, source: str) -> dict[str, Tensor]:
    try:
        tensors = safetensors.torch.load(data)
    except SafetensorError as error:
        raise ModelFileError(
            f"{source} is not a valid safetensors file ({error}); copy or download it "
            "again"
        ) from error
    dtypes = {tensor.dtype for tensor in tensors.values()}
    if len(dtypes) != 1 or not dtypes <= set(DTYPES):
        raise ModelFileError(
            f"{source} holds tensors of {sorted(map(str, dtypes))}; a model has all of "
            "them in float32 or all in float64: write it anew with save_model"
        )
    return tensors


def _config(header: ModelHeader, source: str) -> ForecasterConfig:
    """Return the network's configuration, which the header must not contradict."""
    try:
        config = ForecasterConfig.from_dict(header.config)
    except ValueError as error:
        raise ModelFileError(
            f"{source}: {error}, in its configuration; write it anew with save_model"
        ) from error
    for key, expected in (
        ("elements", config.symbols),
        ("conserved", tuple(_conserved(config))),
    ):
        if getattr(header, key) != expected:
            raise ModelFileError(
                f"{source}: {key} = {', '.join(getattr(header, key))} contradicts its "
                "configuration; write it anew with save_model"
            )
    return config


def _check_tensors(
    config: ForecasterConfig,
    tensors: Mapping[str, Tensor],
    header: ModelHeader,
    source: str,
) -> None:
    """Refuse tensors of another network, before one is built."""
    expected = tensor_shapes(config)
    for name in sorted(expected.keys() | tensors.keys()):
        if name not in tensors:
            fault = f"lacks the tensor {name!r}"
        elif name not in expected:
            fault = f"holds a tensor {name!r} that its configuration does not have"
        elif tensors[name].shape != expected[name]:
            fault = (
                f"holds {name!r} of shape {tuple(tensors[name].shape)} where its "
                f"configuration asks for {expected[name]}"
            )
        else:
            continue
        raise ModelFileError(f"{source} {fault}; write it anew with save_model")
    if fingerprint(header.config, tensors) != header.sha256:
        raise ModelFileError(
            f"{source} holds other weights than its header names; write it anew with "
            "save_model"
        )


def _check_finite(tensors: Mapping[str, Tensor], source: str) -> None:
    for name, tensor in tensors.items():
        if not bool(torch.isfinite(tensor).all()):
            raise ModelFileError(
                f"{source} holds {name!r} with numbers that are not finite in "
                f"{tensor.dtype}; it diverged or was damaged, take an earlier one"
            )


def _checked_dtype(dtype: torch.dtype) -> torch.dtype:
    if dtype not in DTYPES:
        raise ValueError(
            f"dtype = {dtype!r} cannot be used; choose torch.float32 or torch.float64"
        )
    return dtype


def checked_device(device: torch.device | str | None) -> torch.device:
    """Return a device that PyTorch finds, by default the CPU.

    Raises
    ------
    ValueError
        It finds none of that name.
    """
    unknown = f"unknown device {str(device)!r}; use 'cpu' or 'cuda'"
    try:
        chosen = torch.device("cpu" if device is None else device)
    except RuntimeError as error:
        raise ValueError(unknown) from error
    if chosen.type not in {"cpu", "cuda"}:
        raise ValueError(unknown)
    if chosen.type == "cpu":
        return chosen
    _check_cuda(chosen)
    if chosen.index is not None:
        return chosen
    # With its number, as tensors there have it.
    begun = torch.cuda.is_initialized()
    return torch.device("cuda", torch.cuda.current_device() if begun else 0)


def _check_cuda(device: torch.device) -> None:
    """Raise ValueError for a CUDA device that is not there, with what PyTorch says."""
    missing = f"device {str(device)!r} is not available: PyTorch finds"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the driver; what is wrong is said below
        found = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if found == 0:
        try:
            torch.cuda.init()  # type: ignore[no-untyped-call]
            why = ""
        except (RuntimeError, AssertionError) as error:
            why = f" ({str(error).strip().splitlines()[0].rstrip('.')})"
        raise ValueError(f"{missing} no CUDA device here{why}; use 'cpu'")
    if (device.index or 0) >= found:
        raise ValueError(
            f"{missing} {found} CUDA device(s) here, the last is 'cuda:{found - 1}'"
        )
