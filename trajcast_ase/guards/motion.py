"""Guards of single atoms: how strongly they are kicked, and how fast they are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from ase.data import chemical_symbols
from jaxtyping import Float
from torch import Tensor

from trajcast_ase.guards.host import Masses, first_atoms, host, own_number
from trajcast_ase.guards.protocol import Finding
from trajcast_ase.state import State
from trajcast_ase.stride import ForecastModel

LARGEST_KICK = 10.0
"""From five times the rms speed to its opposite: thermal atoms do not."""
LARGEST_SPEED = 5.0
"""Beyond it are 4 of 1e16 thermal atoms at the temperature of the training data."""


class _Speeds:
    """Thermal speeds and masses of a batch, looked up once for its atoms."""

    def __init__(self) -> None:
        self._numbers: Tensor | None = None
        self._found: Tensor | None = None
        self.masses: Masses

    def of(self, model: ForecastModel, state: State) -> Float[Tensor, " atoms"] | None:
        """Return the thermal speed of each atom; None if the model knows none."""
        if self._numbers is not state.atomic_numbers:
            find: Callable[[Tensor], Tensor] | None
            find = getattr(model, "thermal_speeds", None)
            self._found = None if find is None else find(state.atomic_numbers)
            self.masses = Masses(state)
            self._numbers = state.atomic_numbers
        return self._found


@dataclass(frozen=True, slots=True)
class LargestKick:
    """No atom is kicked by more than some thermal speeds of its element.

    The kick is the larger of the change of velocity and of the displacement from free
    flight over the horizon, relative to the rms speed in the training data: of the
    order of one for a thermal atom, whatever the drift of its system.

    Attributes
    ----------
    limit : float
    every : int
    """

    limit: float = LARGEST_KICK
    every: int = 1
    _speeds: _Speeds = field(
        default_factory=_Speeds, init=False, repr=False, compare=False
    )

    def find(self, model: ForecastModel, before: State, after: State) -> list[Finding]:
        """Return the atom of each system with the largest kick beyond the limit."""
        speeds = self._speeds.of(model, before)
        if speeds is None:
            return []
        found = kicks(before, after, speeds, model.horizon_fs)
        if found.max() <= self.limit:
            return []
        return _beyond(before, found, self.limit, "it kicks {atom} by")


@dataclass(frozen=True, slots=True)
class LargestSpeed:
    """No atom is faster than some thermal speeds of its element.

    Relative to the centre of mass of its system, and to the rms speed in the training
    data.

    Attributes
    ----------
    limit : float
    every : int
    """

    limit: float = LARGEST_SPEED
    every: int = 10
    _speeds: _Speeds = field(
        default_factory=_Speeds, init=False, repr=False, compare=False
    )

    def find(self, model: ForecastModel, before: State, after: State) -> list[Finding]:
        """Return the atom of each system that is fastest beyond the limit."""
        speeds = self._speeds.of(model, before)
        if speeds is None:
            return []
        squares = np.square(self._speeds.masses.without_drift(after)).sum(axis=1)
        sizes = np.sqrt(squares) / host(speeds)
        if sizes.max() <= self.limit:
            return []
        return _beyond(before, sizes, self.limit, "{atom} has")


def kicks(
    before: State,
    after: State,
    speeds: Float[Tensor, " atoms"],
    horizon_fs: float,
) -> Float[np.ndarray, " atoms"]:
    """Return how strongly a forecast kicks each atom, relative to a thermal speed.

    Parameters
    ----------
    before, after : State
    speeds : (n_atoms,), Å/fs
        Thermal speeds.
    horizon_fs : float, fs
    """
    start, end = host(before.velocities), host(after.velocities)
    flight = host(after.positions) - host(before.positions)
    kicks = np.stack([end - start, flight / horizon_fs - start])
    squares = np.einsum("kij,kij->ki", kicks, kicks)
    sizes: np.ndarray = np.sqrt(squares.max(axis=0)) / host(speeds)
    return sizes


def _beyond(
    state: State, sizes: Float[np.ndarray, " atoms"], limit: float, phrase: str
) -> list[Finding]:
    """Return the atom of the largest size in each system that has one beyond a limit.

    Parameters
    ----------
    state : State
    sizes : (n_atoms,)
        In thermal speeds.
    limit : float
    phrase : str
        What stands before the size in the text, with the name of the {atom}.
    """
    starts = first_atoms(state)
    found = []
    for system, (start, size) in enumerate(zip(starts, state.sizes(), strict=True)):
        atom = start + int(sizes[start : start + size].argmax())
        if sizes[atom] <= limit:
            continue
        text = (
            f"{phrase.format(atom=_named(state, atom))} {sizes[atom]:.3g} times the "
            "thermal speed of its element in the training data, the limit is "
            f"{limit:g}"
        )
        found.append(Finding(atom, system, float(sizes[atom]), limit, text))
    return found


def _named(state: State, atom: int) -> str:
    symbol = chemical_symbols[int(state.atomic_numbers[atom])]
    return f"atom {own_number(state, atom)} ({symbol})"
