"""Training pairs that stay on the device, with the neighbors that they had before.

Frames go there once; a batch is made of them by indexing, and only the indices come
from the host. Frames do not change, so that the pairs of atoms within the network's
reach are searched once for each frame, when a batch first needs them, and kept as long
as there is room. What a batch holds is, bit for bit, what
:class:`.dataset.PairDataset` gives.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Int

from trajcast_ase.neighbors import Edges, find_edges
from trajcast_ase.network import Forecaster
from trajcast_ase.state import State
from trajcast_ase.training.config import DataPlace
from trajcast_ase.training.dataset import Batch, PairDataset
from trajcast_ase.training.known import KnownState
from trajcast_ase.training.pairs import Pairs

logger = logging.getLogger(__name__)

SHARE_OF_PAIRS, SHARE_OF_LISTS = 0.3, 0.2
"""Of the device's free memory; the rest is for forecasts and their gradients."""
LISTS_ON_HOST = 2**30
"""Bytes of kept neighbors where the device is the host."""
PAIRS_AT_A_TIME = 1000
MIB = 2**20


class ResidentPairs:
    """Pairs of several runs on one device, addressed as those of a data set.

    Parameters
    ----------
    dataset : PairDataset
    model : Forecaster
        On the device; its elements, reach and neighbor backend count.
    room : int
        Bytes for the neighbors of frames.
    """

    def __init__(self, dataset: PairDataset, model: Forecaster, room: int) -> None:
        self._dataset, self._model, self._room = dataset, model, room
        self._runs = [_Run.of(part) for part in dataset.parts]
        self._starts = _starts([run.size for run in self._runs])
        device = model.device
        self._positions, self._velocities, self._moved, self._masses = (
            torch.from_numpy(np.concatenate(parts)).to(device)
            for parts in zip(*(run.arrays() for run in self._runs), strict=True)
        )
        frames = [part.frames for part in dataset.parts]
        numbers = np.concatenate([one.atomic_numbers for one in frames])
        self._numbers = torch.from_numpy(numbers).to(device)
        self._species = model.species_index(self._numbers)
        self._cells, self._pbc = (
            torch.from_numpy(np.stack(parts)).to(device)
            for parts in ([one.cell for one in frames], [one.pbc for one in frames])
        )
        self._lists: dict[tuple[int, int], Edges] = {}
        self._reach: float | None = None

    @property
    def n_kept(self) -> int:
        """Number of frames whose neighbors are kept."""
        return len(self._lists)

    def batch(self, indices: Int[np.ndarray, " rows"], reverse: np.ndarray) -> Batch:
        """Return the pairs `indices`, as :meth:`.PairDataset.batch` does."""
        chosen = [
            self._chosen(int(index), bool(flag))
            for index, flag in zip(indices, reverse, strict=True)
        ]
        rows = torch.from_numpy(np.concatenate([one.rows for one in chosen], axis=1))
        systems = np.repeat(np.arange(len(chosen)), [one.size for one in chosen])
        packed = torch.cat([rows, torch.from_numpy(systems)[None]])
        packed = packed.to(self._positions.device, non_blocking=True)
        first, last, pair, atom, sign, system = packed.unbind()
        run = torch.tensor([one.run for one in chosen]).to(packed.device)
        signs = sign[:, None].double()
        pbc = self._pbc[run]
        state = KnownState(
            self._positions[first],
            self._velocities[first] * signs,
            self._masses[atom],
            self._numbers[atom],
            self._cells[run],
            pbc,
            system,
            species=self._species[atom],
            edges=self._edges(chosen),
            isolated_systems=any(self._runs[one.run].isolated for one in chosen),
        )
        return Batch(state, self._moved[pair] * signs, self._velocities[last] * signs)

    def _chosen(self, index: int, reverse: bool) -> _Chosen:
        """Return where the pair `index` of the data set lies."""
        number = int(np.searchsorted(self._dataset.ends, index, side="right"))
        run, start = self._runs[number], self._starts[number]
        pair = index - (int(self._dataset.ends[number]) - len(run.pairs))
        frames = run.slots(pair)[::-1] if reverse else run.slots(pair)
        atoms = np.arange(run.size.atoms)
        rows = np.stack(
            [
                *(start.frames + run.size.atoms * frame + atoms for frame in frames),
                start.pairs + run.size.atoms * pair + atoms,
                start.atoms + atoms,
                np.full(len(atoms), -1 if reverse else 1),
            ]
        )
        return _Chosen(number, frames[0], rows)

    def _edges(self, chosen: list[_Chosen]) -> Edges:
        """Return the pairs of atoms of a batch, kept or found."""
        found = [self._edges_of(one.run, one.frame) for one in chosen]
        starts = np.cumsum([0, *(one.size for one in chosen[:-1])]).tolist()
        shifted = [
            (one.receivers.long() + start, one.senders.long() + start, one.vectors)
            for one, start in zip(found, starts, strict=True)
        ]
        receivers, senders, vectors = map(torch.cat, zip(*shifted, strict=True))
        return Edges(receivers, senders, vectors)

    def _edges_of(self, number: int, frame: int) -> Edges:
        """Return the pairs of atoms of a frame, on the device."""
        kept = self._lists.get((number, frame))
        if kept is not None:
            return kept
        state = self._runs[number].state(frame)
        if self._reach is None:
            self._reach = listed_reach(self._model, state)
        edges = find_edges(state, self._reach, self._model.neighbor_backend)
        device = self._model.device
        # 32 bits index any system; kept lists are most of the memory.
        edges = Edges(
            edges.receivers.int().to(device),
            edges.senders.int().to(device),
            edges.vectors.to(device),
        )
        parts = (edges.receivers, edges.senders, edges.vectors)
        size = sum(int(one.nbytes) for one in parts)
        if size <= self._room:
            self._room -= size
            self._lists[number, frame] = edges
        return edges


def listed_reach(model: Forecaster, state: State) -> float:
    """Return within which distance a training lists pairs, Å.

    The network's reach, unless its backend sums over the surroundings without a list.
    """
    around = model.surroundings_sums(state.to(model.device))
    return model.config.reach if around is None else model.config.cutoff


@dataclass(frozen=True, slots=True)
class _Size:
    """Atoms of a run, and rows of its frames and of its pairs."""

    atoms: int
    frames: int
    pairs: int


@dataclass(frozen=True, slots=True)
class _Chosen:
    """A pair of a batch: its run, its first frame, and its rows on the device.

    Rows are those of the first and of the later frame, of the displacements and of the
    atoms of the run; the last is the sign of the velocities.
    """

    run: int
    frame: int
    rows: Int[np.ndarray, "5 atoms"]

    @property
    def size(self) -> int:
        """Number of atoms."""
        return int(self.rows.shape[1])


@dataclass(frozen=True, slots=True)
class _Run:
    """The pairs of a run, and which of its frames they need."""

    pairs: Pairs
    used: Int[np.ndarray, " used"]

    @classmethod
    def of(cls, pairs: Pairs) -> _Run:
        """Return the run with its frames in order."""
        return cls(pairs, np.union1d(pairs.starts, pairs.starts + pairs.lag))

    @property
    def size(self) -> _Size:
        """Rows on the device."""
        n_atoms = len(self.pairs.frames.atomic_numbers)
        return _Size(n_atoms, n_atoms * len(self.used), n_atoms * len(self.pairs))

    @property
    def isolated(self) -> bool:
        """Whether it has no periodic axis."""
        return not self.pairs.frames.pbc.any()

    def slots(self, pair: int) -> tuple[int, int]:
        """Return the places of the two frames of a pair among those used."""
        start = self.pairs.starts[pair]
        first, last = np.searchsorted(self.used, (start, start + self.pairs.lag))
        return int(first), int(last)

    def arrays(self) -> tuple[np.ndarray, ...]:
        """Return positions, velocities, displacements and masses, atom by atom."""
        frames, starts = self.pairs.frames, self.pairs.starts
        parts = np.array_split(starts, -(-len(starts) // PAIRS_AT_A_TIME))
        moved = np.concatenate([self.pairs.displacements(part) for part in parts])
        return (
            frames.positions[self.used].reshape(-1, 3),
            frames.velocities[self.used].reshape(-1, 3),
            moved.reshape(-1, 3),
            frames.masses,
        )

    def state(self, slot: int) -> State:
        """Return a frame on the host."""
        frames, place = self.pairs.frames, self.used[slot]
        arrays = (
            frames.positions[place],
            frames.velocities[place],
            frames.masses,
            frames.atomic_numbers,
            frames.cell[None],
            frames.pbc[None],
            np.zeros(len(frames.masses), dtype=np.int64),
        )
        return State(*(torch.from_numpy(np.array(one)) for one in arrays))


def _starts(sizes: list[_Size]) -> list[_Size]:
    """Return the first rows of each run."""
    columns = [(one.atoms, one.frames, one.pairs) for one in sizes]
    before = np.cumsum([(0, 0, 0), *columns[:-1]], axis=0)
    return [_Size(*row) for row in before.tolist()]


def n_bytes(dataset: PairDataset) -> int:
    """Return how much memory the pairs of a data set take on a device."""
    rows = 0
    for part in dataset.parts:
        size = _Run.of(part).size
        rows += 2 * size.frames + size.pairs
    return rows * 3 * 8


def placed(
    dataset: PairDataset, model: Forecaster, where: DataPlace
) -> ResidentPairs | None:
    """Return the pairs on the model's device, or None where they stay on the host.

    Parameters
    ----------
    dataset : PairDataset
    model : Forecaster
    where : "auto", "host" or "device"
        "auto": on a CUDA device, if they take no more than a share of its free memory;
        else a message says so.

    Raises
    ------
    MemoryError
        "device", and they take more than is free.
    """
    cuda = model.device.type == "cuda"
    if where == "host" or (where == "auto" and not cuda):
        return None
    if not cuda:
        return ResidentPairs(dataset, model, LISTS_ON_HOST)
    free, _ = torch.cuda.mem_get_info(model.device)
    if not fits(n_bytes(dataset), free, where):
        return None
    return ResidentPairs(dataset, model, int(SHARE_OF_LISTS * free))


def fits(needed: int, free: int, where: DataPlace) -> bool:
    """Return whether pairs of `needed` bytes go to a device with `free` ones.

    Raises
    ------
    MemoryError
        They are to go there, and take more than is free.
    """
    if needed <= SHARE_OF_PAIRS * free:
        return True
    text = (
        f"the training pairs take {needed // MIB} MiB, and {free // MIB} MiB of the "
        "device are free"
    )
    if where == "auto":
        logger.warning("%s: they stay on the host (run.data_on, data.max_pairs)", text)
        return False
    if needed > free:
        raise MemoryError(
            f'{text}; choose run.data_on = "host", or fewer pairs (data.max_pairs)'
        )
    return True
