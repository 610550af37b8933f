"""Runs beside a reference: each observable with error bars, a verdict and its power."""

from __future__ import annotations

from dataclasses import dataclass
from math import copysign, inf, isfinite

import numpy as np

from trajcast_ase.validation.bands import band_temperatures
from trajcast_ase.validation.bath_memory import remark
from trajcast_ase.validation.conditions import (
    TOLERANCE,
    NotComparableError,
    check_comparable,
)
from trajcast_ase.validation.correlation import POWER, Memory
from trajcast_ase.validation.difference import (
    Difference,
    Verdict,
    curve_difference,
    number_difference,
)
from trajcast_ase.validation.observables import Observables
from trajcast_ase.validation.quantities import Scalar
from trajcast_ase.validation.topology import BREAKING

FALSE_ALARM = 0.05
"""Chance that runs of the same ensemble fail in any row."""
BIN_TOLERANCE = 1e-3
"""Relative; files hold five digits."""
STRONG = 1 / 3
"""Share of a piece that the next keeps, above which a row is named."""
RESOLUTION = 2e-5
"""Relative, of numbers in files."""


@dataclass(frozen=True, slots=True)
class Row:
    """One observable and its verdict.

    Attributes
    ----------
    observable, unit : str
    value, reference : float
        Of curves: the overlap of the means, and 1.
    error, reference_error : float or None
        Standard errors, with the memory of the pieces and the scatter of the runs.
    limit : str
        What the value must keep.
    allowed : float
        Greatest difference from the reference that passes, in the unit of the row; of
        longest bonds, only above it.
    seen : float or None
        True deviation that fails with odds of 80 %, in the unit of the row; of curves
        the true overlap. None where a row does not rest on pieces; infinite where
        memory leaves no deviation that must fail.
    verdict : Verdict
    memory : Memory or None
        Of neighboring pieces; None for rows that do not rest on pieces.
    """

    observable: str
    unit: str
    value: float
    error: float | None
    reference: float
    reference_error: float | None
    limit: str
    allowed: float
    seen: float | None
    verdict: Verdict
    memory: Memory | None

    @property
    def passes(self) -> bool:
        """Whether the value keeps its limit."""
        return self.verdict is Verdict.PASS

    @property
    def is_failed(self) -> bool:
        """Whether it fails for sure, whatever the memory of the pieces."""
        return self.verdict is Verdict.FAIL

    @property
    def share(self) -> float:
        """Difference from the reference over what is allowed: beyond 1 none passes."""
        difference = self.value - self.reference
        if self.allowed == 0.0:
            return 0.0 if self.passes else copysign(inf, difference)
        return difference / self.allowed


@dataclass(frozen=True, slots=True)
class Report:
    """All rows, and what they were computed from.

    Attributes
    ----------
    run, reference : Observables
    rows : tuple of Row
    """

    run: Observables
    reference: Observables
    rows: tuple[Row, ...]

    @property
    def passes(self) -> bool:
        """Whether every row passes."""
        return all(row.passes for row in self.rows)

    @property
    def n_failed(self) -> int:
        """Number of rows that fail for sure."""
        return sum(row.is_failed for row in self.rows)

    @property
    def n_doubtful(self) -> int:
        """Number of rows that neither pass nor fail."""
        return sum(row.verdict is Verdict.DOUBTFUL for row in self.rows)

    @property
    def verdict(self) -> str:
        """How many rows fail, and how many are not trustworthy, in words."""
        if self.passes:
            return f"all {len(self.rows)} rows pass"
        text = f"{self.n_failed} of {len(self.rows)} rows fail"
        if self.n_doubtful:
            return f"{text}, {self.n_doubtful} more are not trustworthy"
        return text

    @property
    def size(self) -> str:
        """How long runs and reference are, in words."""
        return f"{_size(self.run)} beside {_size(self.reference)} of the reference"

    @property
    def odds(self) -> str:
        """What the verdicts promise, in words."""
        return (
            f"{self.size[0].upper()}{self.size[1:]}. If both sample one ensemble, any "
            f"row fails in at most {100 * FALSE_ALARM:.0f} % of the cases, memory of "
            "the pieces included; a row that is not trustworthy is beyond what its "
            "likeliest memory allows, but not beyond the strongest that is possible. "
            f"The last column tells which true deviation fails with odds of "
            f"{100 * POWER:.0f} %: a pass excludes no smaller one."
        )

    @property
    def memory(self) -> str:
        """Which rows remember, and which runs differ, in words."""
        tested = {row.observable: row.memory for row in self.rows if row.memory}
        return f"{_remembering(tested)} {_run_scatter(self, tested)}".strip()

    @property
    def baths(self) -> str:
        """Which side was coupled strongly to a bath, in words; empty if none was."""
        sides = ("the reference", self.reference), ("the run", self.run)
        return " ".join(
            text for name, one in sides if (text := remark(name, one.bath_memory_fs))
        )


def _size(side: Observables) -> str:
    pieces = f"{side.n_pieces} pieces of {side.piece_fs * 1e-3:.3g} ps"
    runs = "one run" if side.n_runs == 1 else f"{side.n_runs} runs"
    return f"{side.length_ps:.4g} ps in {runs} ({pieces})"


def _remembering(tested: dict[str, Memory]) -> str:
    shown = {name: one for name, one in tested.items() if one.share > STRONG}
    if not shown:
        return "In no row does a piece keep more than a third of the one before it."
    names = ", ".join(
        f"{name} {one.share:.2f}"
        + (f" ({one.highest:.2f})" if isfinite(one.highest) else " (no limit)")
        for name, one in shown.items()
    )
    return (
        f"In {len(shown)} of {len(tested)} rows a piece keeps more than a third of the "
        f"one before it (in brackets: at most): {names}. Longer runs see more there."
    )


def _run_scatter(report: Report, tested: dict[str, Memory]) -> str:
    if report.run.n_runs == report.reference.n_runs == 1:
        return (
            "With one run a side, what a run remembers for all of its length is not "
            "seen."
        )
    shown = [name for name, one in tested.items() if one.runs_differ]
    text = (
        f"Runs scatter more than their pieces explain in {len(shown)} of "
        f"{len(tested)} rows, where chance gives one in twenty"
    )
    if not shown:
        return f"{text}."
    return f"{text}; error bars are those of the runs there: {', '.join(shown)}."


def compare(run: Observables, reference: Observables) -> Report:
    """Return the verdict on each observable that both sides have.

    Parameters
    ----------
    run, reference : Observables
        Of one run or several, of the run with the bonds of the reference.

    Raises
    ------
    NotComparableError
        Another composition, cell, stride, thermostat temperature, other bonds or
        another length of pieces.
    """
    check_comparable(run.conditions, reference.conditions)
    if abs(run.piece_fs / reference.piece_fs - 1) > TOLERANCE:
        raise NotComparableError(
            f"the run was cut into pieces of {run.piece_fs:g} fs, the reference into "
            f"{reference.piece_fs:g} fs; cut both alike"
        )
    _check_bonds(run, reference)
    numbers = _numbers(run, reference)
    curves = [name for name in run.curves if name in reference.curves]
    level = FALSE_ALARM / (len(numbers) + len(curves))
    rows = [
        _scalar_row(
            name,
            (one, other),
            number_difference(
                run.by_run(one.pieces), reference.by_run(other.pieces), level
            ),
        )
        for name, (one, other) in numbers.items()
    ]
    rows += [_curve_row(name, run, reference, level) for name in curves]
    return Report(run, reference, (*rows, *_bond_rows(run, reference)))


def _numbers(
    run: Observables, reference: Observables
) -> dict[str, tuple[Scalar, Scalar]]:
    """Return the numbers of both sides, temperatures first."""
    common = {
        name: (one, reference.scalars[name])
        for name, one in run.scalars.items()
        if name in reference.scalars
    }
    thermal = {name: pair for name, pair in common.items() if "temperature" in name}
    return thermal | band_temperatures(run, reference) | common


def _check_bonds(run: Observables, reference: Observables) -> None:
    same = np.array_equal(
        run.topology.atomic_numbers, reference.topology.atomic_numbers
    ) and np.array_equal(run.topology.pairs, reference.topology.pairs)
    if not same:
        raise NotComparableError(
            "the run was observed with other bonds than those of the reference; "
            "observe it with topology=reference.topology"
        )


def _scalar_row(name: str, sides: tuple[Scalar, Scalar], found: Difference) -> Row:
    value, wanted = (float(side.pieces.mean()) for side in sides)
    # What is constant in both, such as a rigid bond, differs by its digits.
    digits = RESOLUTION * abs(wanted)
    verdict = Verdict.PASS if found.value <= digits else found.verdict
    return Row(
        observable=name,
        unit=sides[0].unit,
        value=value,
        error=found.errors[0],
        reference=wanted,
        reference_error=found.errors[1],
        limit=f"differs by at most {max(found.limit, digits):.3g}",
        allowed=max(found.limit, digits),
        seen=max(found.seen, digits),
        verdict=verdict,
        memory=found.memory,
    )


def _curve_row(
    name: str, run: Observables, reference: Observables, level: float
) -> Row:
    one, other = run.curves[name], reference.curves[name]
    if one.x.shape != other.x.shape or not np.allclose(
        one.x, other.x, rtol=BIN_TOLERANCE
    ):
        raise NotComparableError(
            f"{name} of the run and of the reference are on different bins; compute "
            "both with this version of the package"
        )
    found = curve_difference(
        run.by_run(one.pieces), reference.by_run(other.pieces), level
    )
    return Row(
        observable=f"overlap of {name}",
        unit="",
        value=1.0 - found.value,
        error=None,
        reference=1.0,
        reference_error=None,
        limit=f"at least {1.0 - found.limit:.4f}",
        allowed=found.limit,
        seen=1.0 - found.seen,
        verdict=found.verdict,
        memory=found.memory,
    )


def _bond_rows(run: Observables, reference: Observables) -> list[Row]:
    """Return whether the bonds of the reference held, in every frame."""
    rows = []
    for kind, wanted in reference.longest_bonds_A.items():
        value, limit = run.longest_bonds_A[kind], BREAKING * wanted
        rows.append(
            _bond_row(
                (f"longest bond {kind}", "Å"), value, wanted, limit, f"{limit:.3g}"
            )
        )
    # Where the reference exchanges partners, as a hot metal does, bonds are none.
    if rows and reference.n_exchanged == 0:
        name = "bonds with a nearer partner", ""
        rows.append(_bond_row(name, run.n_exchanged, 0, 0, "0"))
    return rows


def _bond_row(
    name: tuple[str, str], value: float, wanted: float, limit: float, text: str
) -> Row:
    return Row(
        observable=name[0],
        unit=name[1],
        value=value,
        error=None,
        reference=wanted,
        reference_error=None,
        limit=f"at most {text}",
        allowed=limit - wanted,
        seen=None,
        verdict=Verdict.PASS if value <= limit else Verdict.FAIL,
        memory=None,
    )
