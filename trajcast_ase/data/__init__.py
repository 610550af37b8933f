"""Bundled start structures and reference observables.

Written by ``benchmarks/reference_md/observables.py`` from a reference NVT run.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib.resources import as_file, files
from typing import Any, cast

import numpy as np
from ase import Atoms
from ase.io import read
from jaxtyping import Float

from trajcast_ase.analysis.blocks import Estimate
from trajcast_ase.analysis.vdos import Spectrum


@dataclass(frozen=True, slots=True)
class Scatter:
    """How far spectra of short pieces of a run lie from that of the whole run.

    Attributes
    ----------
    piece_ps : float, ps
    overlap_mean, overlap_sd : float
        Of the pieces' overlaps with the whole.
    total_sd : (n,), cm
        Standard deviation between the pieces' total spectra.
    """

    piece_ps: float
    overlap_mean: float
    overlap_sd: float
    total_sd: Float[np.ndarray, " bins"]

    def for_length(self, length_ps: float) -> Float[np.ndarray, " bins"]:
        """Return the expected scatter of runs of `length_ps`, cm."""
        return np.asarray(self.total_sd * np.sqrt(self.piece_ps / length_ps))


@dataclass(frozen=True, slots=True)
class Reference:
    """Observables of a reference NVT run with forces.

    Attributes
    ----------
    source : str
        Program and force field.
    temperature_K : float, K
        Of the thermostat.
    n_dof : int
    length_ps : float, ps
    temperature : Estimate, K
    element_temperatures : dict of str to Estimate, K
        As :func:`trajcast_ase.analysis.temperature.element_temperatures` counts.
    potential_energy : Estimate, eV
    longest_bonds : dict of str to float, Å
        Greatest length of each type of bond in the whole run.
    spectrum : Spectrum
    scatter : Scatter
    """

    source: str
    temperature_K: float
    n_dof: int
    length_ps: float
    temperature: Estimate
    element_temperatures: dict[str, Estimate]
    potential_energy: Estimate
    longest_bonds: dict[str, float]
    spectrum: Spectrum
    scatter: Scatter


def paracetamol() -> Atoms:
    """Return the bundled paracetamol molecule, a frame of the reference run at 300 K.

    It has no momenta: draw them before a run.
    """
    return _structure("paracetamol")


def quartz() -> Atoms:
    """Return 162 atoms of alpha-quartz, a frame of the reference run at 300 K.

    The cell is hexagonal, 3 x 3 x 2 unit cells; there are no momenta.
    """
    return _structure("quartz")


def water() -> Atoms:
    """Return 64 molecules of liquid water, a frame of the reference run at 300 K.

    The cell is cubic, 12.4172 Å; there are no momenta.
    """
    return _structure("water")


def _structure(name: str) -> Atoms:
    with as_file(files(__name__) / f"{name}.xyz") as path:
        return cast("Atoms", read(path, format="extxyz"))


def paracetamol_reference() -> Reference:
    """Return the observables of the reference run of paracetamol at 300 K."""
    text = (files(__name__) / "paracetamol-reference.json").read_text(encoding="utf-8")
    content = json.loads(text)
    return Reference(
        source=content["source"],
        temperature_K=content["temperature_K"],
        n_dof=content["n_dof"],
        length_ps=content["length_ps"],
        temperature=_estimate(content["temperature"]),
        element_temperatures={
            name: _estimate(values)
            for name, values in content["element_temperatures"].items()
        },
        potential_energy=_estimate(content["potential_energy_eV"]),
        longest_bonds=content["longest_bonds_A"],
        spectrum=_spectrum(content["vdos"]),
        scatter=_scatter(content["vdos_scatter"]),
    )


def _estimate(values: dict[str, float]) -> Estimate:
    return Estimate(values["mean"], values["error"])


def _spectrum(values: dict[str, Any]) -> Spectrum:
    by_element = {
        name: np.array(density) for name, density in values["by_element_cm"].items()
    }
    return Spectrum(
        frequency_cm=np.array(values["frequency_cm"]),
        total=np.sum(list(by_element.values()), axis=0),
        by_element=by_element,
        stride_fs=values["stride_fs"],
        window_fs=values["window_fs"],
        n_windows=values["n_windows"],
    )


def _scatter(values: dict[str, Any]) -> Scatter:
    return Scatter(
        piece_ps=values["piece_ps"],
        overlap_mean=values["overlap_mean"],
        overlap_sd=values["overlap_sd"],
        total_sd=np.array(values["total_sd_cm"]),
    )
