"""More reference MD where data limit a training, from where the model's runs stray."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from trajcast_ase.distill.baths import Bath
from trajcast_ase.distill.chains import Chain, run_chains
from trajcast_ase.distill.facts import Facts
from trajcast_ase.distill.fitting import Candidate
from trajcast_ase.distill.job import Job
from trajcast_ase.distill.journal import write_trajectory
from trajcast_ase.distill.rollouts import Strides, make_runs, starts
from trajcast_ase.distill.segments import MDError, Segment, Setup
from trajcast_ase.models.model_file import load_model
from trajcast_ase.strict import integer
from trajcast_ase.trajectory import Frames, read_frames

FOLDER = "training/more"
ROLLOUT_PS = 4.0
"""Of the runs of the model, whose ends are the starts of MD."""
LANGEVIN_FS = 1000.0
RUN_PS, SHORTEST_PS, MOST_RUNS = 1.0, 0.2, 16
"""Aim for the length of an NVE run, the least, and how many there are at most."""
SETTLING = 0.3
"""Share of the MD that leads from the model's states back to the ensemble."""
SANE_SD = 8.0
"""Standard deviations of the energy, above its mean, up to which a state is sane."""
LOOKS = 8
"""Frames of a run that are looked at, from its end, for a sane one."""
LARGEST = 10**9


@dataclass(frozen=True, slots=True)
class Round:
    """Sizes of a round of more MD.

    Attributes
    ----------
    n_runs : int
    settling, nve : int
        Frames of each run, with and without thermostat.
    """

    n_runs: int
    settling: int
    nve: int

    @property
    def told(self) -> str:
        """What is made, in words."""
        return (
            f"{self.n_runs} more NVE runs of {self.nve} frames, from where the model's "
            "runs come to"
        )

    @classmethod
    def from_plain(cls, values: dict[str, Any]) -> Round:
        """Return the sizes in a state file.

        Raises
        ------
        ValueError
            A value is missing, or of another type.
        """
        return cls(
            *(integer(values.get(name), name, 0, LARGEST) for name in cls.__slots__)
        )


def plan_round(job: Job, facts: Facts, seconds: float) -> Round | None:
    """Return the MD that so many seconds afford; None where it is too little."""
    if facts.seconds_per_step is None or facts.timestep_fs is None:
        return None
    per_step = facts.seconds_per_step / job.processes
    steps = job.effort.extra_md(per_step, seconds)
    total_ps = 1e-3 * steps * facts.timestep_fs
    aim = RUN_PS / (1.0 - SETTLING)
    n_runs = min(MOST_RUNS, max(job.processes, int(total_ps / aim)))
    per_run = total_ps / n_runs * 1e3 / facts.stride_fs
    nve = int((1.0 - SETTLING) * per_run)
    if nve * facts.stride_fs < 1e3 * SHORTEST_PS:
        return None
    return Round(n_runs, max(2, int(SETTLING * per_run)), nve)


def make_more(
    job: Job,
    facts: Facts,
    choice: Candidate,
    model_name: str,
    sizes: Round,
    *,
    seconds: float | None,
) -> tuple[str, ...]:
    """Make more MD, or go on with it; return its files, relative to the folder.

    States of the model's runs, as late as their energies are sane, are brought back to
    the ensemble by MD with a thermostat, and then run at constant energy. After
    `seconds` no further runs begin. None are returned where the calculator fails.
    """
    assert job.request.atoms is not None  # noqa: S101  checked by the caller
    assert job.request.calculator is not None  # noqa: S101
    assert facts.timestep_fs is not None  # noqa: S101
    folder = job.request.out / FOLDER
    atoms = job.request.atoms.copy()
    atoms.calc = None
    setup = Setup(
        atoms=atoms,
        timestep_fs=facts.timestep_fs,
        frame_steps=round(facts.stride_fs / facts.timestep_fs),
        folder=folder,
    )
    chains = [_chain(job, facts, k, sizes) for k in range(sizes.n_runs)]
    names = tuple(f"{FOLDER}/{chain[-1].name}.h5" for chain in chains)
    try:
        if not all((folder / f"{chain[0].start}.h5").exists() for chain in chains):
            _write_starts(job, facts, choice, model_name, setup=setup, chains=chains)
        total = sum(one.n_frames for chain in chains for one in chain)
        with job.bar(total) as bar:

            def report(n_frames: int) -> None:
                job.state.tick()
                ps = facts.stride_fs * 1e-3
                text = f"{n_frames * ps:.1f} of {total * ps:.1f} ps of more MD"
                bar.update(n_frames, text)

            run_chains(
                setup,
                chains,
                job.request.calculator,
                job.processes,
                report=report,
                seconds=seconds,
            )
    except MDError as error:
        job.say("training", f"no more MD: {error}")
        return ()
    return tuple(name for name in names if (job.request.out / name).exists())


def _chain(job: Job, facts: Facts, k: int, sizes: Round) -> Chain:
    """Return the way from a state of the model to a run at constant energy."""
    kelvins = np.linspace(facts.temperatures_K[0], facts.temperatures_K[-1], 5)
    kelvin = float(kelvins[2 * k % 5])
    own = job.request.seed * 1_000_000 + 900_000 + 2 * k
    start, settled = f"stray-{k + 1:02d}", f"settled-{k + 1:02d}"
    extra = k >= job.processes
    name = f"more-{k + 1:02d}"
    return (
        Segment(settled, start, "strong", sizes.settling, own, kelvin, extra),
        Segment(name, settled, "nve", sizes.nve, own + 1, kelvin, extra),
    )


def _write_starts(
    job: Job,
    facts: Facts,
    choice: Candidate,
    model_name: str,
    *,
    setup: Setup,
    chains: Sequence[Chain],
) -> None:
    """Run the model, and write the state of each run from which MD begins."""
    model = load_model(job.request.out / model_name)
    horizon_fs = choice.horizon_fs(facts)
    systems = starts(facts, job.request.out, len(chains))
    n_strides = int(1e3 * ROLLOUT_PS / horizon_fs) + 1
    runs = make_runs(
        model,
        systems,
        Bath(LANGEVIN_FS).setting(horizon_fs),
        temperature_K=facts.middle,
        strides=Strides(n_strides, n_strides),
        folder=setup.folder / "runs",
        seed=job.request.seed + 500,
        tick=lambda _: job.state.tick(),
    )
    assert job.request.calculator is not None  # noqa: S101
    calculator = job.request.calculator.make()
    highest = highest_energy(facts, job.request.out)
    for path, chain, system in zip(runs.paths, chains, systems, strict=True):
        begin = setup.atoms.copy()
        begin.positions = system.positions
        atoms = latest_sane(read_frames(path), begin, calculator, highest)
        records = {
            "positions": atoms.positions[None],
            "velocities": np.zeros((1, len(atoms), 3)),  # the thermostat draws them
            "potential_energy": np.zeros(1),
            "kinetic_energy": np.zeros(1),
        }
        file = setup.path(chain[0].start or "")
        write_trajectory(file, setup.atoms, records, setup.stride_fs, {})


def highest_energy(facts: Facts, folder: Path) -> float:
    """Return the potential energy up to which a state is sane, eV."""
    import h5py  # noqa: PLC0415  100 ms that other stages need not pay

    energies = []
    for path in facts.paths(facts.constant_energy, folder):
        with h5py.File(path, "r") as file:
            energies.append(np.array(file["potential_energy"]))
    every = np.concatenate(energies)
    return float(every.mean() + SANE_SD * every.std())


def latest_sane(run: Frames, begin: Atoms, calculator: Any, highest: float) -> Atoms:
    """Return the latest of some frames whose energy is sane, else where it began.

    `begin` has the charges, magnetic moments and ``info`` that the calculator asks for.
    """
    last = run.n_frames - 1
    for index in np.unique(np.linspace(last, 1, LOOKS).astype(int))[::-1]:
        atoms: Atoms = begin.copy()
        atoms.positions = run.positions[int(index)]
        if not np.isfinite(atoms.positions).all():
            continue
        atoms.calc = calculator
        try:
            energy = float(atoms.get_potential_energy())
        except Exception:  # noqa: BLE001, S112  no state for this calculator
            continue
        atoms.calc = None
        if np.isfinite(energy) and energy <= highest:
            return atoms
    bare: Atoms = begin.copy()
    return bare
