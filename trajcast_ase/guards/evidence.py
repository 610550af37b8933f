"""The last good frames and the refused one, in a file that ASE reads."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ase import Atoms
from ase.io.extxyz import write_extxyz

from trajcast_ase.guards.host import host
from trajcast_ase.guards.protocol import Objection
from trajcast_ase.state import State, ase_momenta

GOOD_FRAMES = 3
"""Kept in memory before each stride."""
SUFFIX = ".evidence.extxyz"


def evidence_path(trajectory: Path) -> Path:
    """Return where the evidence of a run lies: beside its trajectory."""
    return trajectory.with_suffix(SUFFIX)


def write_evidence(
    path: Path,
    atoms: Atoms,
    good: Sequence[tuple[int, State]],
    refused: State,
    objections: Sequence[Objection],
) -> None:
    """Write frames in the order of time; what was objected to is in the last one's.

    Parameters
    ----------
    path : Path
        Replaced if it is there.
    atoms : Atoms
        Of which the frames are.
    good : sequence of (stride, State)
    refused : State
        A stride later than the last of `good`.
    objections : sequence of Objection
        The first is told in ``info`` in full.

    Raises
    ------
    OSError
    """
    frames = [_frame(atoms, state, stride, "good") for stride, state in good]
    last = _frame(atoms, refused, good[-1][0] + 1, "refused")
    first = objections[0].finding
    last.info |= {
        "guard": objections[0].guard,
        "value": first.value,
        "limit": first.limit,
        "atom": -1 if first.atom is None else first.atom,
        # The format is written in the encoding of the machine.
        "finding": "; ".join(one.finding.text for one in objections).replace("Å", "A"),
    }
    with path.open("w", encoding="utf-8") as file:
        write_extxyz(file, [*frames, last], columns=["symbols", "positions", "momenta"])


def _frame(atoms: Atoms, state: State, stride: int, verdict: str) -> Atoms:
    frame = Atoms(
        numbers=atoms.numbers,
        positions=host(state.positions),
        cell=atoms.cell,
        pbc=atoms.pbc,
        info={"stride": stride, "verdict": verdict},
    )
    frame.set_masses(atoms.get_masses())
    frame.set_momenta(host(ase_momenta(state)))
    return frame
