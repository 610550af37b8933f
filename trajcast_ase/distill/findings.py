"""What became of the system in reference MD: did it melt, break or drift."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from ase.data import covalent_radii
from jaxtyping import Float

from trajcast_ase.analysis.bonds import REACH, bonded_pairs
from trajcast_ase.box import Box
from trajcast_ase.distill.timestep import DRIFT_LIMIT, energy_drift
from trajcast_ase.kinetics import run_temperature
from trajcast_ase.trajectory import Frames
from trajcast_ase.validation.topology import FAR, topology_of, watch_bonds

LINDEMANN = 0.2
"""Rms displacement over the distance of neighbors, beyond which a solid has melted."""
GROWING = 1.5
"""Mean square displacement at the end over that in the middle, when diffusing."""
FAR_TEMPERATURE = 0.1
"""Relative, of the temperature of NVE runs from that asked for."""


def findings(
    canonical: Sequence[Frames], nve: Sequence[Frames], temperature_K: float
) -> list[str]:
    """Return a sentence on each thing that the user should know."""
    found = [_mobility(canonical), _bonds(canonical, nve)]
    found += [_drift(nve, temperature_K), _temperature(nve, temperature_K)]
    return [one for one in found if one]


def _mobility(runs: Sequence[Frames]) -> str:
    frames = runs[0]
    if not frames.pbc.any():
        return ""
    first, second = displacement(frames)
    near = neighbor_distance(frames)
    if second < (LINDEMANN * near) ** 2 or second < GROWING * first:
        return ""
    return (
        f"the atoms diffuse (rms {np.sqrt(second):.2f} Å in "
        f"{frames.n_frames * frames.stride_fs * 1e-3:.3g} ps, neighbors are {near:.2f} "
        "Å apart): a liquid, or a solid that melts"
    )


def displacement(frames: Frames) -> tuple[float, float]:
    """Return the mean square displacement in the middle and at the end of a run, Å²."""
    every = max(1, frames.n_frames // 200)
    path = Box.of(frames.cell, frames.pbc).unwrap(frames.positions)[::every]
    path = path - np.average(path, axis=1, weights=frames.masses)[:, None]
    squares = np.square(path - path[0]).sum(axis=2).mean(axis=1)
    half, tenth = len(squares) // 2, max(1, len(squares) // 10)
    return float(squares[half : half + tenth].mean()), float(squares[-tenth:].mean())


def neighbor_distance(frames: Frames) -> float:
    """Return the mean distance of an atom to its nearest neighbor, Å."""
    return float(np.mean(nearest_distances(frames)))


def nearest_distances(frames: Frames) -> Float[np.ndarray, " atoms"]:
    """Return the distance of each atom to its nearest neighbor in the last frame, Å."""
    box = Box.of(frames.cell, frames.pbc)
    positions = frames.positions[-1]
    vectors = box.nearest(positions[:, None] - positions[None])
    distances = np.sqrt(np.square(vectors).sum(axis=2))
    np.fill_diagonal(distances, np.inf)
    return np.asarray(distances.min(axis=1))


def _bonds(canonical: Sequence[Frames], nve: Sequence[Frames]) -> str:
    """Return which bonds broke or were exchanged; atoms without bonds have none."""
    try:
        topology = topology_of(canonical[0])
    except ValueError:  # a cell too small for bonds to be unique
        return ""
    if not len(topology.pairs):
        return ""
    reach = REACH * covalent_radii[topology.atomic_numbers[topology.pairs]].sum(axis=1)
    broken: dict[str, str] = {}
    for frames in (*canonical, *nve):
        watched = watch_bonds(frames, topology)
        for kind, longest in watched.longest_A.items():
            if longest > FAR * float(reach.max()):
                broken[kind] = f"{kind} reaches {longest:.2f} Å"
        if watched.n_exchanged:
            broken["exchange"] = "atoms change their bonded partners"
    if not broken:
        return ""
    return (
        f"bonds break ({', '.join(broken.values())}): the system dissociates or "
        "reacts, and a report on its bonds will not pass"
    )


def _drift(nve: Sequence[Frames], temperature_K: float) -> str:
    import h5py  # noqa: PLC0415  100 ms that other stages need not pay

    drifts = []
    for frames in nve:
        with h5py.File(Path(frames.source), "r") as file:
            if "potential_energy" not in file:
                return ""
            total = np.array(file["potential_energy"]) + np.array(
                file["kinetic_energy"]
            )
        n_atoms = len(frames.masses)
        drifts.append(energy_drift(total, frames.stride_fs, n_atoms, temperature_K))
    mean = float(np.mean(drifts))
    if abs(mean) <= DRIFT_LIMIT:
        return ""
    return (
        f"the energy of the NVE runs drifts by {mean:.1e} kT per atom and ps (limit "
        f"{DRIFT_LIMIT:g}); a shorter --timestep, or smoother forces, would help"
    )


def _temperature(nve: Sequence[Frames], temperature_K: float) -> str:
    mean = float(np.mean([run_temperature(frames) for frames in nve]))
    if abs(mean / temperature_K - 1) <= FAR_TEMPERATURE:
        return ""
    return (
        f"the NVE runs have {mean:.0f} K on average instead of {temperature_K:.0f} K: "
        "they are short, or the system is still changing (relax the structure)"
    )


def has_bonds(frames: Frames) -> bool:
    """Return whether the last frame has any bond."""
    return bool(len(bonded_pairs(frames.atoms(-1))))
