"""A run beside a reference: each observable with error bars and a verdict."""

from __future__ import annotations

from dataclasses import dataclass
from math import comb

import numpy as np
from jaxtyping import Bool, Float

from trajcast_ase.analysis.blocks import replica_average
from trajcast_ase.analysis.compare import BREAKING
from trajcast_ase.analysis.overlap import curve_overlap
from trajcast_ase.validation.memory import Memory, describe
from trajcast_ase.validation.observables import Conditions, Curve, Observables, Scalar
from trajcast_ase.validation.permutation import Verdict, deal, exchange_test

FALSE_ALARM = 0.05
"""Chance that two runs of the same ensemble differ in any row."""
TOLERANCE = 1e-6
"""Relative, of strides."""
BIN_TOLERANCE = 1e-3
"""Relative; files hold five digits."""
VOLUME_TOLERANCE = 1e-3
"""Relative, of cells that may be compared."""
TEMPERATURE_TOLERANCE_K = 0.01
DEALS_PER_LEVEL = 4
"""Deals needed for a test at a level, in units of one over the level."""


class NotComparableError(ValueError):
    """Two runs cannot be compared; the text says why."""


@dataclass(frozen=True, slots=True)
class Row:
    """One observable and its verdict.

    Attributes
    ----------
    observable, unit : str
    value, reference : float
        Of curves: the overlap of the means, and 1.
    error, reference_error : float or None
        Standard errors, from pieces.
    limit : str
        What the value must keep.
    verdict : Verdict
    memory : Memory or None
        Of neighboring pieces; None for rows that are not tested with pieces.
    """

    observable: str
    unit: str
    value: float
    error: float | None
    reference: float
    reference_error: float | None
    limit: str
    verdict: Verdict
    memory: Memory | None

    @property
    def passes(self) -> bool:
        """Whether the value keeps its limit."""
        return self.verdict is Verdict.PASS


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
    def verdict(self) -> str:
        """How many rows fail, and how many of them for doubtful reasons, in words."""
        if self.passes:
            return f"all {len(self.rows)} rows pass"
        failed = [row.verdict for row in self.rows if not row.passes]
        text = f"{len(failed)} of {len(self.rows)} rows fail"
        n_doubtful = failed.count(Verdict.DOUBTFUL)
        return f"{text}, {n_doubtful} of them not trustworthy" if n_doubtful else text

    @property
    def odds(self) -> str:
        """How often a run of the same ensemble passes, in words."""
        return (
            "Two MD runs of the same ensemble pass all rows in at least "
            f"{100 * (1 - FALSE_ALARM):.0f} % of the cases, if a piece is longer than "
            "the runs remember: each row is a permutation test of "
            f"{self.run.n_pieces} and {self.reference.n_pieces} pieces of "
            f"{self.run.piece_fs * 1e-3:.3g} ps at the level {FALSE_ALARM:g} over the "
            "number of tests."
        )

    @property
    def memory(self) -> str:
        """Which rows remember neighboring pieces, and what follows, in words."""
        return describe(
            {row.observable: row.memory for row in self.rows if row.memory is not None}
        )


def compare(run: Observables, reference: Observables) -> Report:
    """Return the verdict on each observable that both runs have.

    Raises
    ------
    NotComparableError
        Another composition, cell, stride, thermostat temperature or length of pieces.
    """
    check_comparable(run.conditions, reference.conditions)
    if abs(run.piece_fs / reference.piece_fs - 1) > TOLERANCE:
        raise NotComparableError(
            f"the run was cut into pieces of {run.piece_fs:g} fs, the reference into "
            f"{reference.piece_fs:g} fs; cut both alike"
        )
    names = [name for name in run.scalars if name in reference.scalars]
    curves = [name for name in run.curves if name in reference.curves]
    level = FALSE_ALARM / (len(names) + len(curves))
    _check_pieces(run.n_pieces, reference.n_pieces, level)
    deals = deal(run.n_pieces, reference.n_pieces)
    rows = [
        _scalar_row(name, run.scalars[name], reference.scalars[name], level, deals)
        for name in names
    ]
    rows += [
        _curve_row(name, run.curves[name], reference.curves[name], level, deals)
        for name in curves
    ]
    return Report(run, reference, (*rows, *_bond_rows(run, reference)))


def check_comparable(run: Conditions, reference: Conditions) -> None:
    """Raise for runs that differ by more than the model.

    Raises
    ------
    NotComparableError
    """
    if run.formula != reference.formula:
        raise NotComparableError(
            f"the run is {run.formula}, the reference {reference.formula}; compare "
            "runs of the same composition"
        )
    if abs(run.stride_fs / reference.stride_fs - 1) > TOLERANCE:
        raise NotComparableError(
            f"the run has a frame every {run.stride_fs:g} fs, the reference every "
            f"{reference.stride_fs:g} fs, and spectra depend on it; write both at one "
            "stride"
        )
    _check_cells(run.volume_A3, reference.volume_A3)
    kelvin, wanted = run.temperature_K, reference.temperature_K
    both_known = kelvin is not None and wanted is not None
    if both_known and abs(kelvin - wanted) > TEMPERATURE_TOLERANCE_K:  # type: ignore[operator]
        raise NotComparableError(
            f"the thermostat of the run keeps {kelvin:g} K, that of the reference "
            f"{wanted:g} K; compare runs at one temperature"
        )


def _check_pieces(n_run: int, n_reference: int, level: float) -> None:
    """Raise where there are too few ways to deal the pieces for any row to fail."""
    n_deals, needed = comb(n_run + n_reference, n_run), DEALS_PER_LEVEL / level
    if n_deals < needed:
        raise NotComparableError(
            f"{n_run} and {n_reference} pieces can be dealt in {n_deals} ways, but a "
            f"test at the level {level:.2g} needs {needed:.0f}; give longer runs or "
            "shorter pieces"
        )


def _check_cells(volume: float | None, wanted: float | None) -> None:
    if (volume is None) != (wanted is None):
        raise NotComparableError(
            "one of the runs is periodic and the other is not; set pbc and cell alike"
        )
    if volume is None or wanted is None:
        return
    if abs(volume / wanted - 1) > VOLUME_TOLERANCE:
        raise NotComparableError(
            f"the cell of the run has {volume:.1f} Å³, that of the reference "
            f"{wanted:.1f} Å³; compare runs at one density"
        )


def _scalar_row(
    name: str,
    run: Scalar,
    reference: Scalar,
    level: float,
    deals: Bool[np.ndarray, "deals pieces"],
) -> Row:
    pieces = run.pieces[:, None], reference.pieces[:, None]
    outcome = exchange_test(*pieces, _difference, level, deals)
    value, wanted = replica_average(run.pieces), replica_average(reference.pieces)
    return Row(
        observable=name,
        unit=run.unit,
        value=value.mean,
        error=value.error,
        reference=wanted.mean,
        reference_error=wanted.error,
        limit=f"differs by at most {outcome.allowed:.3g}",
        verdict=outcome.verdict,
        memory=outcome.memory,
    )


def _curve_row(
    name: str,
    run: Curve,
    reference: Curve,
    level: float,
    deals: Bool[np.ndarray, "deals pieces"],
) -> Row:
    if run.x.shape != reference.x.shape or not np.allclose(
        run.x, reference.x, rtol=BIN_TOLERANCE
    ):
        raise NotComparableError(
            f"{name} of the run and of the reference are on different bins; compute "
            "both with this version of the package"
        )
    outcome = exchange_test(run.pieces, reference.pieces, _gap, level, deals)
    return Row(
        observable=f"overlap of {name}",
        unit="",
        value=1.0 - outcome.distance,
        error=None,
        reference=1.0,
        reference_error=None,
        limit=f"at least {1.0 - outcome.allowed:.4f}",
        verdict=outcome.verdict,
        memory=outcome.memory,
    )


def _difference(
    first: Float[np.ndarray, "deals 1"], second: Float[np.ndarray, "deals 1"]
) -> Float[np.ndarray, " deals"]:
    return np.asarray(np.abs(first - second)[:, 0])


def _gap(
    first: Float[np.ndarray, "deals bins"], second: Float[np.ndarray, "deals bins"]
) -> Float[np.ndarray, " deals"]:
    """Return what two curves lack to full overlap."""
    return np.asarray(1.0 - curve_overlap(first, second))


def _bond_rows(run: Observables, reference: Observables) -> list[Row]:
    """Return whether every type of bond of the reference held."""
    rows = []
    for kind, wanted in reference.longest_bonds_A.items():
        # A type of bond that is gone at the end of the run has broken.
        value = run.longest_bonds_A.get(kind, float("inf"))
        limit = BREAKING * wanted
        rows.append(
            Row(
                observable=f"longest bond {kind}",
                unit="Å",
                value=value,
                error=None,
                reference=wanted,
                reference_error=None,
                limit=f"at most {limit:.3g}",
                verdict=Verdict.PASS if value <= limit else Verdict.FAIL,
                memory=None,
            )
        )
    return rows
