"""All stages in order, each where the last command left it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ase import Atoms
from ase.io import read
from rich.console import Console

from trajcast_ase.distill.bath import choose_bath
from trajcast_ase.distill.calculators import CalculatorSource, CalculatorSpec
from trajcast_ase.distill.card import write_card
from trajcast_ase.distill.choice import choose
from trajcast_ase.distill.effort import Effort, WallClock
from trajcast_ase.distill.facts import Facts
from trajcast_ase.distill.fitting import Candidate
from trajcast_ase.distill.given import take_trajectories
from trajcast_ase.distill.job import Job
from trajcast_ase.distill.reference_md import make_reference
from trajcast_ase.distill.report_stage import Speeds, make_report
from trajcast_ase.distill.request import (
    DEFAULT_BUDGET_S,
    Fixed,
    Request,
    parse_budget,
    spread_temperatures,
)
from trajcast_ase.distill.start import Start
from trajcast_ase.distill.state import STAGES, STATE_NAME, StateFile
from trajcast_ase.distill.training_stage import fit
from trajcast_ase.files import sole_writer
from trajcast_ase.strict import text

NOTHING_FIXED = Fixed()


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a distillation has led to.

    Attributes
    ----------
    model : Path
        The model file, with the bath that it recommends.
    card : Path
    passes : bool
        Whether all rows of the report pass.
    passed, rows : int
    verdict : str
    model_speed : float, ns/day
        Of one run on one core.
    calculator_speed : float or None, ns/day
    pays_after_ns : float or None, ns
        Simulated time after which all has paid for itself; None: never, or unknown.
    to_try : tuple of str
        Where the report has not passed.
    """

    model: Path
    card: Path
    passes: bool
    passed: int
    rows: int
    verdict: str
    model_speed: float
    calculator_speed: float | None
    pays_after_ns: float | None
    to_try: tuple[str, ...]


def distill(
    structure: Atoms | str | Path | None = None,
    calculator: CalculatorSource | None = None,
    *,
    out: str | Path,
    temperature_K: float | tuple[float, float] | None = None,
    budget: str | float = DEFAULT_BUDGET_S,
    calculator_options: Mapping[str, Any] | None = None,
    trajectories: Sequence[str | Path] = (),
    references: Sequence[str | Path] = (),
    processes: int = 1,
    seed: int = 0,
    fixed: Fixed = NOTHING_FIXED,
    init: str | Path | None = None,
    redo: str | None = None,
    effort: Effort | None = None,
    console: Console | None = None,
) -> Outcome:
    """Make a forecaster of a system, and hold it against MD of the same system.

    The same call goes on where it was stopped: finished stages are kept in `out`.

    Parameters
    ----------
    structure : Atoms, or path that ASE reads, optional
    calculator : str, function or calculator, optional
        A name of ASE (``"emt"``), ``"tblite:GFN2-xTB"``, ``"package.module:callable"``,
        a function that makes a calculator, or a calculator (one process only).
    out : path
        Folder of model, report, card and everything in between.
    temperature_K : float, or lowest and highest, K
        Needed with a structure; default with trajectories: their mean.
    budget : str or float
        Wall time of everything, such as ``"2h"``; a number is in seconds.
    calculator_options : dict, optional
        Keyword arguments of the calculator.
    trajectories : sequence of paths
        NVE runs with velocities, instead of a structure and a calculator.
    references : sequence of paths
        Canonical runs for the report, beside `trajectories`; default: the last of
        these.
    processes : int
        That make reference MD, or try networks, at once, each on one core. With more
        than one, a script needs ``if __name__ == "__main__"``.
    seed : int
    fixed : Fixed
        Choices that are not to be measured.
    init : str or path, optional
        Model of the same elements, such as one trained on a cheaper engine, whose
        weights the training goes on from: a bundled name, or a file. Horizon and
        network are its own.
    redo : str, optional
        Make this stage and those after it again: "reference", "choice", "training",
        "bath" or "report".
    effort : Effort, optional
        Sizes of all stages; default: what the budget affords.
    console : rich.console.Console, optional
        Default: standard output; ``Console(quiet=True)`` says nothing.

    Raises
    ------
    ValueError
        Settings, structure, calculator, trajectories, budget or state file do not
        serve; the text says what to do. Finished stages are kept.
    FileExistsError
        Another process works in this folder, or it holds files of something else.
    Interrupted
        SIGINT or SIGTERM came in a training or a run of the model.
    """
    spec = None
    if calculator is not None:
        spec = CalculatorSpec(calculator, dict(calculator_options or {}))
    request = Request(
        out=Path(out),
        atoms=_atoms(structure),
        calculator=spec,
        trajectories=tuple(map(str, trajectories)),
        references=tuple(map(str, references)),
        temperatures_K=_temperatures(temperature_K),
        budget_s=parse_budget(budget) if isinstance(budget, str) else float(budget),
        processes=processes,
        seed=seed,
        fixed=fixed,
        start=None if init is None else Start.read(init),
    )
    if effort is None:
        effort = WallClock(request.budget_s, chooses=request.start is None)
    request.out.mkdir(parents=True, exist_ok=True)
    with sole_writer(request.out / STATE_NAME):
        state = StateFile(request.out, request.identity(), redo)
        console = console or Console(highlight=False)
        return _conduct(Job(request, effort, state, console))


def _temperatures(kelvin: float | tuple[float, float] | None) -> tuple[float, ...]:
    if kelvin is None:
        return ()
    several = kelvin if isinstance(kelvin, tuple) else (kelvin,)
    return spread_temperatures(several)


def _atoms(structure: Atoms | str | Path | None) -> Atoms | None:
    if structure is None or isinstance(structure, Atoms):
        return structure
    path = Path(structure)
    if not path.exists():
        raise FileNotFoundError(f"there is no file {path}")
    try:
        found = read(path, do_not_split_by_at_sign=True)
    except Exception as error:
        raise ValueError(
            f"{path} cannot be read as a structure ({type(error).__name__}: {error}); "
            "give a file that ASE reads, such as extxyz"
        ) from error
    assert isinstance(found, Atoms)  # noqa: S101  one image
    return found


def _conduct(job: Job) -> Outcome:
    state = job.state
    for name in STAGES:
        if name in state.stages:
            job.say(name, f"done before: {state.stages[name]['line']}")
            continue
        state.begin(name)
        _carry_out(name, job)
    return _outcome(job)


def _outcome(job: Job) -> Outcome:
    """Write the card, and return what the stages have kept."""
    state = job.state
    facts = _facts(state)
    model = text(state.stages["bath"]["result"].get("model"), "the model")
    card = write_card(job.request, facts, state, model)
    state.save()
    result = state.stages["report"]["result"]
    speeds = Speeds(result["model_ns_per_day"], result["calculator_ns_per_day"])
    return Outcome(
        model=job.request.out / model,
        card=card,
        passes=result["passes"],
        passed=result["passed"],
        rows=result["rows"],
        verdict=result["verdict"],
        model_speed=speeds.model,
        calculator_speed=speeds.calculator,
        pays_after_ns=speeds.breaks_even(sum(state.seconds.values())),
        to_try=tuple(result["try"]),
    )


def _facts(state: StateFile) -> Facts:
    return Facts.from_plain(state.stages["reference"]["result"])


def _carry_out(name: str, job: Job) -> None:
    """Do one stage, which keeps its result in the state."""
    state = job.state
    if name == "reference":
        if job.request.trajectories:
            take_trajectories(job)
        else:
            make_reference(job)
        return
    facts = _facts(state)
    if name == "choice":
        choose(job, facts)
        return
    choice = Candidate.from_plain(state.stages["choice"]["result"])
    if name == "training":
        fit(job, facts, choice)
        return
    trained = state.stages["training"]["result"]
    if name == "bath":
        model = text(trained.get("model"), "the model")
        choose_bath(job, facts, choice, model)
        return
    final = text(state.stages["bath"]["result"].get("model"), "the model")
    limit = text(trained.get("limit"), "the limit")
    make_report(job, facts, choice, final, limit)
