"""The published network once more, slowly: e3nn modules, loops over pairs of atoms.

Independent of the package's network: features in e3nn's layout, tensor products by
``e3nn.o3.TensorProduct``, pairs by brute force, conservation by loops. Free molecules
of zero total momentum only, for which the published code and the package agree.

``python tests/published_twin.py`` writes the case in ``tests/data`` anew.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import yaml
from e3nn import nn as e3nn_nn
from e3nn import o3
from e3nn.math import normalize2mom, soft_one_hot_linspace
from helpers import float64_twins
from safetensors.torch import save_file
from torch import Tensor

DATA = Path(__file__).parent / "data"
CONFIG = DATA / "published_tiny.yaml"
WEIGHTS = DATA / "published_tiny.safetensors"
FORECASTS = DATA / "published_tiny_forecasts.safetensors"
PREFIX = "_int_out."
MASSES = torch.tensor([1.008, 12.011, 15.999], dtype=torch.float64)
silu = torch.nn.functional.silu


def mlp(x: Tensor, tensors: dict[str, Tensor], name: str, n_hidden: int) -> Tensor:
    """Return the perceptron ``name``: normalized SiLU but in the last layer."""
    activation = normalize2mom(silu)
    for depth in range(n_hidden + 1):
        weight = tensors[f"{name}.layer{depth}.weight"]
        x = x @ (weight / math.sqrt(weight.shape[0]))
        x = activation(x) if depth < n_hidden else x
    return x


def with_weight(module: torch.nn.Module, weight: Tensor) -> torch.nn.Module:
    """Return an e3nn module with its flat weights set."""
    assert module.weight.shape == weight.shape
    module.weight.data = weight.clone()
    return module.requires_grad_(requires_grad=False)


def depthwise(irreps: o3.Irreps, lmax: int) -> o3.TensorProduct:
    """Return features times harmonics, one output block per path, sorted."""
    harmonics = o3.Irreps.spherical_harmonics(lmax)
    rows = [
        (mul, out, i, j)
        for i, (mul, left) in enumerate(irreps)
        for j, (_, right) in enumerate(harmonics)
        for out in left * right
        if out.l <= lmax
    ]
    # Python's sort is stable: paths of one irrep stay in the order of the loops.
    rows.sort(key=lambda row: (row[1].l, row[1].p))
    return o3.TensorProduct(
        irreps,
        harmonics,
        o3.Irreps([(mul, out) for mul, out, _, _ in rows]),
        [(i, j, k, "uvu", True) for k, (_, _, i, j) in enumerate(rows)],
        shared_weights=False,
        internal_weights=False,
    )


@dataclass(frozen=True)
class Features:
    """What every layer sees of a molecule."""

    one_hot: Tensor
    speed: Tensor
    directions: Tensor
    pairs: list[tuple[int, int]]
    harmonics: Tensor
    radial: Tensor


class PublishedTwin:
    """An ``EfficientTrajCastModel`` of a configuration and a state dict."""

    def __init__(self, options: dict, tensors: dict[str, Tensor]) -> None:
        self.options = options
        self.tensors = {name: tensor.double() for name, tensor in tensors.items()}
        self.lmax = options["max_rotation_order"]
        self.channels = options["num_hidden_channels"]
        self.species = options["num_chem_elements"]

    def __call__(
        self, species: Tensor, positions: Tensor, velocities: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return displacements (Å) and velocities (Å/fs) of one molecule."""
        with float64_twins(), torch.no_grad():
            targets = self.targets(species, positions, velocities)
        rms = self.tensors["rms_targets"]
        return conserve(
            MASSES[species],
            positions,
            velocities,
            (targets[:, :3] * rms[0], targets[:, 3:] * rms[1]),
        )

    def targets(self, species: Tensor, positions: Tensor, velocities: Tensor) -> Tensor:
        """Return the network's output before conservation."""
        options, tensors = self.options, self.tensors
        harmonics = o3.Irreps.spherical_harmonics(self.lmax)
        one_hot = torch.eye(self.species)[species]
        speed = self.embed_speed(velocities.norm(dim=1), one_hot)
        directions = o3.spherical_harmonics(
            harmonics, velocities, normalize=True, normalization="component"
        )
        irreps = o3.Irreps([(self.species + options["num_vel_rbf"], "0e")])
        irreps += harmonics[1:]
        hidden = o3.Irreps([(self.channels, ir) for _, ir in harmonics])
        x = torch.cat([one_hot, speed, directions[:, 1:]], dim=1)
        x = with_weight(
            o3.Linear(irreps, hidden), tensors[f"{PREFIX}LinearInit.linear.weight"]
        )(x)
        seen = Features(one_hot, speed, directions, *self.edges(positions))
        for k in range(options["num_mp_layers"]):
            x, hidden = self.layer(k, x, hidden, seen)
        middle, final = o3.Irreps(f"{self.channels // 4}x1o"), o3.Irreps("2x1o")
        for name, first, last in (
            ("LinearCompression", hidden, middle),
            ("LinearReadOut", middle, final),
        ):
            weight = tensors[f"{PREFIX}{name}.linear.weight"]
            x = with_weight(o3.Linear(first, last), weight)(x)
        return x

    def embed_speed(self, speeds: Tensor, one_hot: Tensor) -> Tensor:
        """Return the embedded speeds."""
        n_basis = self.options["num_vel_rbf"]
        gaussians = soft_one_hot_linspace(
            speeds, 0.0, self.options["vel_max"], n_basis, basis="gaussian", cutoff=True
        )
        product = o3.FullyConnectedTensorProduct(
            f"{n_basis}x0e", f"{self.species}x0e", f"{n_basis}x0e"
        )
        weight = self.tensors["_encoding.VelocityNormEncoding.element_tp.weight"]
        return with_weight(product, weight)(gaussians * math.sqrt(n_basis), one_hot)

    def edges(self, positions: Tensor) -> tuple[list[tuple[int, int]], Tensor, Tensor]:
        """Return pairs (receiver, sender), harmonics and radial functions."""
        cutoff, p = self.options["edge_cutoff"], self.options["num_edge_poly_cutoff"]
        roots = self.tensors["_encoding.EdgeLengthEncoding.radial_basis.bessel_roots"]
        pairs, vectors, radial = [], [], []
        for i, r_i in enumerate(positions):
            for j, r_j in enumerate(positions):
                vector = r_j - r_i
                d = float(vector.norm())
                if i == j or d >= cutoff:
                    continue
                x = d / cutoff
                envelope = 1.0 - x**p * (
                    (p + 1) * (p + 2) / 2 - p * (p + 2) * x + p * (p + 1) / 2 * x * x
                )
                sine = torch.sin(roots * x) * 2.0 / cutoff / (d + 1e-5)
                pairs.append((i, j))
                vectors.append(vector)
                radial.append(sine * envelope)
        harmonics = o3.spherical_harmonics(
            list(range(self.lmax + 1)), torch.stack(vectors), True, "component"
        )
        return pairs, harmonics, torch.stack(radial)

    def layer(
        self, k: int, x: Tensor, irreps: o3.Irreps, seen: Features
    ) -> tuple[Tensor, o3.Irreps]:
        """Return the features after layer ``k`` and their irreps."""
        name = f"{PREFIX}mp_layer_{k}"
        n_edge = len(self.options["edge_mlp_kwargs"]["n_neurons"])
        n_velocity = len(self.options["vel_mlp_kwargs"]["n_neurons"])
        product = depthwise(irreps, self.lmax)
        weights = mlp(seen.radial, self.tensors, f"{name}.edge_mlp", n_edge)
        senders = torch.tensor([j for _, j in seen.pairs])
        messages = product(x[senders], seen.harmonics, weights)
        summed = torch.zeros(len(x), messages.shape[1])
        for (i, _), message in zip(seen.pairs, messages, strict=True):
            summed[i] += message / self.options["avg_num_neighbors"]
        merged = o3.Irreps([(self.channels, ir) for ir in distinct(product.irreps_out)])
        weight = self.tensors[f"{name}.linear_contraction.weight"]
        y = with_weight(o3.Linear(product.irreps_out, merged), weight)(summed)
        product = depthwise(merged, self.lmax)
        weights = mlp(seen.speed, self.tensors, f"{name}.vel_mlp", n_velocity)
        y = product(y, seen.directions, weights)
        gate, out = self.gate(distinct(product.irreps_out))
        weight = self.tensors[f"{name}.linear_updates.weight"]
        y = gate(with_weight(o3.Linear(product.irreps_out, gate.irreps_in), weight)(y))
        residual = o3.FullyConnectedTensorProduct(irreps, f"{self.species}x0e", out)
        weight = self.tensors[f"{name}.tp_resnet.weight"]
        return (y + with_weight(residual, weight)(x, seen.one_hot)) / math.sqrt(
            2.0
        ), out

    def gate(self, irreps: list[o3.Irrep]) -> tuple[e3nn_nn.Gate, o3.Irreps]:
        """Return e3nn's gate and the irreps of its output."""
        n = self.channels
        scalars = [(n, ir) for ir in irreps if ir.l == 0]
        gated = [(n, ir) for ir in irreps if ir.l > 0]
        activations = [silu if ir.p > 0 else torch.tanh for _, ir in scalars]
        gates = f"{n * len(gated)}x0e"
        gate = e3nn_nn.Gate(scalars, activations, gates, [silu], gated)
        return gate, o3.Irreps(scalars + gated)


def distinct(irreps: o3.Irreps) -> list[o3.Irrep]:
    """Return each irrep once, sorted: odd before even."""
    return sorted({ir for _, ir in irreps}, key=lambda ir: (ir.l, ir.p))


def conserve(
    masses: Tensor,
    positions: Tensor,
    velocities: Tensor,
    raw: tuple[Tensor, Tensor],
) -> tuple[Tensor, Tensor]:
    """Return the forecast of a molecule with its center of mass at rest.

    The angular momentum becomes that of the configuration: zero.
    """
    m = masses.numpy()[:, None]
    assert np.abs((m * velocities.numpy()).sum(0)).max() < 1e-12
    displacements, new = (part.numpy() for part in raw)
    displacements = displacements - (m * displacements).sum(0) / m.sum()
    new = new - (m * new).sum(0) / m.sum()
    after = positions.numpy() + displacements
    after = after - (m * after).sum(0) / m.sum()
    inertia, momentum = np.zeros((3, 3)), np.zeros(3)
    for mass, r, v in zip(masses.tolist(), after, new, strict=True):
        inertia += mass * (r @ r * np.eye(3) - np.outer(r, r))
        momentum += mass * np.cross(r, v)
    new = new + np.cross(np.linalg.solve(inertia, -momentum), after)
    return torch.from_numpy(displacements), torch.from_numpy(new)


def tiny_config() -> dict:
    """Return the configuration of the committed case."""
    return {
        "num_chem_elements": 3,
        "edge_cutoff": 3.2,
        "num_edge_rbf": 4,
        "num_edge_poly_cutoff": 5,
        "vel_max": 0.06,
        "num_vel_rbf": 5,
        "max_rotation_order": 2,
        "num_hidden_channels": 8,
        "num_mp_layers": 2,
        "avg_num_neighbors": 1.5,
        "edge_mlp_kwargs": {"n_neurons": [4], "activation": "silu"},
        "vel_mlp_kwargs": {"n_neurons": [4], "activation": "silu"},
        "conserve_ang_mom": True,
        "net_lin_mom": [0.0, 0.0, 0.0],
        "net_ang_mom": [0.0, 0.0, 0.0],
    }


def tiny_weights(generator: torch.Generator) -> dict[str, Tensor]:
    """Return seeded weights in the published layout."""
    # Numbers of paths and of irreps before and after each product of both layers.
    n, s = 8, 3
    shapes = {
        "_encoding.VelocityNormEncoding.element_tp.weight": (5 * s * 5,),
        f"{PREFIX}LinearInit.linear.weight": ((s + 5 + 1 + 1) * n,),
        f"{PREFIX}LinearCompression.linear.weight": (n * n // 4,),
        f"{PREFIX}LinearReadOut.linear.weight": (n // 4 * 2,),
    }
    # (edge paths, velocity paths, incoming irreps, weights of the update in n²)
    for k, (edge, velocity, irreps, update) in enumerate(
        [(15, 27, 3, 39), (30, 30, 6, 42)]
    ):
        layer = f"{PREFIX}mp_layer_{k}"
        shapes |= {
            f"{layer}.edge_mlp.layer0.weight": (4, 4),
            f"{layer}.edge_mlp.layer1.weight": (4, edge * n),
            f"{layer}.vel_mlp.layer0.weight": (5, 4),
            f"{layer}.vel_mlp.layer1.weight": (4, velocity * n),
            f"{layer}.linear_contraction.weight": (edge * n * n,),
            f"{layer}.linear_updates.weight": (update * n * n,),
            f"{layer}.tp_resnet.weight": (irreps * n * s * n,),
        }
    # Single precision halves the file; both implementations compute in double.
    tensors = {
        name: torch.randn(shape, generator=generator, dtype=torch.float64).float()
        for name, shape in shapes.items()
    }
    noise = torch.randn(4, generator=generator, dtype=torch.float64)
    roots = math.pi * torch.arange(1, 5).double() + 0.05 * noise
    return tensors | {
        "rms_targets": torch.tensor([0.02, 0.008], dtype=torch.float64),
        "mean_targets": torch.zeros(2, dtype=torch.float64),
        "avg_num_neighbors": torch.tensor(1.5, dtype=torch.float64),
        "_encoding.EdgeLengthEncoding.radial_basis.bessel_roots": roots,
        "_conservation.net_ang_mom": torch.zeros(3, dtype=torch.float64),
        f"{PREFIX}LinearInit.linear.bias": torch.zeros(0, dtype=torch.float64),
    }


def tiny_inputs(rng: np.random.Generator) -> dict[str, Tensor]:
    """Return three molecules of seven atoms at rest as a whole."""
    species = torch.from_numpy(rng.integers(0, 3, 7))
    masses = MASSES[species].numpy()[:, None]
    grid = np.argwhere(np.ones((2, 2, 2)))[:7] * 1.4
    positions = grid + rng.uniform(-0.3, 0.3, (3, 7, 3))
    velocities = rng.normal(size=(3, 7, 3)) * 0.02 / np.sqrt(masses)
    velocities -= (masses * velocities).sum(1, keepdims=True) / masses.sum()
    return {
        "species": species,
        "positions": torch.from_numpy(positions),
        "velocities": torch.from_numpy(velocities),
    }


def main() -> None:
    """Write configuration, weights, and the twin's forecasts."""
    options = tiny_config()
    weights = tiny_weights(torch.Generator().manual_seed(2024))
    inputs = tiny_inputs(np.random.default_rng(2024))
    twin = PublishedTwin(options, weights)
    moves = zip(inputs["positions"], inputs["velocities"], strict=True)
    results = [twin(inputs["species"], r, v) for r, v in moves]
    inputs["displacements"] = torch.stack([d for d, _ in results])
    inputs["new_velocities"] = torch.stack([v for _, v in results])
    DATA.mkdir(exist_ok=True)
    CONFIG.write_text(yaml.safe_dump({"model": options}), encoding="utf-8")
    save_file(weights, WEIGHTS)
    save_file(inputs, FORECASTS)


if __name__ == "__main__":
    main()
