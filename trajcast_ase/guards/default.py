"""The guards of a run that names none: each costs under 2 % of a stride."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ase import Atoms

from trajcast_ase.guards.bonds import KeptBonds
from trajcast_ase.guards.distances import LeastDistance, NeighborNumbers
from trajcast_ase.guards.motion import LargestKick, LargestSpeed
from trajcast_ase.guards.protocol import Guard
from trajcast_ase.guards.thermal import TemperatureWindow
from trajcast_ase.models.model_header import ModelHeader
from trajcast_ase.state import state_from_atoms
from trajcast_ase.stride import ForecastModel
from trajcast_ase.thermostats.thermostat import Thermostat

GuardMaker = Callable[[Atoms, ForecastModel, Sequence[Thermostat]], Sequence[Guard]]
"""Makes the guards of a run from its start: ``default_guards``, or one around it."""


def default_guards(
    atoms: Atoms, model: ForecastModel, thermostats: Sequence[Thermostat] = ()
) -> tuple[Guard, ...]:
    """Return the guards of a run that names none.

    Kicks, bonds of the start and least distances; speeds, where the model tells those
    of each element; numbers of neighbors, where its file tells those of the training
    data; the temperature, where thermostats hold a constant one. Kicks alone for a
    model that was not read from a file, or whose file does not tell how it was
    trained: nothing is known of what it learnt.

    Parameters
    ----------
    atoms : Atoms
        The start, whose bonds are kept.
    model : ForecastModel
    thermostats : sequence of Thermostat
    """
    header: ModelHeader | None = getattr(model, "header", None)
    training = {} if header is None else header.training
    if header is None or not training.get("run_temperatures_K"):
        return (LargestKick(),)
    guards: list[Guard] = [LargestKick()]
    if len(getattr(model, "velocity_scales", ())) > 0:
        guards.append(LargestSpeed())
    guards.append(KeptBonds.of(atoms))
    guards.append(LeastDistance.trained(training.get("least_distances_A", {})))
    neighbors = NeighborNumbers.of(header)
    # A start with other numbers is warned of, and goes on at the user's risk.
    if neighbors is not None and not neighbors.unusual(state_from_atoms(atoms)):
        guards.append(neighbors)
    target = constant_temperature(thermostats)
    if target is not None:
        guards.append(TemperatureWindow(target))
    return tuple(guards)


def constant_temperature(thermostats: Sequence[Thermostat]) -> float | None:
    """Return the temperature that thermostats hold now, K; None for a schedule.

    Of a schedule a guard does not know the time.
    """
    targets = [getattr(one, "temperature_K", None) for one in thermostats]
    constant = [one for one in targets if isinstance(one, int | float) and one > 0]
    if constant and len(constant) == len(targets):
        return float(constant[0])
    return None
