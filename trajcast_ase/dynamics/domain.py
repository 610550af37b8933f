"""What a model was trained on, beside what it is asked to forecast.

Elements that a model does not know are refused. Here are the facts of its header that
it can be used beyond, at the user's risk: masses, periodicity, density, size of the
cell, numbers of neighbors, temperature.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols

from trajcast_ase.guards.distances import NeighborNumbers
from trajcast_ase.models.model_header import ModelHeader
from trajcast_ase.state import state_from_atoms
from trajcast_ase.thermostats.thermostat import Thermostat

MASS_TOLERANCE = 0.02
"""Relative. Isotopes of all elements but hydrogen's are closer than 10 %."""
DENSITY_TOLERANCE = 0.1
"""Relative, beyond the range of the training runs."""
TEMPERATURE_TOLERANCE = 0.15
"""Relative, beyond the range of the training runs."""
SIZE_TOLERANCE = 0.5
"""Relative number of atoms, beyond the largest cell of the training runs."""
GRAMS_PER_CM3 = 1.66053906660
"""Of one amu/Å³."""


class OutsideTrainingWarning(UserWarning):
    """A model is used for what it was not trained on."""


def density(atoms: Atoms) -> float:
    """Return the density of a periodic system, g/cm³."""
    return float(atoms.get_masses().sum() / atoms.cell.volume * GRAMS_PER_CM3)


def warn_outside_training(
    atoms: Atoms, header: ModelHeader | None, thermostats: Sequence[Thermostat]
) -> None:
    """Warn where `atoms` or thermostats are unlike what a model was trained on.

    Parameters
    ----------
    atoms : Atoms
    header : ModelHeader or None
        Of the model's file; without it nothing is known.
    thermostats : sequence of Thermostat
    """
    if header is None:
        return
    found = [*_masses(atoms, header), *_cells(atoms, header)]
    found += _size(atoms, header)
    found += _neighbors(atoms, header)
    found += _temperatures(header, thermostats)
    if found:
        warnings.warn(
            f"{header.name} was not trained on this: {'; '.join(found)}. Nothing is "
            "known of its errors there: compare a run with a reference (trajcast "
            "validate), or train a model on such data",
            OutsideTrainingWarning,
            stacklevel=4,
        )


def _masses(atoms: Atoms, header: ModelHeader) -> Iterator[str]:
    known = dict(zip(header.elements, header.masses_amu, strict=True))
    numbers, masses = atoms.numbers, atoms.get_masses()
    for symbol, expected in known.items():
        own = masses[numbers == chemical_symbols.index(symbol)]
        other = own[np.abs(own / expected - 1.0) > MASS_TOLERANCE]
        if len(other):
            yield (
                f"{symbol} of {other[0]:.4g} amu ({len(other)} of {len(own)}) instead "
                f"of {expected:.4g}"
            )


def _cells(atoms: Atoms, header: ModelHeader) -> Iterator[str]:
    if header.periodic is None:
        return
    periodic = bool(atoms.pbc.any())
    if periodic != header.periodic:
        kinds = ("an isolated system", "a periodic system")
        yield f"{kinds[periodic]}, where the training data were {kinds[not periodic]}"
        return
    spans = header.training.get("densities_g_cm3")
    if periodic:
        yield from _open_axes(atoms, spans)
    if not (atoms.pbc.all() and spans):
        return
    own, low, high = density(atoms), min(spans), max(spans)
    margin = 1.0 + DENSITY_TOLERANCE
    if not low / margin <= own <= high * margin:
        yield f"{own:.3g} g/cm³ instead of {_span(low, high)}"


def _open_axes(atoms: Atoms, densities: Sequence[float] | None) -> Iterator[str]:
    """Tell of axes that are open in one of a system and its training data only.

    Headers say whether any axis was periodic. Those that have densities have them of
    data that were periodic along all; without a word of it, data are taken for such.
    """
    only_in_part = densities is not None and not densities
    if atoms.pbc.all() and only_in_part:
        yield (
            "a system periodic along all axes, where the training data were open "
            "along at least one"
        )
    elif not (atoms.pbc.all() or only_in_part):
        axes = [
            name for name, closed in zip("abc", atoms.pbc, strict=True) if not closed
        ]
        yield (
            f"open along {'axis' if len(axes) == 1 else 'axes'} {' and '.join(axes)}, "
            "where the training data were a periodic system"
        )


def _size(atoms: Atoms, header: ModelHeader) -> Iterator[str]:
    """Tell of waves that no training cell had room for."""
    sizes = header.training.get("atoms")
    if not (header.periodic and atoms.pbc.any() and sizes):
        return
    if len(atoms) > (1.0 + SIZE_TOLERANCE) * max(sizes):
        yield (
            f"a cell of {len(atoms)} atoms has longer waves than those of at most "
            f"{max(sizes)} that were trained on"
        )


def _neighbors(atoms: Atoms, header: ModelHeader) -> Iterator[str]:
    guard = NeighborNumbers.of(header)
    if guard is not None:
        yield from (one.text for one in guard.unusual(state_from_atoms(atoms)))


def _temperatures(
    header: ModelHeader, thermostats: Sequence[Thermostat]
) -> Iterator[str]:
    known = header.training.get("run_temperatures_K")
    wanted = {getattr(one, "temperature_K", None) for one in thermostats}
    numbers = [one for one in wanted if isinstance(one, int | float) and one > 0]
    if not known:
        return
    low, high, margin = min(known), max(known), 1.0 + TEMPERATURE_TOLERANCE
    for own in numbers:
        if not low / margin <= own <= high * margin:
            yield f"a thermostat at {own:g} K instead of {_span(low, high)} K"


def _span(low: float, high: float) -> str:
    return f"{low:.3g}" if high - low < 0.01 * high else f"{low:.3g} to {high:.3g}"
