"""Published TrajCast weight files (IBM/trajcast) to a :class:`Forecaster`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from pickle import UnpicklingError  # noqa: TID251  only the exception
from typing import Any

import torch
from ase.data import atomic_numbers as number_of_symbol
from torch import Tensor

from trajcast_ase.network.config import ForecasterConfig
from trajcast_ase.network.forecaster import Forecaster

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
        An older model class, a number of elements that does not fit, or tensors that
        are missing, unknown or of another shape.
    """
    tensors = _tensors(state_dict)
    _refuse_older_classes(tensors)
    options = _model_options(config)
    numbers = tuple(_atomic_number(element) for element in elements)
    if len(numbers) != int(options["num_chem_elements"]):
        raise ValueError(
            f"{len(numbers)} elements given ({', '.join(map(str, elements))}), but the "
            f"weights are for {options['num_chem_elements']}; list them in the order "
            "of the model's type index"
        )
    model = Forecaster(_convert_config(options, tensors, numbers, horizon_fs))
    _load_tensors(model, tensors)
    return model.requires_grad_(requires_grad=False)


def _model_options(config: str | Path | Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the section 'model' with every required key and supported activations."""
    named = "the configuration" if isinstance(config, Mapping) else str(config)
    content = config if isinstance(config, Mapping) else _read_yaml(Path(config))
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
            f"nl_gate_kwargs = {options['nl_gate_kwargs']} is not supported, only the "
            f"published {GATE}"
        )
    return options


def _read_yaml(path: Path) -> Any:
    import yaml  # noqa: PLC0415  only the published files are YAML

    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(
            f"{path} is not a YAML file ({str(error).splitlines()[0]}); give the "
            "config*.yaml that belongs to the weights"
        ) from error


def _tensors(state_dict: str | Path | Mapping[str, Tensor]) -> dict[str, Tensor]:
    if isinstance(state_dict, Mapping):
        content: Any = state_dict
    else:
        content = _read_state_dict(Path(state_dict))
    if not isinstance(content, Mapping) or not all(
        isinstance(tensor, Tensor) for tensor in content.values()
    ):
        raise ValueError(
            f"{_source(state_dict)} is not a mapping of names to tensors; give the "
            "state_dict*.pt of the model"
        )
    for name, tensor in content.items():
        if not bool(torch.isfinite(tensor).all()):
            raise ValueError(
                f"{name!r} in the weights holds numbers that are not finite"
            )
    return dict(content)


def _source(state_dict: str | Path | Mapping[str, Tensor]) -> str:
    """Return how an error should name the weights."""
    return "the state dict" if isinstance(state_dict, Mapping) else str(state_dict)


def _read_state_dict(path: Path) -> Any:
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}; check the path")
    try:
        # weights_only reads tensors and plain containers; no code in the file can run.
        return torch.load(  # noqa: TID251
            path, map_location="cpu", weights_only=True
        )
    except (UnpicklingError, RuntimeError, EOFError, OSError) as error:
        raise ValueError(
            f"{path} is damaged, or is no file of tensors; give the state_dict*.pt of "
            "the model"
        ) from error


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
    for name, size in (("rms_targets", 2), ("avg_num_neighbors", 1)):
        if name not in tensors or tensors[name].numel() != size:
            raise ValueError(f"the weights lack {name!r} with {size} number(s)")
    rms = tensors["rms_targets"].double().tolist()
    angular = options.get("net_ang_mom")
    return ForecasterConfig(
        elements=numbers,
        horizon_fs=horizon_fs,
        cutoff=float(options["edge_cutoff"]),
        displacement_rms=rms[0],
        velocity_rms=rms[1],
        avg_num_neighbors=float(tensors["avg_num_neighbors"]),
        n_channels=int(options["num_hidden_channels"]),
        lmax=int(options["max_rotation_order"]),
        n_layers=int(options["num_mp_layers"]),
        n_edge_rbf=int(options["num_edge_rbf"]),
        edge_poly_cutoff=int(options["num_edge_poly_cutoff"]),
        edge_mlp=_mlp_widths(options, "edge_mlp_kwargs"),
        n_velocity_rbf=int(options["num_vel_rbf"]),
        velocity_mlp=_mlp_widths(options, "vel_mlp_kwargs"),
        velocity_encoding="direction",
        velocity_max=float(options["vel_max"]),
        conserve_angular_momentum=bool(options.get("conserve_ang_mom", False)),
        fixed_angular_momentum=(
            None if angular is None else tuple(float(x) for x in angular)  # type: ignore[arg-type]  # three numbers
        ),
    )


def _mlp_widths(options: Mapping[str, Any], name: str) -> tuple[int, ...]:
    mlp = options[name]
    if not isinstance(mlp, Mapping) or not isinstance(mlp.get("n_neurons"), list):
        raise ValueError(  # noqa: TRY004  wrong content, not a wrong argument
            f"{name} = {mlp} must hold a list 'n_neurons'"
        )
    if mlp.get("activation", "silu") != "silu":
        raise ValueError(
            f"activation {mlp['activation']!r} is not supported, only silu"
        )
    return tuple(int(width) for width in mlp["n_neurons"])


def _load_tensors(model: Forecaster, tensors: Mapping[str, Tensor]) -> None:
    targets = dict(model.named_parameters())
    sources = dict(_renamed(model))
    for name, parameter in targets.items():
        key = sources[name]
        if key not in tensors:
            raise ValueError(f"the weights lack {key!r}; the file is not complete")
        tensor = tensors[key].double()
        if tensor.shape not in (parameter.shape, (parameter.numel(),)):
            raise ValueError(
                f"{key!r} has the shape {tuple(tensor.shape)}, the configuration asks "
                f"for {parameter.numel()} numbers or {tuple(parameter.shape)}; "
                "configuration and weights do not belong together"
            )
        parameter.data.copy_(tensor.view(parameter.shape))
    read = set(sources.values())
    for name, tensor in tensors.items():
        last = name.rsplit(".", 1)[-1]
        ignorable = last in IGNORED_NAMES or IGNORED_PREFIX in name
        if name not in read and tensor.numel() > 0 and not ignorable:
            raise ValueError(
                f"unknown tensor {name!r} in the weights; only EfficientTrajCastModel "
                "files can be imported"
            )


def _renamed(model: Forecaster) -> Iterator[tuple[str, str]]:
    """Yield our name and the published name of each parameter."""
    yield "edge_basis.roots", "_encoding.EdgeLengthEncoding.radial_basis.bessel_roots"
    yield "speed.weight", "_encoding.VelocityNormEncoding.element_tp.weight"
    yield "embedding.linear.weight", "_int_out.LinearInit.linear.weight"
    yield "compression.weight", "_int_out.LinearCompression.linear.weight"
    yield "readout.weight", "_int_out.LinearReadOut.linear.weight"
    for k in range(model.config.n_layers):
        ours, theirs = f"layers.{k}", f"_int_out.mp_layer_{k}"
        for mlp, published in (("edge_mlp", "edge_mlp"), ("velocity_mlp", "vel_mlp")):
            widths = getattr(model.config, mlp)
            for depth in range(len(widths) + 1):
                yield (
                    f"{ours}.{mlp}.weights.{depth}",
                    f"{theirs}.{published}.layer{depth}.weight",
                )
        yield f"{ours}.contraction.weight", f"{theirs}.linear_contraction.weight"
        yield f"{ours}.update.weight", f"{theirs}.linear_updates.weight"
        yield f"{ours}.residual.weight", f"{theirs}.tp_resnet.weight"
