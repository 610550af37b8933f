"""The network: edges and velocities in, normalised displacement and velocity out.

===================  ========================  ==================  =========
symbol (paper)       variable                  shape               unit
===================  ========================  ==================  =========
r_ij                 ``edge_vectors``          (n_edges, 3)        Å
v_i                  ``velocities``            (n_atoms, 3)        Å/fs
h_i                  ``x``                     (n_atoms, dim, C)   1
Δr_i / s_r           ``targets[:, 0]``         (n_atoms, 3)        1
v_i(t + Δt) / s_v    ``targets[:, 1]``         (n_atoms, 3)        1
Δt                   ``config.horizon_fs``                         fs
===================  ========================  ==================  =========
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Self

import torch
from ase.data import chemical_symbols
from jaxtyping import Float, Int
from torch import Tensor, nn

from trajcast_ase.conservation import Conservation
from trajcast_ase.models.fingerprint import fingerprint
from trajcast_ase.models.model_header import ModelHeader
from trajcast_ase.neighbors import Edges, NeighborBackend
from trajcast_ase.network.backend import Backend, ReadyLayers
from trajcast_ase.network.backends import Engine
from trajcast_ase.network.config import ForecasterConfig
from trajcast_ase.network.embedding import (
    DirectionEmbedding,
    SpeedEmbedding,
    ThermalEmbedding,
)
from trajcast_ase.network.graph import NetworkInputs
from trajcast_ase.network.interaction import (
    Graph,
    Interaction,
    IrrepLinear,
    LayerWeights,
)
from trajcast_ase.network.irreps import Irrep, Irreps
from trajcast_ase.network.neighborhood import (
    Neighborhood,
    neighborhood,
    sums_over_pairs,
    sums_over_surroundings,
)
from trajcast_ase.network.radial import BesselBasis
from trajcast_ase.network.routes import Routes
from trajcast_ase.network.sampling import perceptron_weights
from trajcast_ase.network.surroundings import Surroundings, with_surroundings
from trajcast_ase.state import State, check_device
from trajcast_ase.thermostats.recommended import RecommendsThermostats

VECTOR = Irrep(1, -1)
"""What is read of the last layer."""


class Forecaster(RecommendsThermostats, nn.Module):
    """Equivariant network that forecasts displacements and velocities.

    Thiemann et al., arXiv:2503.23794 (Nat. Mach. Intell. 8, 764, 2026). Parameters are
    drawn from the unit normal distribution through `generator` (without one: seed 0);
    every linear map divides by the root of its fan-in.

    Attributes
    ----------
    config : ForecasterConfig
    name : str
        Of the model file it was loaded from.
    header : ModelHeader or None
        What that file states.
    neighbor_backend : "vesin" or "torch-cluster"
    """

    species_of_number: Tensor
    velocity_scales: Tensor
    largest_speeds: Tensor

    def __init__(
        self, config: ForecasterConfig, *, generator: torch.Generator | None = None
    ) -> None:
        super().__init__()
        self.config = config
        self.name = "unnamed"
        self.header: ModelHeader | None = None
        self.neighbor_backend: NeighborBackend = "vesin"
        self._engine = Engine()
        # Submodules draw weights that are drawn again below: leave no trace of it. Nor
        # are they of a mode in which tensors do not count their changes.
        with torch.random.fork_rng(devices=[]), torch.inference_mode(mode=False):
            self._build(config)
            self._register_tables()
        self.reset_parameters(generator or torch.Generator().manual_seed(0))

    def __repr__(self) -> str:
        """Return name, elements and size on one line; ``print(*modules())`` has all."""
        config = self.config
        symbols = " ".join(chemical_symbols[number] for number in config.elements)
        return (
            f"Forecaster({self.name}: {symbols}, {config.horizon_fs:g} fs, "
            f"{config.n_layers} layers of {config.n_channels} channels, cutoff "
            f"{config.cutoff:g} Å, {self.n_parameters} parameters)"
        )

    def _build(self, config: ForecasterConfig) -> None:
        n_species, n_basis = len(config.elements), config.n_velocity_rbf
        self.edge_basis = BesselBasis(
            config.n_edge_rbf, config.cutoff, config.edge_poly_cutoff
        )
        self.speed = SpeedEmbedding(n_basis, n_species, config.velocity_max)
        thermal = config.velocity_encoding == "thermal"
        embedding = ThermalEmbedding if thermal else DirectionEmbedding
        self.embedding = embedding(config.lmax, config.n_channels, n_species, n_basis)
        self.layers = nn.ModuleList()
        self.surroundings = Surroundings.of(config)
        irreps: Irreps = self.embedding.irreps
        for _ in range(config.n_layers):
            layer = Interaction(
                irreps,
                lmax=config.lmax,
                parity=config.parity,
                n_channels=config.n_channels,
                n_species=n_species,
                avg_num_neighbors=config.avg_num_neighbors,
                edge_widths=(config.n_edge_rbf, *config.edge_mlp),
                velocity_widths=(n_basis, *config.velocity_mlp),
            )
            self.layers.append(layer)
            irreps = layer.irreps_out
        self.vector_rows = _rows_of(irreps, VECTOR)
        vector, quarter = (VECTOR,), config.n_channels // 4
        self.compression = IrrepLinear(vector, (config.n_channels,), vector, (quarter,))
        self.readout = IrrepLinear(vector, (quarter,), vector, (2,))

    def _register_tables(self) -> None:
        # The last row stands for all other numbers.
        table = torch.full((len(chemical_symbols) + 1,), -1, dtype=torch.int64)
        table[list(self.config.elements)] = torch.arange(len(self.config.elements))
        self.register_buffer("species_of_number", table, persistent=False)
        for name in ("velocity_scales", "largest_speeds"):
            speeds = torch.tensor(getattr(self.config, name), dtype=torch.float64)
            self.register_buffer(name, speeds, persistent=False)

    @torch.no_grad()
    def reset_parameters(self, generator: torch.Generator) -> None:
        """Draw all weights anew; the Bessel roots keep their initial values."""
        for name, parameter in self.named_parameters():
            if not name.endswith("basis.roots"):
                fresh = torch.randn(
                    parameter.shape, generator=generator, dtype=torch.float64
                )
                parameter.copy_(fresh)

    @property
    def dtype(self) -> torch.dtype:
        """Floating-point type of the parameters."""
        return self.edge_basis.roots.dtype

    @property
    def device(self) -> torch.device:
        """Device of the parameters."""
        return self.edge_basis.roots.device

    @property
    def n_parameters(self) -> int:
        """Number of trainable parameters."""
        return sum(parameter.numel() for parameter in self.parameters())

    @property
    def content_hash(self) -> str:
        """Fingerprint of the configuration and the present weights."""
        return fingerprint(self.config.to_dict(), dict(self.named_parameters()))

    @property
    def horizon_fs(self) -> float:
        """Time that one forecast covers, fs."""
        return self.config.horizon_fs

    @property
    def conservation(self) -> Conservation:
        """The angular momentum that the forecast conserves."""
        return Conservation(
            self.config.conserve_angular_momentum, self.config.fixed_angular_momentum
        )

    @property
    def backend(self) -> Backend:
        """What computes the network where it is: on other devices the reference."""
        return self._engine.on(self.device)

    @property
    def uses_grids(self) -> bool:
        """Whether weights of edges are interpolated, in training too."""
        return self.backend.uses_grids(self.dtype)

    def set_backend(self, choice: str | Backend) -> Self:
        """Choose how products are computed; parameters and files do not depend on it.

        What a backend makes of the parameters follows their changes, but for those
        through ``.data``, of which nothing tells: write under ``torch.no_grad()``, or
        call this method again.

        Parameters
        ----------
        choice : "auto", "reference", "cpp", "triton", or a Backend
            "reference": torch operations, any device. "cpp": kernels compiled on
            demand, for the CPU. "triton": likewise, for NVIDIA cards; no card has
            measured it, and "auto" leaves it out. "auto": the fastest that works, with
            a warning where another would be faster; should it fail later, then the
            reference.

        Raises
        ------
        ValueError
            `choice` is unknown, or does not compute where the model is.
        BackendError
            It does not work on this machine, and was asked for by name.
        """
        self._engine.choose(choice, self.device)
        return self

    def thermal_speeds(
        self, atomic_numbers: Int[Tensor, " atoms"]
    ) -> Float[Tensor, " atoms"]:
        """Return the rms speed of each atom's element in the training data, Å/fs.

        Published networks know only one for all elements.
        """
        if len(self.velocity_scales) > 0:
            return self.velocity_scales[self.species_index(atomic_numbers)]
        speed = math.sqrt(3.0) * self.config.velocity_rms
        return torch.full_like(atomic_numbers, 1, dtype=torch.float64) * speed

    def check_elements(self, atomic_numbers: Int[Tensor, " atoms"]) -> None:
        """Raise ValueError for an element that the network was not trained on."""
        self.species_index(atomic_numbers)

    def raw_forecast(
        self, state: State
    ) -> tuple[Float[Tensor, "atoms 3"], Float[Tensor, "atoms 3"]]:
        """Return displacements (Å) and velocities (Å/fs) before conservation.

        Parameters
        ----------
        state : State
            Velocities relative to the centre of mass of each system.
        """
        targets = self._engine.attempt(lambda: self._raw_targets(state)).double()
        return (
            targets[:, 0] * self.config.displacement_rms,
            targets[:, 1] * self.config.velocity_rms,
        )

    def _raw_targets(self, state: State) -> Float[Tensor, "atoms 2 3"]:
        species = self.species_index(state.atomic_numbers)
        layers = self.ready_layers()
        near = neighborhood(self, state, species, layers)
        return self._targets(species, state.velocities, near, layers)

    def neighborhood(self, state: State) -> Neighborhood:
        """Return what :meth:`forward` needs of the atoms around each atom."""
        species = self.species_index(state.atomic_numbers)
        return self._engine.attempt(
            lambda: neighborhood(self, state, species, self.ready_layers())
        )

    def surroundings_sums(
        self, state: State
    ) -> Float[Tensor, "atoms harmonics channels"] | None:
        """Return the part of the neighborhood that needs no list of pairs, or None."""
        species = self.species_index(state.atomic_numbers)
        return self._engine.attempt(
            lambda: sums_over_surroundings(self, state, species, self.ready_layers())
        )

    def species_index(
        self, atomic_numbers: Int[Tensor, " atoms"]
    ) -> Int[Tensor, " atoms"]:
        """Return the network's index of each element.

        Raises
        ------
        ValueError
            An element that the network was not trained on, or numbers elsewhere.
        """
        table = self.species_of_number
        check_device(atomic_numbers, table.device)
        index = table[atomic_numbers.clamp(-1, len(table) - 1)]
        if bool((index < 0).any()):
            number = int(atomic_numbers[index < 0][0])
            known = 0 <= number < len(chemical_symbols)
            symbol = chemical_symbols[number] if known else "?"
            raise ValueError(
                f"element {symbol} (atomic number {number}) is unknown to this model, "
                f"which knows {', '.join(self.config.symbols)}; use another model or "
                "train one on data that contain the element"
            )
        return index

    def forward(
        self,
        atomic_numbers: Int[Tensor, " atoms"],
        velocities: Float[Tensor, "atoms 3"],
        near: Edges | Neighborhood,
    ) -> Float[Tensor, "atoms 2 3"]:
        """Return displacement and velocity in units of their training rms.

        Parameters
        ----------
        atomic_numbers : (n_atoms,)
        velocities : (n_atoms, 3), Å/fs
            Relative to the centre of mass of each system.
        near : Neighborhood or Edges
            What :meth:`neighborhood` gives, or all pairs within ``config.reach``.
        """
        if isinstance(near, Edges):
            near = Neighborhood(near, None)
        return self.targets(self.species_index(atomic_numbers), velocities, near)

    def targets(
        self,
        species: Int[Tensor, " atoms"],
        velocities: Float[Tensor, "atoms 3"],
        near: Neighborhood,
    ) -> Float[Tensor, "atoms 2 3"]:
        """Return what :meth:`forward` does, from elements by :meth:`species_index`."""
        return self._engine.attempt(
            lambda: self._targets(species, velocities, near, self.ready_layers())
        )

    def _targets(
        self,
        species: Int[Tensor, " atoms"],
        velocities: Float[Tensor, "atoms 3"],
        near: Neighborhood,
        layers: ReadyLayers | None,
    ) -> Float[Tensor, "atoms 2 3"]:
        edges, around = near.edges, near.around
        if self.surroundings is not None and around is None:
            around = sums_over_pairs(self, self.surroundings, species, edges)
            edges = edges.within(self.config.cutoff)
        routes = Routes.of_edges(edges, species.shape[0])
        inputs = NetworkInputs(
            species, velocities.contiguous(), edges.vectors.contiguous(), routes, around
        )
        if layers is not None:
            return layers(self, inputs)
        graph = inputs.graph(self)
        weights = perceptron_weights(self, graph, edges)
        return self.targets_of_graph(graph, around, weights)

    def targets_of_graph(
        self,
        graph: Graph,
        around: Float[Tensor, "atoms harmonics channels"] | None,
        weights: Iterator[LayerWeights],
    ) -> Float[Tensor, "atoms 2 3"]:
        """Return what :meth:`forward` does, from an embedded graph and layer by layer.

        Parameters
        ----------
        graph : Graph
        around : (n_atoms, (lmax + 1)², n_channels) or None
            Sums over the surroundings, where the network has any.
        weights : iterator of LayerWeights
            Of each layer.
        """
        x = self.first_features(graph, around)
        for layer, layer_weights in zip(self.layers, weights, strict=True):
            x = layer(x, graph, layer_weights)
        return self.read_out(x[:, self.vector_rows])

    def first_features(
        self, graph: Graph, around: Float[Tensor, "atoms harmonics channels"] | None
    ) -> Float[Tensor, "atoms harmonics channels"]:
        """Return the features that enter the first layer; see `targets_of_graph`."""
        x: Tensor = self.embedding(
            graph.species_one_hot, graph.velocity_radial, graph.velocity_harmonics
        )
        if self.surroundings is None:
            return x
        return with_surroundings(x, self.surroundings(around, graph.species_one_hot))

    def read_out(
        self, vectors: Float[Tensor, "atoms 3 channels"]
    ) -> Float[Tensor, "atoms 2 3"]:
        """Return what :meth:`forward` does, from the vectors of the last layer."""
        (compressed,) = self.compression((vectors,))
        targets: Tensor = self.readout((compressed,))[0]
        return targets.transpose(1, 2)

    def ready_layers(self) -> ReadyLayers | None:
        """Return layers that are ready to run, where there is no gradient, or None."""
        return self._engine.layers(self, self.device, (VECTOR,))


def _rows_of(irreps: Irreps, wanted: Irrep) -> slice:
    """Return the rows of one irrep."""
    start = sum(ir.dim for ir in irreps if ir < wanted)
    return slice(start, start + wanted.dim)
