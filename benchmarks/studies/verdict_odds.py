"""What the verdicts of ``trajcast validate`` promise, by simulation.

    python benchmarks/studies/verdict_odds.py

Pieces are AR(1) series: each keeps a share of the one before it. Comparisons of two
sides of one ensemble tell how often any row of a report fails, or is not trustworthy;
a shift between the sides tells which one fails in four of five cases, in standard
deviations of a piece. Prints Markdown.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import sqrt
from typing import Annotated

import numpy as np
import typer
from numpy.typing import NDArray
from scipy.stats import norm

from trajcast_ase.validation.correlation import (
    Side,
    mean_variance,
    remembering,
)
from trajcast_ase.validation.difference import (
    Difference,
    Verdict,
    curve_difference,
    number_difference,
)
from trajcast_ase.validation.report import FALSE_ALARM

N_NUMBERS = 36
"""Rows of a report, as of water."""
N_CURVES = 6
LEVEL = FALSE_ALARM / N_NUMBERS
SHARES = (0.0, 0.3, 0.5, 0.7)
N_BINS = 60
WIDTH = 4
"""Bins over which the scatter of a curve is correlated."""
POWER = 0.8
SEED = 1


@dataclass(frozen=True)
class Case:
    """Lengths of the runs of both sides, in pieces, and the scatter of the runs."""

    name: str
    run: Side
    reference: Side
    offset: float = 0.0


CASES = (
    Case("10 / 20", (10,), (20,)),
    Case("20 / 60", (20,), (60,)),
    Case("3 x 10 / 60", (10,) * 3, (60,)),
    Case("3 x 10 / 8 x 10", (10,) * 3, (10,) * 8),
    Case("3 x 10 / 8 x 10, runs scatter", (10,) * 3, (10,) * 8, 0.5),
)
CURVE_CASES = CASES[:2]

Runs = list[NDArray[np.float64]]


def numbers(side: Side, share: float, offset: float, rng: np.random.Generator) -> Runs:
    """Return the pieces of one number; `offset` is the scatter of runs."""
    return [
        remembering((1, length, 1), share, rng)[0, :, 0] + offset * rng.normal()
        for length in side
    ]


def curves(side: Side, share: float, offset: float, rng: np.random.Generator) -> Runs:
    """Return the pieces of one curve with a scatter of a tenth in each bin."""
    runs = []
    for length in side:
        noise = remembering((1, length, N_BINS), share, rng)[0]
        noise = noise + offset * rng.normal(size=N_BINS)
        smooth = sum(np.roll(noise, shift, axis=1) for shift in range(WIDTH))
        runs.append(1.0 + 0.1 * smooth / sqrt(WIDTH))
    return runs


def number_rows(case: Case, share: float, rng: np.random.Generator) -> list[Difference]:
    """Return the rows of a report of numbers on sides of one ensemble."""
    return [
        number_difference(
            numbers(case.run, share, case.offset, rng),
            numbers(case.reference, share, case.offset, rng),
            LEVEL,
        )
        for _ in range(N_NUMBERS)
    ]


def curve_rows(case: Case, share: float, rng: np.random.Generator) -> list[Difference]:
    """Return the rows of a report of curves on sides of one ensemble."""
    return [
        curve_difference(
            curves(case.run, share, case.offset, rng),
            curves(case.reference, share, case.offset, rng),
            FALSE_ALARM / N_CURVES,
        )
        for _ in range(N_CURVES)
    ]


def odds(
    rows: Callable[[Case, float, np.random.Generator], list[Difference]],
    case: Case,
    share: float,
    repeats: int,
) -> str:
    """Return how often any row of a report fails, and all pass, as cells."""
    rng = np.random.default_rng(SEED)
    failed = passed = 0
    for _ in range(repeats):
        verdicts = {one.verdict for one in rows(case, share, rng)}
        failed += Verdict.FAIL in verdicts
        passed += verdicts == {Verdict.PASS}
    return f"{percent(failed, repeats)} | {percent(passed, repeats)}"


def seen_if_known(case: Case, share: float) -> float:
    """Return what a test sees at these odds that is told scatter and memory.

    In standard deviations of a piece.
    """
    error = sqrt(sum(mean_variance(side, share) for side in (case.run, case.reference)))
    return float((norm.isf(LEVEL / 2) + norm.ppf(POWER)) * error)


def seen(case: Case, share: float, rng: np.random.Generator, repeats: int) -> float:
    """Return the shift that fails in four of five cases, in sd of a piece."""
    needed = []
    for _ in range(repeats):
        run, reference = (
            numbers(side, share, case.offset, rng)
            for side in (case.run, case.reference)
        )
        found = number_difference(run, reference, LEVEL)
        # A shift of the run moves the difference and leaves its limit.
        signed = np.concatenate(run).mean() - np.concatenate(reference).mean()
        needed.append(found.firm_limit - signed)
    return float(np.quantile(needed, POWER, method="higher"))


def percent(part: int, whole: int) -> str:
    """Return a share with its standard error."""
    share = part / whole
    error = sqrt(max(share * (1 - share), 1 / whole) / whole)
    return f"{100 * share:.1f} ± {100 * error:.1f} %"


def main(
    reports: Annotated[int, typer.Option(help="Of numbers, of each kind.")] = 500,
    curve_reports: Annotated[int, typer.Option(help="Of curves.")] = 150,
) -> None:
    """Print tables of odds and power."""
    print(
        "| pieces, run / reference | share kept | any row fails | all rows pass | "
        "seen | if memory were known |"
    )
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    for case in CASES:
        for share in SHARES:
            shift = seen(case, share, np.random.default_rng(SEED), 3 * reports)
            print(
                f"| {case.name} | {share:g} | "
                f"{odds(number_rows, case, share, reports)} | {shift:.2g} | "
                f"{seen_if_known(case, share):.2g} |",
                flush=True,
            )
    print("\n| pieces of curves | share kept | any row fails | all rows pass |")
    print("| --- | ---: | ---: | ---: |")
    for case in CURVE_CASES:
        for share in SHARES:
            cells = odds(curve_rows, case, share, curve_reports)
            print(f"| {case.name} | {share:g} | {cells} |", flush=True)


if __name__ == "__main__":
    typer.run(main)
