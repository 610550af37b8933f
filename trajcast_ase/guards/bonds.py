"""A guard of bonds: those of the start, or of a reference, do not break."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols, covalent_radii
from jaxtyping import Float, Int

from trajcast_ase.analysis.bonds import REACH, bond_kinds, bonded_pairs
from trajcast_ase.box import Box
from trajcast_ase.guards.host import first_atoms, host
from trajcast_ase.guards.protocol import Finding
from trajcast_ase.state import State
from trajcast_ase.stride import ForecastModel
from trajcast_ase.validation.topology import BREAKING, Topology, is_exchanged

# Their bonds by distance come and go in a melt, or on a surface.
METALS = frozenset(
    number
    for span in ((3, 5), (11, 14), (19, 32), (37, 51), (55, 85), (87, 119))
    for number in range(*span)
)


@dataclass(frozen=True, slots=True, eq=False)
class BondLimits:
    """The bonds of one system and their greatest lengths.

    Attributes
    ----------
    topology : Topology
    limits : (n_bonds,), Å
    """

    topology: Topology
    limits: Float[np.ndarray, " bonds"]

    @classmethod
    def of(
        cls, topology: Topology, longest_A: Mapping[str, float] | None = None
    ) -> Self:
        """Return the limits of a topology, by the longest of a reference if given."""
        numbers, pairs = topology.atomic_numbers, topology.pairs
        limits = BREAKING * _reach(topology)
        kinds = bond_kinds(pairs, numbers) if len(pairs) else {}
        for kind, length in (longest_A or {}).items():
            limits[kinds.get(kind, [])] = BREAKING * length
        return cls(topology, limits)


class KeptBonds:
    """Bonds do not break, by the rule of ``trajcast validate``.

    A bond is broken where it exceeds 1.3 times the reference's longest of its kind, or
    where it is longer than any bond and an end is nearer to another such partner.

    Parameters
    ----------
    systems : sequence of BondLimits
        One for each system of a batch, or one for all of them.
    every : int

    Raises
    ------
    ValueError
        No bond limits at all.
    """

    def __init__(self, systems: Sequence[BondLimits], every: int = 1) -> None:
        if not systems:
            raise ValueError("KeptBonds needs the BondLimits of at least one system")
        self.systems, self.every = tuple(systems), every
        self._laid_out: _LaidOut | None = None

    @classmethod
    def of(
        cls,
        atoms: Atoms,
        *,
        longest_A: Mapping[str, float] | None = None,
        every: int = 1,
    ) -> Self:
        """Return a guard of the bonds that `atoms` has, except those of metals.

        Parameters
        ----------
        atoms : Atoms
        longest_A : dict of str to float, Å, optional
            Longest bond of each kind in a reference, such as "C-H": of
            ``longest_bonds_A`` of its observables. Default: 1.2 times the sum of
            covalent radii, up to which two atoms are bonded.
        every : int

        Notes
        -----
        Where the cell is so small that a broken bond could not be told from one with
        another image, no bond is watched.
        """
        return cls([BondLimits.of(bonds_of(atoms), longest_A)], every)

    def is_like(self, other: KeptBonds) -> bool:
        """Return whether one guard can look for both."""
        return self.every == other.every

    @classmethod
    def joined(cls, guards: Mapping[int, KeptBonds], n_systems: int) -> KeptBonds:
        """Return the guards of single systems as that of their batch.

        Raises
        ------
        ValueError
            Some of its systems have none.
        """
        first = next(iter(guards.values()))
        if len(guards) < n_systems:
            raise ValueError(
                f"a KeptBonds of every = {first.every} guards {len(guards)} of "
                f"{n_systems} systems that advance together; give all of them one "
                "with the same every, or none"
            )
        if all(one is first for one in guards.values()):
            return first
        return cls([guards[k].systems[0] for k in sorted(guards)], first.every)

    def find(self, model: ForecastModel, before: State, after: State) -> list[Finding]:
        """Return the broken bond of each system that exceeds its limit by most."""
        del model, before
        laid_out = self._laid_out
        if laid_out is None or not laid_out.fits(after):
            laid_out = self._laid_out = _LaidOut.of(self.systems, after)
        squares = laid_out.squares(after)
        if not (squares > laid_out.reach_squares).any():
            return []
        lengths = np.sqrt(squares)
        stretched = np.flatnonzero(squares > laid_out.reach_squares)
        worst: dict[int, Finding] = {}
        for row in stretched.tolist():
            one = laid_out.finding(row, float(lengths[row]), after)
            if one is not None:
                known = worst.get(one.system)
                if known is None or one.value / one.limit > known.value / known.limit:
                    worst[one.system] = one
        return [worst[system] for system in sorted(worst)]


def bonds_of(atoms: Atoms) -> Topology:
    """Return the bonds of Atoms, except those of metals.

    None where the cell is so small that images of broken ones are not unique.
    """
    numbers = atoms.numbers.copy()
    none = Topology(numbers, np.empty((0, 2), dtype=np.int64))
    kinds = [number for number in np.unique(numbers) if number not in METALS]
    if not kinds:
        return none
    watched = np.flatnonzero(np.isin(numbers, kinds))
    longest = 2 * BREAKING * REACH * float(covalent_radii[kinds].max())
    if longest > Box.of(atoms.cell.array, atoms.pbc).half_height:
        return none
    return Topology(numbers, watched[bonded_pairs(atoms[watched])])


@dataclass(frozen=True, slots=True, eq=False)
class _LaidOut:
    """The bonds of all systems of a batch in one list.

    Attributes
    ----------
    like : State
        With the atoms and cells that these are the bonds of.
    systems : tuple of BondLimits
        One for each.
    first, second : (n_bonds,)
        Atoms of the batch.
    owners, rows : (n_bonds,)
        System of each bond, and its row there.
    limits, reach_squares : (n_bonds,), Å and Å²
    cells, inverses : (n_bonds, 3, 3) or None
        Of periodic systems; None if no system is.
    """

    like: State
    systems: tuple[BondLimits, ...]
    first: Int[np.ndarray, " bonds"]
    second: Int[np.ndarray, " bonds"]
    owners: Int[np.ndarray, " bonds"]
    rows: Int[np.ndarray, " bonds"]
    limits: Float[np.ndarray, " bonds"]
    reach_squares: Float[np.ndarray, " bonds"]
    cells: Float[np.ndarray, "bonds 3 3"] | None
    inverses: Float[np.ndarray, "bonds 3 3"] | None

    @classmethod
    def of(cls, systems: Sequence[BondLimits], state: State) -> _LaidOut:
        many = tuple(systems)
        if len(many) == 1:
            many = many * state.n_systems
        _check_atoms(many, state)
        counts = [len(one.limits) for one in many]
        owners = np.repeat(np.arange(len(many)), counts)
        pairs = np.concatenate([one.topology.pairs for one in many])
        pairs = pairs + np.array(first_atoms(state))[owners, None]
        reach = np.concatenate([_reach(one.topology) for one in many])
        limits = np.concatenate([one.limits for one in many])
        boxes = [_box(state, system) for system in range(len(many))]
        periodic = any(box.is_periodic for box in boxes)
        # Along open axes the inverse is zero, so that no image is taken.
        inverses = np.stack([box.inverse * box.pbc for box in boxes])
        return cls(
            like=state,
            systems=many,
            first=pairs[:, 0],
            second=pairs[:, 1],
            owners=owners,
            rows=np.concatenate([np.arange(count) for count in counts]),
            limits=limits,
            reach_squares=np.square(np.minimum(reach, limits)),
            cells=np.stack([box.cell for box in boxes])[owners] if periodic else None,
            inverses=inverses[owners] if periodic else None,
        )

    def fits(self, state: State) -> bool:
        """Return whether these are the bonds of the atoms and cells of `state`."""
        same = self.like.atomic_numbers is state.atomic_numbers
        return same and self.like.cell is state.cell

    def squares(self, state: State) -> Float[np.ndarray, " bonds"]:
        """Return the squared length of each bond, Å².

        The rounded image is the nearest one of a bond that is shorter than half the
        cell, and no image of a longer one is.
        """
        positions = host(state.positions)
        vectors = positions[self.second] - positions[self.first]
        if self.cells is not None and self.inverses is not None:
            images = np.rint(np.einsum("bi,bij->bj", vectors, self.inverses))
            vectors = vectors - np.einsum("bi,bij->bj", images, self.cells)
        squares: np.ndarray = np.einsum("ij,ij->i", vectors, vectors)
        return squares

    def finding(self, row: int, length: float, state: State) -> Finding | None:
        """Return what is wrong with a stretched bond, or None if it still is one."""
        system, bond = int(self.owners[row]), int(self.rows[row])
        topology = self.systems[system].topology
        limit = float(self.limits[row])
        one, other = topology.pairs[bond].tolist()
        names = [chemical_symbols[topology.atomic_numbers[i]] for i in (one, other)]
        text = f"the {'-'.join(names)} bond of atoms {one} and {other} is"
        place = int(self.first[row]), system
        if length > limit:
            return Finding(
                *place,
                length,
                limit,
                f"{text} {length:.3g} Å long, the limit is {limit:.3g} Å",
            )
        start = first_atoms(state)[system]
        size = len(topology.atomic_numbers)
        positions = host(state.positions)[start : start + size]
        box = _box(state, system)
        if not is_exchanged(positions[None], np.array([length]), topology, bond, box):
            return None
        reach = float(np.sqrt(self.reach_squares[row]))
        return Finding(
            *place,
            length,
            reach,
            f"{text} {length:.3g} Å long, beyond {reach:.3g} Å, and one of them is "
            "nearer to another such partner",
        )


def _box(state: State, system: int) -> Box:
    return Box.of(host(state.cell)[system], host(state.pbc)[system])


def _reach(topology: Topology) -> Float[np.ndarray, " bonds"]:
    """Return up to which length the bonds count as such, Å."""
    radii = covalent_radii[topology.atomic_numbers[topology.pairs]]
    return np.asarray(REACH * radii.sum(axis=1))


def _check_atoms(systems: Sequence[BondLimits], state: State) -> None:
    numbers, starts = host(state.atomic_numbers), first_atoms(state)
    own = np.split(numbers, starts[1:])
    right = len(systems) == len(own) and all(
        np.array_equal(one.topology.atomic_numbers, other)
        for one, other in zip(systems, own, strict=True)
    )
    if not right:
        raise ValueError(
            "the bonds of a KeptBonds guard are of other atoms than those of the run; "
            "make it with KeptBonds.of(atoms), or leave guards= out"
        )
