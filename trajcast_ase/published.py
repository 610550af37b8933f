"""Published TrajCast weight files (IBM/trajcast) to a :class:`Forecaster`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from ase.data import atomic_numbers as number_of_symbol
from torch import Tensor

from trajcast_ase.network.forecaster import Forecaster, ForecasterConfig

OLDER_CLASSES = ("TrajCastModel", "FlexibleModel")
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
    options = _model_options(config)
    tensors = _tensors(state_dict)
    _refuse_older_classes(tensors, options)
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
    if isinstance(config, Mapping):
        content: Any = config
    else:
        import yaml  # noqa: PLC0415  only the published files are YAML

        content = yaml.safe_load(Path(config).read_text(encoding="utf-8"))
    if not isinstance(content, Mapping) or not isinstance(content.get("model"), Mapping):
        raise ValueError(
            f"{config if not isinstance(config, Mapping) else 'the configuration'} has "
            "no section 'model'; give the config*.yaml that belongs to the weights"
        )
    options: Mapping[str, Any] = content["model"]
    return options


def _tensors(state_dict: str | Path | Mapping[str, Tensor]) -> dict[str, Tensor]:
    if isinstance(state_dict, Mapping):
        return dict(state_dict)
    # weights_only reads tensors and plain containers; no code in the file can run.
    content = torch.load(  # noqa: TID251
        state_dict, map_location="cpu", weights_only=True
    )
    if not isinstance(content, Mapping):
        raise TypeError(f"{state_dict} holds no state dict")
    return dict(content)


def _refuse_older_classes(
    tensors: Mapping[str, Tensor], options: Mapping[str, Any]
) -> None:
    if not any(name.startswith("_int_out.mp_layer_0.") for name in tensors):
        named = str(options.get("model_type", " or ".join(OLDER_CLASSES)))
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
    rms = tensors["rms_targets"].double().tolist()
    angular = options.get("net_ang_mom")
    edge, velocity = options["edge_mlp_kwargs"], options["vel_mlp_kwargs"]
    for mlp in (edge, velocity):
        if mlp.get("activation", "silu") != "silu":
            raise ValueError(f"activation {mlp['activation']!r} is not supported, only silu")
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
        edge_mlp=tuple(edge["n_neurons"]),
        n_velocity_rbf=int(options["num_vel_rbf"]),
        velocity_mlp=tuple(velocity["n_neurons"]),
        velocity_encoding="direction",
        velocity_max=float(options["vel_max"]),
        conserve_angular_momentum=bool(options.get("conserve_ang_mom", False)),
        fixed_angular_momentum=(
            None if angular is None else tuple(float(x) for x in angular)  # type: ignore[arg-type]  # three numbers
        ),
    )


def _load_tensors(model: Forecaster, tensors: Mapping[str, Tensor]) -> None:
    targets = dict(model.named_parameters())
    sources = dict(_renamed(model))
    for name, parameter in targets.items():
        key = sources[name]
        if key not in tensors:
            raise ValueError(f"the weights lack {key!r}; the file is not complete")
        tensor = tensors[key].double()
        if tensor.numel() != parameter.numel():
            raise ValueError(
                f"{key!r} holds {tensor.numel()} numbers, the configuration asks for "
                f"{parameter.numel()}; configuration and weights do not belong together"
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
