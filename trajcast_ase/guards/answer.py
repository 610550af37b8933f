"""What is done about objections: the run stops, warns, or falls back to forces."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, get_args

from trajcast_ase.dynamics.fallback import SenselessForecastError
from trajcast_ase.guards.protocol import Objection
from trajcast_ase.guards.watch import FINITE

OnFinding = Literal["stop", "warn"]


class GuardWarning(UserWarning):
    """A guard objects to a forecast, and the run goes on with it."""


def checked_action(on_finding: str) -> None:
    """Raise ValueError for an unknown action."""
    if on_finding not in get_args(OnFinding):
        raise ValueError(
            f"on_finding = {on_finding!r} is not known; give 'stop' or 'warn', or pass "
            "fallback= to go on with forces"
        )


def is_taken(objections: Sequence[Objection], on_finding: OnFinding) -> bool:
    """Return whether a stride is taken nevertheless: what is not finite never is."""
    return on_finding == "warn" and all(one.guard != FINITE for one in objections)


def refusal(
    objections: Sequence[Objection], nsteps: int, evidence: Path | OSError | None
) -> SenselessForecastError:
    """Return the error of a refused forecast, after `nsteps` good strides."""
    first, *others = objections
    more = f" (and {len(others)} more)" if others else ""
    told = ""
    if isinstance(evidence, Path):
        told = f"; the last frames are in {evidence}"
    elif evidence is not None:
        told = f"; the last frames could not be written ({evidence})"
    way_out, verdict = "", first.finding.text
    if first.guard != FINITE:
        verdict = f"is refused: {verdict}"
        way_out = f"; guards= chooses what is looked at ({first.guard} objects)"
    return SenselessForecastError(
        f"the forecast of step {nsteps + 1} {verdict}{more}; "
        f"the Atoms hold step {nsteps}{told}: look for broken bonds and for atoms that "
        f"are too close, too hot or unlike the training data{way_out}"
    )
