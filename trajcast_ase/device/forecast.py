"""A network's forecast of known atoms: nothing is read by the host."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from trajcast_ase.conservation import Conservation
from trajcast_ase.device.neighbors import DeviceEdges, Room, SearchPlan, search, within
from trajcast_ase.device.plans import first_room, plan_search
from trajcast_ase.network.backend import ReadyLayers
from trajcast_ase.network.forecaster import Forecaster
from trajcast_ase.network.graph import NetworkInputs
from trajcast_ase.network.harmonics import spherical_harmonics
from trajcast_ase.network.interaction import Interaction, LayerWeights
from trajcast_ase.network.neighborhood import sums_over_surroundings
from trajcast_ase.network.routes import Routes
from trajcast_ase.network.surroundings import Surroundings
from trajcast_ase.network.weights import WeightRows
from trajcast_ase.state import State
from trajcast_ase.stride import ForecastModel

NO_ROOM = Room(0, 0)


@dataclass(frozen=True, slots=True)
class Rooms:
    """Room of the lists of a forecast.

    Attributes
    ----------
    pairs : Room
        Within the network's reach.
    edges : int
        Within the cutoff of its layers, where that is shorter.
    """

    pairs: Room
    edges: int

    def numbers(self) -> tuple[int, int, int]:
        """Return the three sizes."""
        return self.pairs.edges, self.pairs.box, self.edges

    def suffices(self, needed: tuple[int, int, int]) -> bool:
        """Return whether everything that was `needed` had room."""
        return all(n <= own for n, own in zip(needed, self.numbers(), strict=True))

    def grown(self, needed: tuple[int, int, int]) -> Rooms:
        """Return more room, where there was too little."""
        pairs, box, edges = (
            own if n <= own else n + n // 2
            for n, own in zip(needed, self.numbers(), strict=True)
        )
        return Rooms(Room(pairs, box), edges)


class StaticModel(Protocol):
    """What a stride on a device needs of a model."""

    @property
    def rooms(self) -> Rooms:
        """Room of its lists."""

    def with_rooms(self, rooms: Rooms) -> StaticModel:
        """Return the model with other room."""

    def at(self, state: State) -> tuple[ForecastModel, Int[Tensor, 3]]:
        """Return the model for one state, and the sizes that its lists need."""


@dataclass(frozen=True, slots=True)
class PlainModel:
    """A model without lists, as of :mod:`trajcast_ase.testing`, taken as it is."""

    model: ForecastModel
    rooms: Rooms = Rooms(NO_ROOM, 0)

    def with_rooms(self, rooms: Rooms) -> PlainModel:
        """Return the model."""
        del rooms
        return self

    def at(self, state: State) -> tuple[ForecastModel, Int[Tensor, 3]]:
        """Return the model, and that it needs no room."""
        return self.model, state.system_index.new_zeros(3)


@dataclass(frozen=True, slots=True)
class NetworkModel:
    """A network with what is the same at every stride.

    Attributes
    ----------
    network : Forecaster
    layers : ReadyLayers or None
        None: layer by layer in torch.
    plan : SearchPlan
    species : (n_atoms,) int64
    one_hot : (n_atoms, n_species)
    rooms : Rooms
    lists_surroundings : bool
        Whether the surroundings are a list of pairs, within the network's reach; else
        the backend sums over them.
    """

    network: Forecaster
    layers: ReadyLayers | None
    plan: SearchPlan
    species: Int[Tensor, " atoms"]
    one_hot: Float[Tensor, "atoms species"]
    rooms: Rooms
    lists_surroundings: bool

    @classmethod
    def of(cls, network: Forecaster, state: State) -> NetworkModel:
        """Return the network for the atoms and cells of `state`; the host reads them.

        Raises
        ------
        ValueError
            An element that the network does not know, or a cell that cannot be
            searched.
        """
        species = network.species_index(state.atomic_numbers)
        one_hot = nn.functional.one_hot(species, len(network.config.elements))
        layers = network.ready_layers()
        around = sums_over_surroundings(network, state, species, layers)
        lists_surroundings = network.surroundings is not None and around is None
        near = plan_search(state, network.config.cutoff)
        plan, room = near, first_room(near, state)
        rooms = Rooms(room, 0)
        if lists_surroundings:
            plan = plan_search(state, network.config.reach)
            rooms = Rooms(first_room(plan, state), room.edges)
        return cls(
            network,
            layers,
            plan,
            species,
            one_hot.to(network.dtype),
            rooms,
            lists_surroundings,
        )

    def with_rooms(self, rooms: Rooms) -> NetworkModel:
        """Return the model with other room."""
        return replace(self, rooms=rooms)

    def at(self, state: State) -> tuple[ForecastModel, Int[Tensor, 3]]:
        """Return the model for one state, and the sizes that its lists need."""
        found = search(self.plan, state.positions, self.rooms.pairs)
        edges, needed_edges = found.edges, torch.zeros_like(found.needed_edges)
        if self.lists_surroundings:
            cutoff = self.network.config.cutoff
            edges, needed_edges = within(found.edges, cutoff, self.rooms.edges)
        needed = torch.stack([found.needed_edges, found.needed_box, needed_edges])
        return _Placed(self, edges, self._around(state, found.edges)), needed

    def _around(
        self, state: State, pairs: DeviceEdges
    ) -> Float[Tensor, "atoms harmonics channels"] | None:
        """Return the sums over the surroundings, if the network has any."""
        module = self.network.surroundings
        if module is None or not self.lists_surroundings:
            return sums_over_surroundings(
                self.network, state, self.species, self.layers
            )
        return self._sums(module, pairs)

    def _sums(
        self, module: Surroundings, pairs: DeviceEdges
    ) -> Float[Tensor, "atoms harmonics channels"]:
        """Return the sums over the surroundings, from the list of all pairs."""
        network, species = self.network, self.species
        lengths, lmax = pairs.vectors.norm(dim=1), network.config.lmax
        vectors = pairs.vectors.to(network.dtype)
        harmonics = spherical_harmonics(vectors, lmax, normalize=True)
        routes, layers = _routes(pairs), self.layers
        if layers is None or layers.surroundings is None:
            weights = _rows(module.mlp(module.basis(lengths.to(network.dtype))))
            return module.sums(species, harmonics, weights, routes, network.backend)
        # A table has the factors of the sending element and of the sum in it.
        table = layers.surroundings
        places = table.grid.places(lengths, species[pairs.senders])
        weights = WeightRows.at(table.values, places)
        sent = vectors.new_ones(len(species), 1, module.senders.shape[1])
        sums = network.backend.convolve(
            module.product, sent, harmonics, weights, routes
        )
        return torch.cat(sums, dim=1)


@dataclass(frozen=True, slots=True)
class _Placed:
    """A network with the edges of one state; a :class:`ForecastModel`."""

    fixed: NetworkModel
    edges: DeviceEdges
    around: Float[Tensor, "atoms harmonics channels"] | None

    @property
    def horizon_fs(self) -> float:
        """Time that one forecast covers, fs."""
        return self.fixed.network.horizon_fs

    @property
    def conservation(self) -> Conservation:
        """The angular momentum that the forecast conserves."""
        return self.fixed.network.conservation

    @property
    def device(self) -> torch.device:
        """Device on which the model computes."""
        return self.fixed.network.device

    def check_elements(self, atomic_numbers: Int[Tensor, " atoms"]) -> None:
        """Do nothing: they were checked with the layout."""

    def raw_forecast(
        self, state: State
    ) -> tuple[Float[Tensor, "atoms 3"], Float[Tensor, "atoms 3"]]:
        """Return displacements (Å) and new velocities (Å/fs), float64."""
        fixed, network = self.fixed, self.fixed.network
        inputs = NetworkInputs(
            fixed.species,
            state.velocities,
            self.edges.vectors,
            _routes(self.edges),
            self.around,
            fixed.one_hot,
        )
        if fixed.layers is not None:
            targets = fixed.layers(network, inputs).double()
        else:
            graph, lengths = inputs.graph(network), inputs.vectors.norm(dim=1)
            weights = _weights_of_edges(network, lengths, graph.velocity_radial)
            targets = network.targets_of_graph(graph, self.around, weights).double()
        config = network.config
        return (
            targets[:, 0] * config.displacement_rms,
            targets[:, 1] * config.velocity_rms,
        )


def static_model(model: ForecastModel, state: State) -> NetworkModel | PlainModel:
    """Return a model for the atoms and cells of `state`."""
    if isinstance(model, Forecaster):
        return NetworkModel.of(model, state)
    model.check_elements(state.atomic_numbers)
    return PlainModel(model)


def _routes(edges: DeviceEdges) -> Routes:
    return Routes(edges.receivers, edges.senders, edges.offsets)


def _weights_of_edges(
    network: Forecaster,
    lengths: Float[Tensor, " edges"],
    velocity_radial: Float[Tensor, "atoms velocity_rbf"],
) -> Iterator[LayerWeights]:
    """Yield the weights of each layer, computed for every edge."""
    radial = network.edge_basis(lengths.to(network.dtype))
    for layer in network.layers:
        assert isinstance(layer, Interaction)  # noqa: S101  for the type checker
        yield LayerWeights(
            _rows(layer.edge_mlp(radial)), layer.velocity_weights(velocity_radial)
        )


def _rows(weights: Float[Tensor, "edges weights"]) -> WeightRows:
    """Return weights of which each edge has its own."""
    return WeightRows(weights, torch.arange(len(weights), device=weights.device))
