"""Momenta to start from."""

from __future__ import annotations

import numpy as np
from ase import Atoms

from trajcast_ase.conservation import Conservation
from trajcast_ase.constraints import constraints_of
from trajcast_ase.kinetics import thermal_motion
from trajcast_ase.state import ase_momenta, state_from_atoms
from trajcast_ase.units import KB


def draw_momenta(
    atoms: Atoms,
    temperature_K: float,
    rng: np.random.Generator,
    rule: Conservation | None = None,
) -> None:
    """Give `atoms` canonical momenta, at rest in what a model conserves.

    The projection leaves the canonical distribution of the other momenta; a rescaling
    to the exact temperature would not. ASE's functions differ between releases.

    Parameters
    ----------
    atoms : Atoms
        FixAtoms and FixCom are honored.
    temperature_K : float, K
    rng : numpy Generator
    rule : Conservation, optional
        ``model.conservation``; default: isolated systems do not rotate.
    """
    spread = np.sqrt(atoms.get_masses() * KB * temperature_K)[:, None]
    drawn = spread * rng.standard_normal((len(atoms), 3))
    atoms.set_momenta(drawn, apply_constraint=False)
    state = state_from_atoms([atoms])
    thermal = thermal_motion(state, rule or Conservation(), constraints_of(atoms))
    atoms.set_momenta(ase_momenta(thermal.state).numpy(), apply_constraint=False)
