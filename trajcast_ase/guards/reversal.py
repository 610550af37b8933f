"""Forward, back, compare: an estimate of the error of one forecast, without a truth.

Newton's equations retrace their path when all velocities are reversed. A forecast of a
forecast that was reversed should be at the start; by how much it misses is an error
that a run can measure while it goes on, and :class:`ReversalGuard` objects where it is
larger than on the pairs that the model was evaluated on.

What it cannot see is an error that reverses with time: a model of another force field
that is exactly reversible always comes back.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from ase.data import chemical_symbols
from jaxtyping import Float
from torch import Tensor

from trajcast_ase.conservation import Conservation, com_velocity, conserve
from trajcast_ase.guards.protocol import Finding
from trajcast_ase.models.model_header import ModelHeader, read_header
from trajcast_ase.models.model_zoo import find_model
from trajcast_ase.models.reversal_limits import ReversalLimits
from trajcast_ase.state import State
from trajcast_ase.stride import ForecastModel, stride
from trajcast_ase.thermostats.noise import NoisyModel

if TYPE_CHECKING:
    from trajcast_ase.network.forecaster import Forecaster

FALSE_ALARMS = 1e-6
"""Share of looks at one system that find something in a state like those of the
calibration."""


@dataclass(frozen=True, slots=True)
class ReversalErrors:
    """By how much going back misses the start.

    Attributes
    ----------
    positions : (n_atoms,) float64, Å
    velocities : (n_atoms,) float64, Å/fs
    """

    positions: Float[Tensor, " atoms"]
    velocities: Float[Tensor, " atoms"]


def reversal_errors(
    model: ForecastModel, before: State, after: State
) -> ReversalErrors:
    """Return by how much one forecast back from `after` misses `before`.

    Parameters
    ----------
    model : ForecastModel
    before : State
        One or many systems.
    after : State
        Their forecast, before any thermostat.
    """
    reverse = after.moved(after.positions, -after.velocities)
    drift = com_velocity(reverse)[reverse.system_index]
    with torch.no_grad():
        displacements, velocities = conserve(
            reverse,
            *model.raw_forecast(
                reverse.moved(reverse.positions, reverse.velocities - drift)
            ),
            model.horizon_fs,
            _reversed_rule(model.conservation),
        )
    missed = after.positions + displacements - before.positions
    return ReversalErrors(
        missed.norm(dim=1), (velocities + before.velocities).norm(dim=1)
    )


def _reversed_rule(rule: Conservation) -> Conservation:
    """Return the rule of the way back: an imposed angular momentum turns round."""
    if rule.fixed_angular is None:
        return rule
    x, y, z = rule.fixed_angular
    return replace(rule, fixed_angular=(-x, -y, -z))


def reversal_limits(
    model: ForecastModel | Forecaster | str | os.PathLike[str],
) -> ReversalLimits:
    """Return what a model file says of going back.

    Parameters
    ----------
    model : Forecaster, name of a bundled model, or path

    Raises
    ------
    ModelFileError
        The file cannot be read.
    ValueError
        The model carries no such limits.
    """
    if isinstance(model, str | os.PathLike):
        header: ModelHeader | None = read_header(find_model(os.fspath(model)))
        name = os.fspath(model)
    else:
        header = getattr(model, "header", None)
        name = getattr(model, "name", None) or type(model).__name__
    found = header.errors.get("reversal") if header is not None else None
    if found is None:
        raise ValueError(
            f"{name} carries no limits for going back; measure them on held-out pairs "
            "with trajcast evaluate MODEL RUN --write-model FILE, and run with FILE"
        )
    return ReversalLimits.from_plain(found, "errors.reversal")


class ReversalGuard:
    """Goes back from every n-th forecast and objects where it misses the start.

    Parameters
    ----------
    every : int
        Strides between two looks; a look costs one forecast, two with calibrated noise.
    false_alarms : float
        Share of looks at one system, whatever its number of atoms, that find something
        although it is like the held-out pairs. Half of it is for the atom that deviates
        most, half for the system as a whole.
    limits : ReversalLimits, optional
        Default: those of the model's file.

    Raises
    ------
    ValueError
        `every` is not a positive integer, or `false_alarms` not between 0 and 1.

    Notes
    -----
    :meth:`find` raises ValueError for a model without limits or an element that they
    lack. It draws no random numbers. Atoms held by ``FixAtoms`` are put back after a
    forecast, and going back from there misses by what that changed.
    """

    def __init__(
        self,
        every: int = 10,
        *,
        false_alarms: float = FALSE_ALARMS,
        limits: ReversalLimits | None = None,
    ) -> None:
        if isinstance(every, bool) or not isinstance(every, int) or every < 1:
            raise ValueError(f"every = {every!r} must be a positive number of strides")
        if not 0.0 < false_alarms < 1.0:
            raise ValueError(
                f"false_alarms = {false_alarms} must lie between 0 and 1: it is the "
                "share of looks that object for nothing"
            )
        self.every, self.false_alarms, self.limits = every, false_alarms, limits

    def find(self, model: ForecastModel, before: State, after: State) -> list[Finding]:
        """Return the atoms and systems that going back misses by more than is usual.

        Of each system the worst atom and the system as a whole, at most; `value` and
        `limit` are in units of what is usual.
        """
        if isinstance(model, NoisyModel):
            model = model.model
            with torch.no_grad():
                after = stride(model, before)
        if self.limits is None:
            self.limits = reversal_limits(model)
        errors = reversal_errors(model, before, after)
        deviations = self._deviations(before, errors)
        found, start = [], 0
        for system, size in enumerate(before.sizes()):
            own = deviations[start : start + size]
            found += self._atom(before, errors, system, start, own)
            found += self._system(system, own)
            start += size
        return found

    def _deviations(
        self, state: State, errors: ReversalErrors
    ) -> Float[np.ndarray, " atoms"]:
        """Return the deviation of each atom; infinite where nothing came back."""
        assert self.limits is not None  # noqa: S101  set by find
        numbers = state.atomic_numbers.cpu().numpy()
        scales = np.full((len(chemical_symbols), 2), np.nan)
        lacking = []
        for z in np.unique(numbers):
            one = self.limits.elements.get(chemical_symbols[z])
            if one is None:
                lacking.append(chemical_symbols[z])
            else:
                scales[z] = one.displacement, one.velocity
        if lacking:
            raise ValueError(
                f"the limits for going back lack {', '.join(lacking)}; measure them on "
                "held-out pairs with all elements (trajcast evaluate --write-model)"
            )
        missed = torch.stack([errors.positions, errors.velocities], dim=1)
        relative = missed.cpu().numpy() / scales[numbers]
        deviations = np.sqrt((relative**2).mean(axis=1))
        return np.where(np.isnan(deviations), np.inf, deviations)

    def _atom(
        self,
        state: State,
        errors: ReversalErrors,
        system: int,
        start: int,
        deviations: Float[np.ndarray, " atoms"],
    ) -> list[Finding]:
        assert self.limits is not None  # noqa: S101  set by find
        limit = self.limits.atom_limit(len(deviations), self.false_alarms / 2)
        beyond = int((deviations > limit).sum())
        if not beyond:
            return []
        worst = int(deviations.argmax())
        atom = start + worst
        symbol = chemical_symbols[int(state.atomic_numbers[atom])]
        others = f", and {beyond - 1} more atoms are beyond it" if beyond > 1 else ""
        text = (
            f"going back from the forecast misses the start of {symbol} (atom {worst}) "
            f"by {float(errors.positions[atom]):.2g} Å and "
            f"{float(errors.velocities[atom]):.2g} Å/fs, {deviations[worst]:.3g} times "
            f"what is usual, where {limit:.3g} is the limit{others}"
        )
        return [Finding(atom, system, float(deviations[worst]), limit, text)]

    def _system(
        self, system: int, deviations: Float[np.ndarray, " atoms"]
    ) -> list[Finding]:
        assert self.limits is not None  # noqa: S101  set by find
        limit = self.limits.system_limit(len(deviations), self.false_alarms / 2)
        value = float(np.sqrt((deviations**2).mean()))
        if not value > limit:
            return []
        text = (
            f"going back from the forecast misses the start by {value:.3g} times what "
            f"is usual over all {len(deviations)} atoms, where {limit:.3g} is the limit"
        )
        return [Finding(None, system, value, limit, text)]
