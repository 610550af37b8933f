"""Forecast against true components: the data of a parity plot, by element."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from ase.data import chemical_symbols
from jaxtyping import Float, Int

from trajcast_ase.analysis.inputs import check_per_atom, trajectory_array


@dataclass(frozen=True, slots=True)
class Parity:
    """Cartesian components of a forecast beside the true ones.

    Attributes
    ----------
    name, unit : str
        Such as "displacement" and "Å".
    by_element : dict of str to (n, 2), unit
        True and forecast component of all atoms, frames and axes.
    mae : dict of str to float, unit
        Mean absolute error of each element.
    relative_mae : dict of str to float
        `mae` over the mean absolute true component.
    """

    name: str
    unit: str
    by_element: dict[str, Float[np.ndarray, "components 2"]]
    mae: dict[str, float]
    relative_mae: dict[str, float]

    @property
    def limit(self) -> float:
        """Greatest component of either kind, unit."""
        return float(max(np.abs(pairs).max() for pairs in self.by_element.values()))


def parity(
    true: Float[np.ndarray, "frames atoms 3"],
    forecast: Float[np.ndarray, "frames atoms 3"],
    atomic_numbers: Int[np.ndarray, " atoms"],
    *,
    name: str,
    unit: str,
) -> Parity:
    """Return true and forecast components by element with their errors.

    Parameters
    ----------
    true, forecast : (n_pairs, n_atoms, 3), unit
        Displacements or velocities.
    atomic_numbers : (n_atoms,)
    name, unit : str

    Raises
    ------
    ValueError
        Different shapes, values that are not finite, or an element at rest.
    """
    true = trajectory_array(true, f"true {name}s", least=1)
    forecast = trajectory_array(forecast, f"forecast {name}s", least=1)
    if true.shape != forecast.shape:
        raise ValueError(
            f"true {true.shape} and forecast {forecast.shape} {name}s differ in "
            "shape; give those of the same pairs"
        )
    check_per_atom(atomic_numbers, true.shape[1], "atomic numbers")
    by_element, mae, relative = {}, {}, {}
    for number in np.unique(atomic_numbers):
        chosen = atomic_numbers == number
        symbol = chemical_symbols[number]
        both = np.stack([true[:, chosen].ravel(), forecast[:, chosen].ravel()], axis=1)
        scale = float(np.abs(both[:, 0]).mean())
        if scale == 0.0:
            raise ValueError(
                f"every true {name} of {symbol} is zero; give moving atoms"
            )
        by_element[symbol] = both
        mae[symbol] = float(np.abs(both[:, 1] - both[:, 0]).mean())
        relative[symbol] = mae[symbol] / scale
    return Parity(name, unit, by_element, mae, relative)
