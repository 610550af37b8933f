"""How long pieces must be for a number that a run remembers for long.

    python benchmarks/piece_length.py --memory 50 --run 75 --reference 150

Compares two runs of one ensemble many times, as ``trajcast validate`` does. One of 17
rows is the mean over a piece of a process that forgets exponentially (Ornstein and
Uhlenbeck), as the stretches of SPC/Fw water do; the others have no memory. Prints how
often all rows pass, only marked rows fail ("not trustworthy"), and others fail too.
"""

from typing import Annotated

import numpy as np
import typer
from numpy.typing import NDArray
from scipy.signal import lfilter

from trajcast_ase.validation.observables import Conditions, Observables, Scalar
from trajcast_ase.validation.permutation import Verdict
from trajcast_ase.validation.report import compare

PIECES_PS = (7.5, 10.0, 12.5, 15.0)
FRAME_PS = 0.1
N_ROWS = 17
VERDICTS = (Verdict.FAIL, Verdict.DOUBTFUL, Verdict.PASS)
"""The worst first."""
CONDITIONS = Conditions("H128O64", None, 5.0, 300.0)


def process(
    length_ps: float, memory_ps: float, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Return a stationary process of unit variance, a value every `FRAME_PS`."""
    share = np.exp(-FRAME_PS / memory_ps)
    kicks = np.sqrt(1 - share**2) * rng.normal(size=round(length_ps / FRAME_PS))
    kicks[0] = rng.normal()
    return np.asarray(lfilter([1.0], [1.0, -share], kicks))


def observed(
    values: NDArray[np.float64], piece_ps: float, rng: np.random.Generator
) -> Observables:
    """Return one number that remembers, and others that do not."""
    length = round(piece_ps / FRAME_PS)
    n_pieces = len(values) // length
    pieces = values[len(values) - n_pieces * length :].reshape(n_pieces, length)
    scalars = {"slow": Scalar("", pieces.mean(axis=1))}
    names = ["temperature", *(f"row {k}" for k in range(N_ROWS - 2))]
    scalars |= {name: Scalar("", rng.normal(size=n_pieces)) for name in names}
    length_ps = n_pieces * piece_ps
    return Observables("", CONDITIONS, 1e3 * piece_ps, length_ps, 0, {}, scalars, {})


def main(
    memory: Annotated[float, typer.Option(help="Of the slow number, ps.")] = 50.0,
    run: Annotated[float, typer.Option(help="Length of the run, ps.")] = 75.0,
    reference: Annotated[float, typer.Option(help="Its length, ps.")] = 150.0,
    repeats: Annotated[int, typer.Option(help="Comparisons of a length.")] = 200,
) -> None:
    """Print a table of outcomes by length of a piece."""
    print("| piece | correlation | pass | only marked rows fail | other rows fail |")
    print("| ---: | ---: | ---: | ---: | ---: |")
    for piece in PIECES_PS:
        rng = np.random.default_rng(1)
        correlations, outcomes = [], []
        for _ in range(repeats):
            both = [process(length, memory, rng) for length in (run, reference)]
            report = compare(*(observed(values, piece, rng) for values in both))
            found = {row.observable: row.memory for row in report.rows if row.memory}
            correlations.append(found["slow"].correlation)
            verdicts = {row.verdict for row in report.rows}
            outcomes.append(next(v for v in VERDICTS if v in verdicts))
        shares = [100 * outcomes.count(v) / repeats for v in reversed(VERDICTS)]
        cells = " | ".join(f"{share:.0f} %" for share in shares)
        print(f"| {piece:g} ps | {np.mean(correlations):.2f} | {cells} |", flush=True)


if __name__ == "__main__":
    typer.run(main)
