"""Times that a stride is to reach on an H200: whole, in float32.

Those of the paper-size network are set; the bundled networks are to be three times
faster. A batch of 64 molecules of paracetamol is to make 30 times the strides of one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Reached = Literal["second", "first", "no"]

MARKS_MS = {
    "paracetamol": (0.5, 0.15),
    "quartz-162": (0.7, 0.25),
    "quartz-1296": (2.5, 1.2),
    "quartz-4374": (7.0, 3.5),
    "water-192": (1.0, 0.45),
    "water-1536": (6.0, 3.0),
    "water-5184": (18.0, 9.0),
}
"""First and second mark of the paper-size network."""
SHIPPED = 3.0
"""How many times faster the bundled networks are to be."""
AIM_US = 1.0
"""Of an atom and step of quartz at the paper's size; 2 to 3 are the least that is
published for an equivariant network (large batches, H100 to B200)."""
REPLICAS, GAIN = 64, 30.0
"""A batch of so many, and how many times the strides of one it is to make."""


@dataclass(frozen=True, slots=True)
class Mark:
    """Times of a stride that are to be reached, ms."""

    first: float
    second: float | None

    def reached(self, ms: float) -> Reached:
        """Return which of the two a time reaches."""
        if self.second is not None and ms <= self.second:
            return "second"
        return "first" if ms <= self.first else "no"

    def __str__(self) -> str:
        """Return both, as a table says them."""
        numbers = [one for one in (self.first, self.second) if one is not None]
        return " / ".join(f"{one:.2g}" for one in numbers)


def mark_of(system: str, network: str, replicas: int = 1) -> Mark | None:
    """Return the marks of a stride of one system, if there are any."""
    if replicas != 1 or system not in MARKS_MS:
        return None
    factor = 1.0 if network == "paper" else SHIPPED
    first, second = MARKS_MS[system]
    return Mark(first / factor, second / factor)


def mark_of_batch(ms_of_one: float) -> Mark:
    """Return the mark of a stride of the batch, by the time of a single system."""
    return Mark(ms_of_one * REPLICAS / GAIN, None)
