"""What to try when a report has not passed: each remedy once, and none tried before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto

from trajcast_ase.distill.baths import Bath
from trajcast_ase.distill.words import budget_option
from trajcast_ase.validation.report import Row

ANOTHER = "in another --out"
MORE_BUDGET = 2.0
FARTHER = 1.25
"""Cutoff to try, over the one that was chosen."""


class Fault(Enum):
    """What is wrong with the runs of a model."""

    COLD = auto()
    HOT = auto()
    SPECTRUM = auto()
    STRUCTURE = auto()
    BONDS = auto()
    LOST = auto()


WORDS = {
    Fault.COLD: "motions that are too cold",
    Fault.HOT: "motions that are too hot",
    Fault.SPECTRUM: "the spectrum",
    Fault.STRUCTURE: "structure or diffusion",
    Fault.BONDS: "bonds or angles",
    Fault.LOST: "runs that break down",
}


@dataclass(frozen=True, slots=True)
class Course:
    """What a distillation has chosen and tried.

    Attributes
    ----------
    horizon_fs : float, fs
    cutoff_A : float, Å
    n_channels : int
    bath : Bath
        Of the model.
    tried : tuple of Bath
    limit : "data" or "steps"
        What limits the training.
    makes_md : bool
        Whether there is a calculator.
    budget_s : float, s
    """

    horizon_fs: float
    cutoff_A: float
    n_channels: int
    bath: Bath
    tried: tuple[Bath, ...]
    limit: str
    makes_md: bool
    budget_s: float

    @property
    def more(self) -> str:
        """The option of a larger budget."""
        return f"--budget {budget_option(MORE_BUDGET * self.budget_s)}"


def advice(rows: Sequence[Row], course: Course, *, lost: bool = False) -> list[str]:
    """Return what to try, the likeliest first.

    Parameters
    ----------
    rows : sequence of Row
        Those that do not pass.
    course : Course
    lost : bool
        Whether runs have broken down.
    """
    if rows and not any(row.is_failed for row in rows):
        longer = "longer runs on both sides, since no row fails for sure"
        return [f"{longer}: {course.more} {ANOTHER}", _training(course)]
    kinds = dict.fromkeys(map(_fault, rows))
    faults = [*([Fault.LOST] if lost else []), *(one for one in kinds if one)]
    found = [_training(course), *_bath(course, faults)]
    learnable = [f for f in faults if f not in (Fault.COLD, Fault.STRUCTURE)]
    if learnable:
        found.append(
            f"a shorter stride, which is easier to learn ({_named(learnable)}): "
            f"--horizon {0.5 * course.horizon_fs:.2g} {ANOTHER}"
        )
    detailed = [f for f in faults if f in (Fault.SPECTRUM, Fault.BONDS)]
    if detailed and course.limit == "steps":
        found.append(
            f"a larger network with more time to train it ({_named(detailed)}): "
            f"--channels {2 * course.n_channels} {course.more} {ANOTHER}"
        )
    if Fault.STRUCTURE in faults:
        found.append(
            f"a stride that sees farther ({WORDS[Fault.STRUCTURE]}): "
            f"--cutoff {FARTHER * course.cutoff_A:.2g} {ANOTHER}"
        )
    return found


def _fault(row: Row) -> Fault | None:
    name = row.observable
    if name == "sd of temperature":  # by the coupling of either side, most of all
        return None
    if "temperature" in name:
        return Fault.COLD if row.value < row.reference else Fault.HOT
    if "spectrum" in name:
        return Fault.SPECTRUM
    if "bond" in name or "angle" in name:
        return Fault.BONDS
    return Fault.STRUCTURE


def _named(faults: Sequence[Fault]) -> str:
    return ", ".join(WORDS[one] for one in faults)


def _training(course: Course) -> str:
    if course.limit != "data":
        return (
            "a longer training, since steps or the network limit it: the same command "
            f"with --redo training {course.more}"
        )
    if course.makes_md:
        return (
            "more reference MD, since data limit the training: the same command with "
            f"--redo training {course.more} makes more"
        )
    return f"more trajectories, since data limit the training, {ANOTHER}"


def _bath(course: Course, faults: Sequence[Fault]) -> list[str]:
    """Return a bath that was not tried, where none of the faults speaks against it."""
    chosen = course.bath.langevin_fs
    if chosen is None:  # all others were tried beside it
        return []
    tried = [one.weakness_fs for one in course.tried]
    cold, broad = Fault.COLD in faults, Fault.SPECTRUM in faults
    if cold and not broad and all(one >= chosen for one in tried):
        what = f"stronger than {chosen:g} fs, which returns energy faster"
        return [f"a bath {what} ({WORDS[Fault.COLD]}): {_langevin(0.5 * chosen)}"]
    if broad and not cold and all(one <= chosen for one in tried):
        what = f"weaker than {chosen:g} fs, which broadens lines less"
        return [f"a bath {what} ({WORDS[Fault.SPECTRUM]}): {_langevin(2 * chosen)}"]
    return []


def _langevin(time_fs: float) -> str:
    return f"--langevin {time_fs:g} {ANOTHER}"
