"""Who looks at a run, and when: observers, in ASE's order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ase.calculators.singlepoint import SinglePointCalculator
from ase.md.md import MolecularDynamics

from trajcast_ase.dynamics.arguments import whole_number
from trajcast_ase.dynamics.observer_errors import explained


class Looks(MolecularDynamics):
    """The part of :class:`TrajCast` that lets observers see the Atoms."""

    def attach(
        self, function: Callable[..., Any], interval: int = 1, *args: Any, **kwargs: Any
    ) -> None:
        """Call `function`, or its ``write``, every `interval` steps, as in ASE.

        Parameters
        ----------
        function : callable or writer
            Gets `args` and `kwargs`.
        interval : int
            Zero or negative: once, at that step without its sign.

        Raises
        ------
        ValueError, TypeError
            `interval` is no whole number.
        """
        steps = whole_number("interval", interval)
        super().attach(function, steps, *args, **kwargs)  # type: ignore[no-untyped-call]  # ASE

    def _look(self) -> None:
        """Let everyone see the Atoms, in ASE's order."""
        self._refresh_properties()
        with explained(self.atoms):
            self.log()  # type: ignore[no-untyped-call]  # ASE
            self.call_observers()  # type: ignore[no-untyped-call]  # ASE

    def _refresh_properties(self) -> None:
        """Evaluate the energy, so that frames carry it, if somebody will look."""
        if isinstance(self.atoms.calc, SinglePointCalculator):
            # What a file stores belongs to its frame; asked of another one, it raises.
            self.atoms.calc = None
        if self.atoms.calc is not None and self._is_due():
            self.atoms.get_potential_energy()

    def _is_due(self) -> bool:
        return any(
            self.nsteps % interval == 0 if interval > 0 else self.nsteps == -interval
            for _, interval, _, _ in self.observers
        )

    def _steps_until_due(self) -> int:
        """Return the steps to the next due observer, or to the end of the run."""
        waits = [self.max_steps - self.nsteps]
        for _, interval, _, _ in self.observers:
            if interval > 0:
                waits.append(interval - self.nsteps % interval)
            elif self.nsteps < -interval:
                waits.append(-interval - self.nsteps)
        return min(waits)
