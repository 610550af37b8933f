"""What the guards of a run found so far, and how many strides forces made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from trajcast_ase.guards.protocol import Objection


@dataclass(slots=True)
class Tally:
    """Counts of a run; checkpoints keep them.

    Attributes
    ----------
    found : dict of str to int
        Strides to which each guard objected and that were taken nevertheless, or made
        by forces.
    by_forces : int
        Strides made by forces.
    """

    found: dict[str, int] = field(default_factory=dict)
    by_forces: int = 0

    def add(self, objections: Sequence[Objection], *, by_forces: bool) -> list[str]:
        """Count a stride; return the guards that had not objected before."""
        names = sorted({one.guard for one in objections})
        new = [name for name in names if name not in self.found]
        for name in names:
            self.found[name] = self.found.get(name, 0) + 1
        self.by_forces += by_forces
        return new

    def todict(self) -> dict[str, Any]:
        """Return plain values."""
        return {"found": dict(self.found), "by_forces": self.by_forces}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Return the tally of plain values."""
        found = {str(name): int(count) for name, count in values["found"].items()}
        return cls(found, int(values["by_forces"]))
