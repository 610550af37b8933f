"""The published network as e3nn modules: the formulation that ours is timed against.

Thiemann et al., arXiv:2503.23794. Features lie in e3nn's layout, products are
``e3nn.o3.TensorProduct`` ("uvu", external weights), messages are written for every
edge and summed by ``index_add``. The call is that of
:class:`trajcast_ase.network.Forecaster`, and :meth:`Rival.published` gives the same
weights to ``trajcast_ase.import_published``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import pairwise
from typing import Any, Literal

import torch
from e3nn import get_optimization_defaults, o3, set_optimization_defaults
from e3nn.math import normalize2mom, soft_one_hot_linspace
from e3nn.nn import Gate
from jaxtyping import Float, Int
from torch import Tensor, nn

from trajcast_ase.neighbors import Edges

Codegen = Literal["script", "eager"]
silu = nn.functional.silu


class Perceptron(nn.Module):
    """Linear maps without bias, normalized SiLU between them."""

    def __init__(self, widths: list[int]) -> None:
        super().__init__()
        self.weights = nn.ParameterList(
            torch.randn(n_in, n_out) for n_in, n_out in pairwise(widths)
        )
        self.activation = normalize2mom(silu)

    def forward(self, x: Float[Tensor, "rows _"]) -> Float[Tensor, "rows _out"]:
        """Return the last layer's output."""
        last = len(self.weights) - 1
        for depth, weight in enumerate(self.weights):
            x = x @ (weight / math.sqrt(weight.shape[0]))
            x = self.activation(x) if depth < last else x
        return x


def depthwise(irreps: o3.Irreps, lmax: int) -> o3.TensorProduct:
    """Return features times harmonics, one output block per path, sorted by irrep."""
    harmonics = o3.Irreps.spherical_harmonics(lmax)
    rows = [
        (mul, out, i, j)
        for i, (mul, left) in enumerate(irreps)
        for j, (_, right) in enumerate(harmonics)
        for out in left * right
        if out.l <= lmax
    ]
    # Stable: paths of one irrep stay in the order of the loops, as published.
    rows.sort(key=lambda row: (row[1].l, row[1].p))
    return o3.TensorProduct(
        irreps,
        harmonics,
        o3.Irreps([(mul, out) for mul, out, _, _ in rows]),
        [(i, j, k, "uvu", True) for k, (_, _, i, j) in enumerate(rows)],
        shared_weights=False,
        internal_weights=False,
    )


def distinct(irreps: o3.Irreps) -> list[o3.Irrep]:
    """Return each irrep once, odd before even."""
    return sorted({ir for _, ir in irreps}, key=lambda ir: (ir.l, ir.p))


def gate_of(irreps: list[o3.Irrep], n_channels: int) -> tuple[Gate, o3.Irreps]:
    """Return e3nn's gate and the irreps of its output."""
    scalars = [(n_channels, ir) for ir in irreps if ir.l == 0]
    gated = [(n_channels, ir) for ir in irreps if ir.l > 0]
    activations = [silu if ir.p > 0 else torch.tanh for _, ir in scalars]
    gates = f"{n_channels * len(gated)}x0e"
    gate = Gate(scalars, activations, gates, [silu], gated)
    return gate, o3.Irreps(scalars + gated)


class Layer(nn.Module):
    """One message-passing layer."""

    def __init__(self, irreps: o3.Irreps, options: Mapping[str, Any]) -> None:
        super().__init__()
        lmax, n = options["max_rotation_order"], options["num_hidden_channels"]
        n_species = options["num_chem_elements"]
        self.edge_product = depthwise(irreps, lmax)
        summed = self.edge_product.irreps_out
        merged = o3.Irreps([(n, ir) for ir in distinct(summed)])
        self.contraction = o3.Linear(summed, merged)
        self.velocity_product = depthwise(merged, lmax)
        updated = self.velocity_product.irreps_out
        self.gate, self.irreps_out = gate_of(distinct(updated), n)
        self.update = o3.Linear(updated, self.gate.irreps_in)
        self.residual = o3.FullyConnectedTensorProduct(
            irreps, f"{n_species}x0e", self.irreps_out
        )
        self.edge_mlp = Perceptron(
            [
                options["num_edge_rbf"],
                *options["edge_mlp_kwargs"]["n_neurons"],
                self.edge_product.weight_numel,
            ]
        )
        self.velocity_mlp = Perceptron(
            [
                options["num_vel_rbf"],
                *options["vel_mlp_kwargs"]["n_neurons"],
                self.velocity_product.weight_numel,
            ]
        )
        self.divisor = float(options["avg_num_neighbors"])

    def forward(
        self,
        x: Float[Tensor, "atoms _"],
        edges: Edges,
        edge_features: tuple[Tensor, Tensor],
        atom_features: tuple[Tensor, Tensor, Tensor],
    ) -> Float[Tensor, "atoms _out"]:
        """Return the updated features."""
        harmonics, radial = edge_features
        one_hot, speed, directions = atom_features
        messages = self.edge_product(x[edges.senders], harmonics, self.edge_mlp(radial))
        summed = messages.new_zeros(x.shape[0], messages.shape[1])
        summed = summed.index_add(0, edges.receivers, messages) / self.divisor
        y = self.velocity_product(
            self.contraction(summed), directions, self.velocity_mlp(speed)
        )
        y = self.gate(self.update(y)) + self.residual(x, one_hot)
        return y / math.sqrt(2.0)


class Rival(nn.Module):
    """The published ``EfficientTrajCastModel``, with weights drawn at random.

    Parameters
    ----------
    options : dict
        Section ``model`` of a published configuration, with ``atomic_numbers`` and
        ``rms_targets`` (Å and Å/fs) besides.
    """

    numbers: Tensor

    def __init__(self, options: Mapping[str, Any]) -> None:
        super().__init__()
        self.options = dict(options)
        lmax, n = options["max_rotation_order"], options["num_hidden_channels"]
        n_basis, n_species = options["num_vel_rbf"], options["num_chem_elements"]
        self.lmax = lmax
        numbers = torch.tensor(options["atomic_numbers"])
        self.register_buffer("numbers", numbers, persistent=False)
        n_roots = options["num_edge_rbf"]
        self.roots = nn.Parameter(math.pi * torch.arange(1.0, n_roots + 1))
        self.speed = o3.FullyConnectedTensorProduct(
            f"{n_basis}x0e", f"{n_species}x0e", f"{n_basis}x0e"
        )
        harmonics = o3.Irreps.spherical_harmonics(lmax)
        scalars = o3.Irreps([(n_species + n_basis, "0e")])
        irreps = o3.Irreps([(n, ir) for _, ir in harmonics])
        self.initial = o3.Linear(scalars + harmonics[1:], irreps)
        self.layers = nn.ModuleList()
        for _ in range(options["num_mp_layers"]):
            self.layers.append(Layer(irreps, options))
            irreps = self.layers[-1].irreps_out
        middle = o3.Irreps([(n // 4, "1o")])
        self.compression = o3.Linear(irreps, middle)
        self.readout = o3.Linear(middle, o3.Irreps("2x1o"))

    def forward(
        self,
        atomic_numbers: Int[Tensor, " atoms"],
        velocities: Float[Tensor, "atoms 3"],
        edges: Edges,
    ) -> Float[Tensor, "atoms 2 3"]:
        """Return displacement and velocity in units of their training rms.

        Parameters
        ----------
        atomic_numbers : (n_atoms,)
        velocities : (n_atoms, 3), Å/fs
        edges : Edges
        """
        dtype = self.roots.dtype
        velocities, vectors = velocities.to(dtype), edges.vectors.to(dtype)
        one_hot = (atomic_numbers[:, None] == self.numbers).to(dtype)
        speed = self._embedded_speed(velocities.norm(dim=1), one_hot)
        directions = self._harmonics(velocities)
        edge_features = self._harmonics(vectors), self._radial(vectors.norm(dim=1))
        atom_features = one_hot, speed, directions
        x = self.initial(torch.cat([one_hot, speed, directions[:, 1:]], dim=1))
        for layer in self.layers:
            x = layer(x, edges, edge_features, atom_features)
        targets: Tensor = self.readout(self.compression(x))
        return targets.view(-1, 2, 3)

    def _harmonics(self, vectors: Tensor) -> Tensor:
        orders = list(range(self.lmax + 1))
        harmonics: Tensor = o3.spherical_harmonics(
            orders, vectors, normalize=True, normalization="component"
        )
        return harmonics

    def _embedded_speed(self, speeds: Tensor, one_hot: Tensor) -> Tensor:
        n_basis, end = self.options["num_vel_rbf"], self.options["vel_max"]
        gaussians = soft_one_hot_linspace(
            speeds, 0.0, end, n_basis, basis="gaussian", cutoff=True
        )
        embedded: Tensor = self.speed(gaussians * math.sqrt(n_basis), one_hot)
        return embedded

    def _radial(self, lengths: Tensor) -> Tensor:
        cutoff, p = self.options["edge_cutoff"], self.options["num_edge_poly_cutoff"]
        x = lengths[:, None] / cutoff
        envelope = 1.0 - x**p * (
            (p + 1) * (p + 2) / 2 - p * (p + 2) * x + p * (p + 1) / 2 * x * x
        )
        sines = torch.sin(self.roots * x) * 2.0 / cutoff / (lengths[:, None] + 1e-5)
        return sines * envelope

    def published(self) -> dict[str, Tensor]:
        """Return weights and constants in the layout of the published files."""
        rms = torch.tensor(self.options["rms_targets"], dtype=torch.float64)
        divisor = torch.tensor(self.options["avg_num_neighbors"], dtype=torch.float64)
        weights = {name: parameter.detach() for name, parameter in self._named()}
        return weights | {"rms_targets": rms, "avg_num_neighbors": divisor}

    def load_published(self, weights: Mapping[str, Tensor]) -> None:
        """Take over weights in the layout of the published files."""
        for name, parameter in self._named():
            parameter.data.copy_(weights[name].view(parameter.shape))

    def _named(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Yield the published name of each parameter."""
        out = "_int_out."
        yield "_encoding.EdgeLengthEncoding.radial_basis.bessel_roots", self.roots
        yield "_encoding.VelocityNormEncoding.element_tp.weight", self.speed.weight
        yield f"{out}LinearInit.linear.weight", self.initial.weight
        yield f"{out}LinearCompression.linear.weight", self.compression.weight
        yield f"{out}LinearReadOut.linear.weight", self.readout.weight
        for k, layer in enumerate(self.layers):
            name = f"{out}mp_layer_{k}"
            for key, mlp in (
                ("edge_mlp", layer.edge_mlp),
                ("vel_mlp", layer.velocity_mlp),
            ):
                for depth, weight in enumerate(mlp.weights):
                    yield f"{name}.{key}.layer{depth}.weight", weight
            yield f"{name}.linear_contraction.weight", layer.contraction.weight
            yield f"{name}.linear_updates.weight", layer.update.weight
            yield f"{name}.tp_resnet.weight", layer.residual.weight


def build_rival(options: Mapping[str, Any], *, seed: int, codegen: Codegen) -> Rival:
    """Return a float32 rival with seeded weights.

    Parameters
    ----------
    options : dict
        See :class:`Rival`.
    seed : int
    codegen : "script" or "eager"
        What e3nn makes of its products: TorchScript, as when the network was
        published, or plain modules, which ``torch.compile`` needs.
    """
    with generated_as(codegen), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Rival(options)


@contextmanager
def generated_as(codegen: Codegen) -> Iterator[None]:
    """Have e3nn make TorchScript or plain modules of its products."""
    previous = get_optimization_defaults()["jit_mode"]
    set_optimization_defaults(jit_mode=codegen)
    try:
        yield
    finally:
        set_optimization_defaults(jit_mode=previous)
