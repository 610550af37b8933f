"""What in a batch a failure is due to: one system after the other is tried."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from trajcast_ase.constraints import Constraints
from trajcast_ase.dynamics.rollback import Snapshot
from trajcast_ase.dynamics.stepper import Stepper
from trajcast_ase.state import State


def failing_forecasts(
    stepper: Stepper,
    states: Sequence[State],
    constraints: Sequence[Constraints],
    places: Iterable[int],
) -> list[tuple[int, Exception]]:
    """Return those of `places` whose forecast fails alone, each with its error."""
    failing: list[tuple[int, Exception]] = []
    for place in places:
        try:
            stepper.forecast(states[place], constraints[place])
        except Exception as cause:  # noqa: BLE001  the reason, kept
            failing.append((place, cause))
    return failing


def thermostat_failure(
    stepper: Stepper, state: State, constraints: Constraints, nsteps: int
) -> Exception | None:
    """Return what the thermostats raise at `state`; they stay as they are."""
    before = Snapshot.of(stepper.thermostats)
    try:
        stepper.thermalized(state, constraints, nsteps)
    except Exception as error:  # noqa: BLE001  the caller decides
        return error
    finally:
        before.restore()
    return None
