"""Published TrajCast weight files (IBM/trajcast) to a :class:`Forecaster`."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from ase.data import atomic_numbers as number_of_symbol
from torch import Tensor

from trajcast_ase.models.published_files import read_configuration, read_state_dict
from trajcast_ase.network.config import (
    CONSTANT_RANGE,
    COUNTS,
    CUTOFF_RANGE,
    ForecasterConfig,
)
from trajcast_ase.network.forecaster import Forecaster
from trajcast_ase.network.shapes import tensor_shapes
from trajcast_ase.strict import flag, integer, members, number, shortened

OLDER_CLASSES = ("TrajCastModel", "FlexibleModel")
REQUIRED_OPTIONS = (
    "num_chem_elements",
    "edge_cutoff",
    "num_edge_rbf",
    "num_edge_poly_cutoff",
    "num_vel_rbf",
    "vel_max",
    "max_rotation_order",
    "num_hidden_channels",
    "num_mp_layers",
    "edge_mlp_kwargs",
    "vel_mlp_kwargs",
)
GATE = {
    "activation_scalars": {"o": "tanh", "e": "silu"},
    "activation_gates": {"e": "silu"},
}
# Constants that the configuration repeats, and bookkeeping of e3nn's products.
IGNORED_NAMES = frozenset(
    {
        "lmax",
        "edge_cutoff",
        "num_hidden_channels",
        "avg_num_neighbors",
        "num_mp_layers",
        "rms_targets",
        "mean_targets",
        "output_mask",
        "prefactor_vel",
        "prefactor_disps",
        "net_lin_mom",
        "net_ang_mom",
    }
)
PUBLISHED_NAMES = {
    "n_channels": "num_hidden_channels",
    "lmax": "max_rotation_order",
    "n_layers": "num_mp_layers",
    "n_edge_rbf": "num_edge_rbf",
    "edge_poly_cutoff": "num_edge_poly_cutoff",
    "n_velocity_rbf": "num_vel_rbf",
}
IGNORED_PREFIX = "_compiled_main_"


def import_published(
    config: str | Path | Mapping[str, Any],
    state_dict: str | Path | Mapping[str, Tensor],
    *,
    elements: Sequence[str | int],
    horizon_fs: float,
) -> Forecaster:
    """Return the published network of a configuration and its weights.

    Parameters
    ----------
    config : path or dict
        ``config*.yaml``, or its content, with the top-level key ``model``.
    state_dict : path or dict
        ``state_dict*.pt``, or its content.
    elements : sequence of symbols or atomic numbers
        In the order of the network's type index; the file does not name them.
    horizon_fs : float, fs
        The file does not state it.

    Raises
    ------
    ValueError
        An older model class, a number of elements that does not fit, an option of
        another type or out of range, tensors that are missing, unknown, not finite or
        of another shape or type, or a file that is damaged or of another kind.
    """
    tensors = _tensors(state_dict)
    _refuse_older_classes(tensors)
    options = _model_options(config)
    numbers = tuple(_atomic_number(element) for element in elements)
    n_elements = options["num_chem_elements"]
    if len(numbers) != integer(n_elements, "num_chem_elements", 1, 118):
        raise ValueError(
            f"{len(numbers)} elements given ({', '.join(map(str, elements))}), but the "
            f"weights are for {n_elements}; list them in the order of the model's type "
            "index"
        )
    settings = _convert_config(options, tensors, numbers, horizon_fs)
    chosen = _chosen_tensors(settings, tensors)
    model = Forecaster(settings)
    model.load_state_dict(chosen)
    return model.requires_grad_(requires_grad=False)


def _model_options(config: str | Path | Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the section 'model' with every required key and supported activations."""
    named = "the configuration" if isinstance(config, Mapping) else str(config)
    content = (
        config if isinstance(config, Mapping) else read_configuration(Path(config))
    )
    if not isinstance(content, Mapping) or not isinstance(
        content.get("model"), Mapping
    ):
        raise ValueError(  # noqa: TRY004  wrong content, not a wrong argument
            f"{named} has no section 'model'; give the config*.yaml that belongs to "
            "the weights"
        )
    options: Mapping[str, Any] = content["model"]
    missing = [name for name in REQUIRED_OPTIONS if name not in options]
    if missing:
        raise ValueError(
            f"{named} lacks {missing[0]!r} in its section 'model'; give the "
            "config*.yaml that belongs to the weights"
        )
    if options.get("nl_gate_kwargs", GATE) != GATE:
        raise ValueError(
            f"nl_gate_kwargs = {shortened(options['nl_gate_kwargs'])} is not "
            f"supported, only the published {GATE}"
        )
    return options


def _tensors(state_dict: str | Path | Mapping[str, Tensor]) -> dict[str, Tensor]:
    if isinstance(state_dict, Mapping):
        content, source = state_dict, "the state dict"
    else:
        content, source = read_state_dict(Path(state_dict)), str(state_dict)
    for name, tensor in content.items():
        if not isinstance(name, str) or not isinstance(tensor, Tensor):
            raise ValueError(  # noqa: TRY004  wrong content, not a wrong argument
                f"{source} is not a mapping of names to tensors; give the "
                "state_dict*.pt of the model"
            )
    return dict(content)


def _refuse_older_classes(tensors: Mapping[str, Tensor]) -> None:
    if any(name.startswith("_int_out.mp_layer_0.") for name in tensors):
        return
    flexible = any(name.startswith("layers.") for name in tensors)
    named = OLDER_CLASSES[1] if flexible else " or ".join(OLDER_CLASSES)
    raise ValueError(
        f"these weights are of the older class {named}, which is not supported; "
        "only EfficientTrajCastModel files can be imported"
    )


def _atomic_number(element: str | int) -> int:
    if isinstance(element, int):
        return element
    if element not in number_of_symbol:
        raise ValueError(f"{element!r} is not a chemical symbol")
    return int(number_of_symbol[element])


def _convert_config(
    options: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
    numbers: tuple[int, ...],
    horizon_fs: float,
) -> ForecasterConfig:
    rms = _constants(tensors, "rms_targets", 2)
    (avg_num_neighbors,) = _constants(tensors, "avg_num_neighbors", 1)
    angular = options.get("net_ang_mom")
    renamed = {name: options[theirs] for name, theirs in PUBLISHED_NAMES.items()}
    for name, (low, high) in COUNTS.items():
        if name in renamed:
            integer(renamed[name], PUBLISHED_NAMES[name], low, high)
    cutoff = number(options["edge_cutoff"], "edge_cutoff", *CUTOFF_RANGE)
    return ForecasterConfig(
        elements=numbers,
        horizon_fs=horizon_fs,
        cutoff=cutoff,
        displacement_rms=rms[0],
        velocity_rms=rms[1],
        avg_num_neighbors=avg_num_neighbors,
        **renamed,
        edge_mlp=_mlp_widths(options, "edge_mlp_kwargs"),
        velocity_mlp=_mlp_widths(options, "vel_mlp_kwargs"),
        velocity_encoding="direction",
        velocity_max=number(options["vel_max"], "vel_max", *CONSTANT_RANGE),
        conserve_angular_momentum=flag(
            options.get("conserve_ang_mom", False), "conserve_ang_mom"
        ),
        fixed_angular_momentum=None if angular is None else _vector(angular),
    )


def _constants(tensors: Mapping[str, Tensor], name: str, size: int) -> list[float]:
    """Return the numbers of a small tensor of the weights."""
    if name not in tensors or tensors[name].numel() != size:
        raise ValueError(f"the weights lack {name!r} with {size} number(s)")
    _check_numbers(tensors[name], name)
    return [float(value) for value in tensors[name].flatten()]


def _check_numbers(tensor: Tensor, name: str) -> None:
    """Refuse anything but plain, finite float32 or float64."""
    if tensor.dtype not in (torch.float32, torch.float64) or not (
        tensor.layout == torch.strided and tensor.device.type == "cpu"
    ):
        raise ValueError(
            f"{name!r} in the weights is of {tensor.dtype}, {tensor.layout}, on "
            f"{tensor.device}; it must be a plain tensor of float32 or float64 numbers"
        )
    if not bool(torch.isfinite(tensor).all()):
        raise ValueError(f"{name!r} in the weights holds numbers that are not finite")


def _vector(value: Any) -> tuple[float, float, float]:
    if len(members(value, "net_ang_mom")) != 3:  # noqa: PLR2004  a vector
        raise ValueError(f"net_ang_mom = {shortened(value)} must hold three numbers")
    x, y, z = value
    low, high = -CONSTANT_RANGE[1], CONSTANT_RANGE[1]
    return (
        number(x, "net_ang_mom, x", low, high),
        number(y, "net_ang_mom, y", low, high),
        number(z, "net_ang_mom, z", low, high),
    )


def _mlp_widths(options: Mapping[str, Any], name: str) -> tuple[int, ...]:
    mlp = options[name]
    if not isinstance(mlp, Mapping) or not isinstance(mlp.get("n_neurons"), list):
        raise ValueError(  # noqa: TRY004  wrong content, not a wrong argument
            f"{name} = {shortened(mlp)} must hold a list 'n_neurons'"
        )
    if mlp.get("activation", "silu") != "silu":
        raise ValueError(
            f"activation {shortened(mlp['activation'])} is not supported, only silu"
        )
    return tuple(mlp["n_neurons"])


def _chosen_tensors(
    config: ForecasterConfig, tensors: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Return our tensors by our names, after checking all that are published."""
    sources, chosen = dict(_renamed(config)), {}
    for name, shape in tensor_shapes(config).items():
        key = sources[name]
        if key not in tensors:
            raise ValueError(f"the weights lack {key!r}; the file is not complete")
        tensor, size = tensors[key], math.prod(shape)
        if tuple(tensor.shape) not in (shape, (size,)):
            raise ValueError(
                f"{key!r} has the shape {tuple(tensor.shape)}, the configuration asks "
                f"for {size} numbers or {shape}; configuration and weights do not "
                "belong together"
            )
        _check_numbers(tensor, key)
        chosen[name] = tensor.detach().double().reshape(shape)
    read = set(sources.values())
    for name, tensor in tensors.items():
        last = name.rsplit(".", 1)[-1]
        ignorable = last in IGNORED_NAMES or IGNORED_PREFIX in name
        if name not in read and tensor.numel() > 0 and not ignorable:
            raise ValueError(
                f"unknown tensor {shortened(name)} in the weights; only "
                "EfficientTrajCastModel files can be imported"
            )
    return chosen


def _renamed(config: ForecasterConfig) -> Iterator[tuple[str, str]]:
    """Yield our name and the published name of each parameter."""
    yield "edge_basis.roots", "_encoding.EdgeLengthEncoding.radial_basis.bessel_roots"
    yield "speed.weight", "_encoding.VelocityNormEncoding.element_tp.weight"
    yield "embedding.linear.weight", "_int_out.LinearInit.linear.weight"
    yield "compression.weight", "_int_out.LinearCompression.linear.weight"
    yield "readout.weight", "_int_out.LinearReadOut.linear.weight"
    for k in range(config.n_layers):
        ours, theirs = f"layers.{k}", f"_int_out.mp_layer_{k}"
        for mlp, published in (("edge_mlp", "edge_mlp"), ("velocity_mlp", "vel_mlp")):
            widths = getattr(config, mlp)
            for depth in range(len(widths) + 1):
                yield (
                    f"{ours}.{mlp}.weights.{depth}",
                    f"{theirs}.{published}.layer{depth}.weight",
                )
        yield f"{ours}.contraction.weight", f"{theirs}.linear_contraction.weight"
        yield f"{ours}.update.weight", f"{theirs}.linear_updates.weight"
        yield f"{ours}.residual.weight", f"{theirs}.tp_resnet.weight"
