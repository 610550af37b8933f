"""One stride: neighbours, network, conservation; a pure function of a State."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, overload

import numpy as np
import torch
from ase import Atoms
from jaxtyping import Float, Int
from torch import Tensor

from trajcast_ase.conservation import (
    Conservation,
    RigidBodies,
    com_velocity,
    conserve_with_bodies,
)
from trajcast_ase.neighbors import check_distances
from trajcast_ase.state import State, state_from_atoms
from trajcast_ase.strict import shortened


class ForecastModel(Protocol):
    """What a stride needs of a model; :class:`Forecaster` is one."""

    @property
    def horizon_fs(self) -> float:
        """Time that one forecast covers, fs."""

    @property
    def conservation(self) -> Conservation:
        """The angular momentum that the forecast conserves."""

    @property
    def device(self) -> torch.device:
        """Device on which the model computes."""

    def check_elements(self, atomic_numbers: Int[Tensor, " atoms"]) -> None:
        """Raise ValueError for an element that the model does not know."""

    def raw_forecast(
        self, state: State
    ) -> tuple[Float[Tensor, "atoms 3"], Float[Tensor, "atoms 3"]]:
        """Return displacements (Å) and new velocities (Å/fs), float64.

        The velocities of `state` are relative to each system's centre of mass.
        """


def check_model(model: object, place: str, more: str = "") -> None:
    """Raise TypeError for an object that is no model.

    Parameters
    ----------
    model : object
    place : str
        Where it was given, such as "the first argument of forecast".
    more : str
        What else may be said there after an example of a model.
    """
    if not hasattr(model, "horizon_fs"):
        raise TypeError(
            f"model = {shortened(model)} is no model; {place} is one, such as "
            f"load_model('paracetamol-7fs'){more}"
        )


@dataclass(frozen=True, slots=True)
class Forecast:
    """One stride of one system.

    Attributes
    ----------
    displacements : (n_atoms, 3) float64, Å
    velocities : (n_atoms, 3) float64, Å/fs
    """

    displacements: Float[np.ndarray, "atoms 3"]
    velocities: Float[np.ndarray, "atoms 3"]


def stride(model: ForecastModel, state: State) -> State:
    """Return `state` one horizon later.

    The network sees velocities relative to the centre of mass, so that the forecast is
    Galilean invariant; conservation adds the drift back.
    """
    return stride_with_bodies(model, state)[0]


def stride_with_bodies(model: ForecastModel, state: State) -> tuple[State, RigidBodies]:
    """Return `state` one horizon later, and its systems as bodies there."""
    displacements, velocities, bodies = _conserved(model, state)
    return state.moved(state.positions + displacements, velocities), bodies


def conserved_forecast(
    model: ForecastModel, state: State
) -> tuple[Float[Tensor, "atoms 3"], Float[Tensor, "atoms 3"]]:
    """Return displacements (Å) and new velocities (Å/fs) after conservation."""
    return _conserved(model, state)[:2]


def _conserved(
    model: ForecastModel, state: State
) -> tuple[Float[Tensor, "atoms 3"], Float[Tensor, "atoms 3"], RigidBodies]:
    drift = com_velocity(state)[state.system_index]
    resting = state.moved(state.positions, state.velocities - drift)
    displacements, velocities = model.raw_forecast(resting)
    return conserve_with_bodies(
        state, displacements, velocities, model.horizon_fs, model.conservation
    )


@overload
def forecast(model: ForecastModel, atoms: Atoms) -> Forecast: ...


@overload
def forecast(model: ForecastModel, atoms: Sequence[Atoms]) -> list[Forecast]: ...


def forecast(
    model: ForecastModel, atoms: Atoms | Sequence[Atoms]
) -> Forecast | list[Forecast]:
    """Return one stride of `atoms` without changing them.

    Parameters
    ----------
    model : Forecaster
    atoms : Atoms or list of Atoms
        A list is evaluated as one batch.

    Returns
    -------
    Forecast, or a list of them for a list

    Raises
    ------
    TypeError
        `model` is none, or `atoms` are none.
    ValueError
        Unknown element, no atoms, values that are not finite, or two atoms closer than
        0.1 Å.
    """
    check_model(model, "the first argument of forecast")
    state = state_from_atoms(atoms, model.device)
    model.check_elements(state.atomic_numbers)
    # A driver looks where atoms were moved; here they may come from anywhere.
    check_distances(state)
    with torch.no_grad():
        displacements, velocities = conserved_forecast(model, state)
    sizes = [len(atoms)] if isinstance(atoms, Atoms) else [len(one) for one in atoms]
    forecasts = [
        Forecast(d.cpu().numpy(), v.cpu().numpy())
        for d, v in zip(
            torch.split(displacements, sizes),
            torch.split(velocities, sizes),
            strict=True,
        )
    ]
    return forecasts[0] if isinstance(atoms, Atoms) else forecasts
