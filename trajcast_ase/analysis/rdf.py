r"""Radial distribution functions and coordination numbers, for any cell.

.. math::
    g_{AB}(r) = \frac{n_{AB}(r)}{\rho_B\, V_\mathrm{shell}(r)}, \qquad
    \rho_B = \frac{N_B - \delta_{AB}}{V}

with :math:`n_{AB}` the mean number of B atoms in the shell around an A atom. All
periodic images count, so distances beyond half the height of the cell are right too.
An atom is no partner of its own images in g, whose mean for an ideal gas is then 1
for any number of atoms; in the coordination they count as the neighbors they are.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations_with_replacement

import numpy as np
from ase.data import chemical_symbols
from jaxtyping import Bool, Float, Int

from trajcast_ase.analysis.blocks import (
    Estimate,
    cut_blocks,
    profile_average,
    replica_average,
)
from trajcast_ase.analysis.inputs import check_per_atom, trajectory_array
from trajcast_ase.analysis.overlap import curve_overlap
from trajcast_ase.box import Box


@dataclass(frozen=True, slots=True)
class RadialDistribution:
    """Pairs by distance, for each pair of elements.

    Attributes
    ----------
    distance : (n,), Å
        Middles of the bins.
    g : dict of str to (n,)
        By pair, alphabetical: "H-O". 1 where atoms do not see each other.
    g_error : dict of str to (n,)
        Standard error from blocks of frames.
    neighbors : dict of str to (n_blocks, n)
        Atoms of the second element closer to one of the first than the outer edge of
        the bin, by block: "O-H" counts H around O, "H-O" counts O around H.
    volume : float, Å³
        By which g counts the density.
    n_frames : int
    """

    distance: Float[np.ndarray, " bins"]
    g: dict[str, Float[np.ndarray, " bins"]]
    g_error: dict[str, Float[np.ndarray, " bins"]]
    neighbors: dict[str, Float[np.ndarray, "blocks bins"]]
    volume: float
    n_frames: int

    @property
    def bin_width(self) -> float:
        """Width of a bin, Å."""
        return float(2 * self.distance[0])

    def coordination(self, center: str, neighbor: str, cutoff: float) -> Estimate:
        """Return the mean number of `neighbor` atoms within `cutoff` of a `center`.

        Parameters
        ----------
        center, neighbor : str
            Symbols of elements.
        cutoff : float, Å
            Rounded to the edge of a bin.

        Raises
        ------
        ValueError
            The pair does not occur, or the cutoff is beyond the last bin.
        """
        pair = f"{center}-{neighbor}"
        if pair not in self.neighbors:
            raise ValueError(
                f"there is no pair {pair}; choose of {list(self.neighbors)}"
            )
        bin_number = round(cutoff / self.bin_width) - 1
        if not 0 <= bin_number < len(self.distance):
            raise ValueError(
                f"a cutoff of {cutoff:g} Å is outside the bins, which end at "
                f"{self.distance[-1] + self.bin_width / 2:g} Å; raise r_max"
            )
        return replica_average(self.neighbors[pair][:, bin_number])


def rdf(
    positions: Float[np.ndarray, "frames atoms 3"],
    atomic_numbers: Int[np.ndarray, " atoms"],
    *,
    cell: Float[np.ndarray, "*frames 3 3"] | None = None,
    pbc: Bool[np.ndarray, 3] | None = None,
    r_max: float = 6.0,
    n_bins: int = 300,
    n_blocks: int = 10,
    volume: float | None = None,
) -> RadialDistribution:
    """Return g(r) and the running coordination of every pair of elements.

    Parameters
    ----------
    positions : (n_frames, n_atoms, 3), Å
        Wrapped or not.
    atomic_numbers : (n_atoms,)
    cell : (3, 3), Å, and pbc : (3,) bool
        Leave out for isolated systems.
    r_max : float, Å
        May exceed half the height of the cell.
    n_bins : int
    n_blocks : int
        Of frames, for the errors.
    volume : float, Å³, optional
        Needed where not all axes are periodic; the coordination does not depend on it.

    Raises
    ------
    ValueError
        Fewer frames than blocks, a cell that changes, or no density.
    """
    positions = trajectory_array(positions, "positions", least=n_blocks)
    check_per_atom(atomic_numbers, positions.shape[1], "atomic numbers")
    if not (r_max > 0 and n_bins > 0):
        raise ValueError(f"{n_bins} bins up to {r_max:g} Å are no histogram")
    box = Box.of(cell, pbc)
    volume = _volume(box, volume)
    edges = np.linspace(0.0, r_max, n_bins + 1)
    elements, species = np.unique(atomic_numbers, return_inverse=True)
    others, own = _count_blocks(cut_blocks(positions, n_blocks), species, box, edges)
    symbols = [chemical_symbols[number] for number in elements]
    n_atoms = np.bincount(species)
    g, error = _normalized(others, symbols, n_atoms, edges, volume)
    return RadialDistribution(
        distance=0.5 * (edges[1:] + edges[:-1]),
        g=g,
        g_error=error,
        neighbors=_running(others + own, symbols, n_atoms),
        volume=volume,
        n_frames=len(positions),
    )


def rdf_overlap(
    first: RadialDistribution, second: RadialDistribution
) -> dict[str, float]:
    """Return the overlap of two sets of g(r) by pair, 1 where they are equal.

    See :func:`trajcast_ase.analysis.overlap.curve_overlap`.

    Raises
    ------
    ValueError
        Other bins or other pairs of elements.
    """
    if (
        first.distance.shape != second.distance.shape
        or not np.allclose(first.distance, second.distance)
        or first.g.keys() != second.g.keys()
    ):
        raise ValueError(
            f"radial distributions of {sorted(first.g)} and {sorted(second.g)} on "
            f"{len(first.distance)} and {len(second.distance)} bins cannot be "
            "compared; compute both of the same elements with equal r_max and n_bins"
        )
    return {
        pair: float(curve_overlap(g, second.g[pair])) for pair, g in first.g.items()
    }


def _volume(box: Box, volume: float | None) -> float:
    if volume is None and not box.pbc.all():
        raise ValueError(
            f"pbc {box.pbc.tolist()} leaves a direction open, so there is no density "
            "to normalize g(r) with; give volume (Å³), on which the coordination does "
            "not depend"
        )
    chosen = box.volume if volume is None else volume
    if not chosen > 0:
        raise ValueError(f"a volume of {chosen:g} Å³ is none; give a positive number")
    return chosen


def _count_blocks(
    blocks: Float[np.ndarray, "blocks frames atoms 3"],
    species: Int[np.ndarray, " atoms"],
    box: Box,
    edges: Float[np.ndarray, " edges"],
) -> tuple[
    Float[np.ndarray, "blocks species species bins"],
    Float[np.ndarray, "blocks species species bins"],
]:
    """Return mean ordered pairs of different atoms, and of atoms with own images."""
    n_species = int(species.max()) + 1
    shape = (len(blocks), n_species, n_species, len(edges) - 1)
    different, own = np.zeros(shape), np.zeros(shape)
    for index, block in enumerate(blocks):
        for frame in block:
            first, second, vectors = box.neighbors(frame, edges[-1])
            lengths = np.sqrt(np.square(vectors).sum(axis=1))
            bins = (lengths * ((len(edges) - 1) / edges[-1])).astype(np.int64)
            bins = np.minimum(bins, len(edges) - 2)
            rows = np.ravel_multi_index(
                (species[first], species[second], bins), shape[1:]
            )
            for counts, chosen in (
                (different, first != second),
                (own, first == second),
            ):
                found = np.bincount(rows[chosen], minlength=int(np.prod(shape[1:])))
                counts[index] += found.reshape(shape[1:])
    # The search lists each pair once.
    both = (part + part.transpose(0, 2, 1, 3) for part in (different, own))
    different, own = (part / blocks.shape[1] for part in both)
    return different, own


def _normalized(
    blocks: Float[np.ndarray, "blocks species species bins"],
    symbols: list[str],
    n_atoms: Int[np.ndarray, " species"],
    edges: Float[np.ndarray, " edges"],
    volume: float,
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Return g and its error; an element with a single atom has none with itself."""
    shells = 4.0 / 3.0 * np.pi * np.diff(edges**3)
    g, error = {}, {}
    for a, b in combinations_with_replacement(range(len(symbols)), 2):
        n_pairs = n_atoms[a] * (n_atoms[b] - (a == b))
        if n_pairs > 0:
            pair = "-".join(sorted((symbols[a], symbols[b])))
            expected = n_pairs * shells / volume
            g[pair], error[pair] = profile_average(blocks[:, a, b] / expected)
    return g, error


def _running(
    blocks: Float[np.ndarray, "blocks species species bins"],
    symbols: list[str],
    n_atoms: Int[np.ndarray, " species"],
) -> dict[str, np.ndarray]:
    return {
        f"{center}-{neighbor}": np.cumsum(blocks[:, a, b], axis=1) / n_atoms[a]
        for a, center in enumerate(symbols)
        for b, neighbor in enumerate(symbols)
    }
