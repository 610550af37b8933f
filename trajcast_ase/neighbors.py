"""All pairs of atoms within a cutoff, for any cell and any periodicity.

Sign convention, stated once: an edge points from its *receiver* i to its *sender* j,
``vector = r_j - r_i + shift @ cell``; the message flows from j to i.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from ase.data import chemical_symbols
from jaxtyping import Float, Int
from torch import Tensor
from vesin import NeighborList

from trajcast_ase.box import Box
from trajcast_ase.state import State

NeighborBackend = Literal["vesin", "torch-cluster"]
Search = Callable[
    [np.ndarray, Box, float],
    tuple[np.ndarray, np.ndarray, np.ndarray],
]

MOST_BOXES = 10_000
"""Of the size of the cutoff along one axis. Searches end the process above some 1e5."""
FEW_ATOMS = 64
"""Without periodic axes all pairs of so many are compared sooner than sorted."""
LEAST_DISTANCE = 0.1
"""Å. No bond is this short: two atoms were put on the same place."""
SEARCH_RADIUS = 1.0
"""Å. A search with a smaller cutoff spends its time on empty cells."""


@dataclass(frozen=True, slots=True)
class Edges:
    """Pairs of atoms within the cutoff, sorted by receiver.

    Attributes
    ----------
    receivers, senders : (n_edges,) int64
        Indices into the atoms of the batch; `receivers` ascends.
    vectors : (n_edges, 3) float64, Å
        From receiver to sender.
    """

    receivers: Int[Tensor, " edges"]
    senders: Int[Tensor, " edges"]
    vectors: Float[Tensor, "edges 3"]

    def within(self, cutoff: float) -> Edges:
        """Return the pairs closer than `cutoff`, Å."""
        near = self.vectors.norm(dim=1) < cutoff
        return Edges(self.receivers[near], self.senders[near], self.vectors[near])


def find_edges(
    state: State, cutoff: float, backend: NeighborBackend = "vesin"
) -> Edges:
    """Return every pair closer than `cutoff`, images of an atom with itself included.

    Parameters
    ----------
    state : State
    cutoff : float, Å
    backend : "vesin" or "torch-cluster"
        Both give the same pairs. The second needs the extra ``torch-cluster``. With
        the first, few atoms without periodic axes are not searched but compared.

    Raises
    ------
    ValueError
        `backend` is unknown, or a periodic system has a cell without volume or one
        that is wider than 10 000 cutoffs.
    """
    if backend not in ("vesin", "torch-cluster"):
        raise ValueError(
            f"unknown neighbor backend {backend!r}; choose 'vesin' or 'torch-cluster'"
        )
    positions = state.positions.detach().cpu().numpy()
    search = _search_vesin if backend == "vesin" else _search_torch_cluster
    found = []
    start = 0
    cells, periodic = state.cell.cpu().numpy(), state.pbc.cpu().numpy()
    for size, cell, pbc in zip(state.sizes(), cells, periodic, strict=True):
        own = positions[start : start + size]
        if backend == "vesin" and size <= FEW_ATOMS and not pbc.any():
            receivers, senders, vectors = _compare_all(own, cutoff)
        else:
            box = _checked_box(cell, pbc, cutoff)
            receivers, senders, vectors = _search_one(own, box, cutoff, search)
        found.append((receivers + start, senders + start, vectors))
        start += size
    merged = (np.concatenate(part) for part in zip(*found, strict=True))
    return Edges(*(torch.from_numpy(part).to(state.device) for part in merged))


def check_distances(state: State) -> None:
    """Raise ValueError naming the closest pair if it is closer than any bond.

    Atoms are counted within their system, which is named where there are several.

    Raises
    ------
    ValueError
        Two atoms, or an atom and its own image, are closer than 0.1 Å.
    """
    edges = find_edges(state.to("cpu"), SEARCH_RADIUS)
    if edges.vectors.shape[0] == 0:
        return
    lengths = edges.vectors.norm(dim=1)
    closest = int(lengths.argmin())
    if lengths[closest] >= LEAST_DISTANCE:
        return
    i, j = int(edges.receivers[closest]), int(edges.senders[closest])
    symbols = [chemical_symbols[int(state.atomic_numbers[k])] for k in (i, j)]
    system = int(state.system_index[i])
    first = sum(state.sizes()[:system])
    where = f" of system {system}" if state.n_systems > 1 else ""
    raise ValueError(
        f"atoms {i - first} ({symbols[0]}) and {j - first} ({symbols[1]}){where} are "
        f"{float(lengths[closest]):.3g} Å apart, the least distance is "
        f"{LEAST_DISTANCE} Å; separate them before the next stride"
    )


def boxes_of_systems(state: State, cutoff: float) -> list[Box]:
    """Return the space of each system, to be searched for pairs within `cutoff` (Å).

    Raises
    ------
    ValueError
        A periodic system has a cell without volume, or one wider than 10 000 cutoffs.
    """
    cells, periodic = state.cell.cpu().numpy(), state.pbc.cpu().numpy()
    return [
        _checked_box(cell, pbc, cutoff)
        for cell, pbc in zip(cells, periodic, strict=True)
    ]


def _compare_all(
    positions: np.ndarray, cutoff: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return receivers, senders and vectors of a system without periodic axes."""
    vectors = positions - positions[:, None]
    squares = np.einsum("ijk,ijk->ij", vectors, vectors)
    squares.flat[:: len(positions) + 1] = np.inf  # no atom is its own neighbor
    receivers, senders = (squares < cutoff * cutoff).nonzero()
    return receivers, senders, vectors[receivers, senders]


def _search_one(
    positions: np.ndarray, box: Box, cutoff: float, search: Search
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return receivers, senders and vectors of one system, sorted by receiver."""
    scaled = positions @ box.inverse
    wrapped = box.wrap(positions)
    wide = ~box.pbc & (np.ptp(scaled, axis=0) * box.heights > MOST_BOXES * cutoff)
    if wide.any():
        wrapped = _without_gaps(wrapped, box, wide, cutoff)
    receivers, senders, vectors = search(wrapped, box, cutoff)
    order = np.argsort(receivers * len(positions) + senders, kind="stable")
    return receivers[order], senders[order], vectors[order]


def _without_gaps(
    positions: np.ndarray, box: Box, wide: np.ndarray, cutoff: float
) -> np.ndarray:
    """Return `positions` with atoms moved together along the axes that are `wide`.

    A search divides all space into boxes, and ends the process if there are too many,
    as for an atom that has left its molecule. Along an open axis a gap wider than the
    cutoff parts atoms that are no neighbors, whatever its width.
    """
    scaled = positions @ box.inverse
    for axis in np.flatnonzero(wide):
        order = np.argsort(scaled[:, axis])
        most = 2.0 * cutoff / box.heights[axis]
        gaps = np.minimum(np.diff(scaled[order, axis]), most)
        scaled[order, axis] = np.concatenate([[0.0], np.cumsum(gaps)])
    closed: np.ndarray = scaled @ box.cell
    return closed


def _checked_box(cell: np.ndarray, pbc: np.ndarray, cutoff: float) -> Box:
    """Return the space of a system; raise ValueError if it cannot be searched."""
    box = Box.of(cell, pbc)
    limit = MOST_BOXES * cutoff
    too_wide = box.pbc & (box.heights > limit)
    if too_wide.any():
        axis = int(np.flatnonzero(too_wide)[0])
        raise ValueError(
            f"the cell is {box.heights[axis]:g} Å wide along the periodic axis {axis}, "
            f"more than the {limit:g} Å that can be searched for neighbors; set a "
            f"smaller cell or atoms.pbc[{axis}] = False"
        )
    return box


def _search_vesin(
    positions: np.ndarray, box: Box, cutoff: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    neighbors = NeighborList(
        cutoff=cutoff, full_list=True, n_threads=torch.get_num_threads()
    )
    receivers, senders, vectors = neighbors.compute(
        points=positions, box=box.cell, periodic=box.pbc, quantities="ijD"
    )
    return receivers.astype(np.int64), senders.astype(np.int64), vectors


def _search_torch_cluster(
    positions: np.ndarray, box: Box, cutoff: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Search real atoms against real and ghost atoms; torch-cluster knows no cells."""
    try:
        from torch_cluster import radius  # noqa: PLC0415  an optional dependency
    except ImportError as error:
        raise ImportError(
            "the neighbor backend 'torch-cluster' needs that package; install it with "
            "pip install --no-build-isolation 'trajcast-ase[torch-cluster]', or use "
            "backend='vesin'"
        ) from error
    points, parents, is_home = _with_ghosts(positions, box, cutoff)
    # radius() drops neighbours beyond max_num_neighbors without a word.
    receivers, ghosts = (
        index.numpy()
        for index in radius(
            torch.from_numpy(points),
            torch.from_numpy(positions),
            cutoff,
            max_num_neighbors=len(points),
        )
    )
    vectors = points[ghosts] - positions[receivers]
    is_self = is_home[ghosts] & (parents[ghosts] == receivers)
    keep = ~is_self & (np.linalg.norm(vectors, axis=1) < cutoff)
    return receivers[keep], parents[ghosts[keep]], vectors[keep]


def _with_ghosts(
    positions: np.ndarray, box: Box, cutoff: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return points with images, the atom behind each, and whether it is the atom."""
    reach = np.where(box.pbc, np.ceil(cutoff / box.heights), 0).astype(int)
    ranges = [np.arange(-n, n + 1) for n in reach]
    shifts = np.stack(np.meshgrid(*ranges, indexing="ij"), axis=-1).reshape(-1, 3)
    points = (positions[None] + (shifts @ box.cell)[:, None]).reshape(-1, 3)
    parents = np.tile(np.arange(len(positions)), len(shifts))
    is_home = np.repeat(~shifts.any(axis=1), len(positions))
    return points, parents, is_home
