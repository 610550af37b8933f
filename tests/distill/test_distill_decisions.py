"""What the stages of distill decide, each by itself."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from distill_system import Springs, tetrahedron
from rich.console import Console

from trajcast_ase.distill import rollouts
from trajcast_ase.distill.bath import weakest
from trajcast_ase.distill.baths import UNTRIED
from trajcast_ase.distill.calculators import CalculatorSpec
from trajcast_ase.distill.candidates import candidates, goal_of
from trajcast_ase.distill.chains import (
    Lengths,
    make_chains,
    run_chains,
    shared_out,
    track_temperatures,
)
from trajcast_ase.distill.effort import FixedEffort, WallClock
from trajcast_ase.distill.facts import Facts
from trajcast_ase.distill.fitting import Candidate
from trajcast_ase.distill.job import Job
from trajcast_ase.distill.more_md import latest_sane, plan_round
from trajcast_ase.distill.report_stage import named, sharpness, wrong_rows
from trajcast_ase.distill.request import Fixed, Request
from trajcast_ase.distill.rollouts import Strides, broken
from trajcast_ase.distill.screening import Screening
from trajcast_ase.distill.segments import Setup
from trajcast_ase.distill.state import StateFile
from trajcast_ase.distill.words import counted, figures
from trajcast_ase.distill.workers import run_all
from trajcast_ase.dynamics.losses import LostReplica, LostReplicasError
from trajcast_ase.dynamics.rollout import Ending
from trajcast_ase.trajectory import Frames
from trajcast_ase.validation.difference import Verdict
from trajcast_ase.validation.report import Row

LENGTHS = Lengths(
    equilibration=4, pause=3, nve=5, canonical=4, n_rounds=3, n_needed=2, n_tracks=4
)
CANDIDATE = Candidate(4, 4.0, None, 16, 3)
FACTS = Facts(
    train=("a.h5",),
    validation=("b.h5",),
    bath=("c.h5",),
    report=("d.h5",),
    has_thermostat=True,
    temperatures_K=(300.0,),
    stride_fs=2.0,
    fastest_period_fs=40.0,
    timestep_fs=1.0,
    seconds_per_step=1e-3,
    calculator_ns_per_day=20.0,
    notes=(),
)


def frames_of(positions):
    atoms = tetrahedron()
    return Frames(
        positions=np.asarray(positions),
        velocities=np.zeros_like(positions),
        atomic_numbers=atoms.numbers,
        masses=atoms.get_masses(),
        cell=np.zeros((3, 3)),
        pbc=np.zeros(3, dtype=bool),
        stride_fs=2.0,
        source="here",
    )


def screening(growth, speed):
    return Screening(1, CANDIDATE, 8.0, 100, 1.0, 0.1, growth, speed)


def test_speed_counts_as_much_as_error_until_the_goal():
    goal = 400.0
    slow, at_goal, fast = (screening(1.0, speed) for speed in (100.0, 400.0, 6400.0))

    assert slow.score(goal) == pytest.approx(4 * at_goal.score(goal))
    assert at_goal.score(goal) == pytest.approx(2 * fast.score(goal))
    # Without a calculator nothing is to be reached.
    assert slow.score(0.0) == pytest.approx(2**0.5 * at_goal.score(0.0))
    # As copper went: 5 times the calculator with half the error is not chosen.
    assert screening(1.0, 50.0).score(goal) > screening(2.0, 400.0).score(goal)


def test_beside_a_fast_calculator_smaller_networks_come_first():
    frames = frames_of(np.tile(tetrahedron().positions, (400, 1, 1)))
    dear = FACTS
    cheap = Facts(**(FACTS.to_plain() | {"calculator_ns_per_day": 100.0}))

    assert goal_of(dear) == 200.0
    (first, *_), (small, *_) = (
        candidates(facts, frames, Fixed()) for facts in (dear, cheap)
    )
    assert small.n_layers < first.n_layers
    assert small.lag > first.lag


def test_tracks_spread_over_a_range_of_temperatures():
    heats = track_temperatures((280.0, 315.0, 350.0), 6)

    assert [one.canonical_K for one in heats] == [280.0, 315.0, 350.0] * 2
    assert [one.nve_K for one in heats] == [280.0, 294.0, 308.0, 322.0, 336.0, 350.0]
    same = track_temperatures((300.0,), 3)
    assert {(one.canonical_K, one.nve_K) for one in same} == {(300.0, 300.0)}


def test_processes_take_their_tracks_in_turns():
    chains = make_chains(LENGTHS, (300.0,), 0)

    (one,) = shared_out(chains, 1)
    assert [segment.name for segment in one[:4]] == [
        f"start-canonical-{k}" for k in (1, 2, 3, 4)
    ]
    several = shared_out(chains, 3)
    assert sorted(map(len, several)) == [11, 11, 22]
    names = {segment.name for chain in several for segment in chain}
    assert names == {segment.name for chain in chains for segment in chain}
    seeds = [segment.seed for segment in one]
    assert len(set(seeds)) == len(seeds)


def test_tracks_end_together_where_time_is_over(tmp_path):
    setup = Setup(tetrahedron(), timestep_fs=4.0, frame_steps=2, folder=tmp_path)
    chains = make_chains(LENGTHS, (300.0,), 0)
    spec = CalculatorSpec(Springs)

    run_chains(setup, chains, spec, 1, report=lambda _: None, seconds=0.0)

    for k in (1, 2, 3, 4):
        assert len(list(tmp_path.glob(f"piece-{k}-*.h5"))) == LENGTHS.n_needed
        assert len(list(tmp_path.glob(f"nve-{k}-*.h5"))) == LENGTHS.n_needed


class FakeReplicas:
    def __init__(self, nsteps=0):
        self.nsteps = nsteps


def carried_on(monkeypatch, strides, made_by, *, first=0):
    """Return the goals and limits of `roll_out`, each call of which takes a time."""
    calls, clock = [], [0.0]

    def roll_out(replicas, n_strides, *, checkpoints, limits=None):
        del checkpoints
        wall = None if limits is None else limits.wall_s
        calls.append((n_strides, wall))
        replicas.nsteps = n_strides
        clock[0] += made_by
        return Ending(n_strides, made_by)

    monkeypatch.setattr(rollouts, "roll_out", roll_out)
    monkeypatch.setattr(rollouts.time, "monotonic", lambda: clock[0])
    rollouts._carry_on(FakeReplicas(first), strides, Path("run"))
    return calls


def test_runs_end_in_time_but_are_long_enough_to_judge(monkeypatch):
    every = Strides(10, 100)
    assert carried_on(monkeypatch, every, 5.0) == [(10, None), (100, None)]
    timed = Strides(10, 100, 20.0)
    assert carried_on(monkeypatch, timed, 5.0) == [(10, None), (100, 15.0)]
    assert carried_on(monkeypatch, timed, 30.0) == [(10, None)]
    assert carried_on(monkeypatch, timed, 5.0, first=50) == [(100, 20.0)]


def test_without_time_for_short_runs_the_bath_is_untried():
    bath, why = weakest([])

    assert bath == UNTRIED
    assert "no time" in why


def test_the_latest_sane_state_is_taken():
    atoms = tetrahedron()
    scales = np.linspace(1.0, 3.0, 21)  # it flies apart
    run = frames_of(scales[:, None, None] * atoms.positions)
    energies = []
    for scale in scales:
        atoms = tetrahedron()
        atoms.positions *= scale
        atoms.calc = Springs()
        energies.append(atoms.get_potential_energy())

    found = latest_sane(run, tetrahedron(), Springs(), energies[10] + 1e-6)

    spread = np.linalg.norm(found.positions) / np.linalg.norm(run.positions[0])
    assert 1.5 < spread <= scales[10] + 1e-6
    begin = latest_sane(run, tetrahedron(), Springs("raises"), 1e9)
    np.testing.assert_array_equal(begin.positions, tetrahedron().positions)


def test_the_calculator_sees_charges_in_states_of_the_model():
    seen = []

    class Watched(Springs):
        def calculate(self, atoms=None, *args):
            seen.append((atoms.get_initial_charges().sum(), atoms.info["spin"]))
            super().calculate(atoms, *args)

    begin = tetrahedron()
    begin.set_initial_charges([1, 0, 0, 0])
    begin.info["spin"] = 2
    positions = np.stack([begin.positions, 1.01 * begin.positions])

    latest_sane(frames_of(positions), begin, Watched(), 1e9)

    assert seen == [(1.0, 2)]


def job_of(folder, effort, processes=1):
    request = Request(
        out=folder,
        atoms=tetrahedron(),
        calculator=CalculatorSpec("emt"),
        temperatures_K=(300.0,),
        processes=processes,
    )
    state = StateFile(folder, request.identity())
    return Job(request, effort, state, Console(quiet=True))


def test_a_round_of_more_md_is_as_long_as_time_allows(tmp_path):
    job = job_of(tmp_path, WallClock(1e6))

    found = plan_round(job, FACTS, 10.0)  # of 1 ms for each fs: 10 ps

    frames = found.n_runs * (found.settling + found.nve)
    assert 0.8 < frames * FACTS.stride_fs / 1e4 <= 1.0
    assert found.nve > found.settling
    assert plan_round(job, FACTS, 0.2) is None
    given = Facts(**(FACTS.to_plain() | {"seconds_per_step": None}))
    assert plan_round(job, given, 10.0) is None
    fixed = FixedEffort(1, 1, 1, 1, n_extra_md_steps=0)
    assert plan_round(job_of(tmp_path, fixed), FACTS, 10.0) is None


@dataclass
class Side:
    length_ps: float


def report_of(*rows):
    told = [SimpleNamespace(observable=name, seen=seen) for name, seen in rows]
    return SimpleNamespace(rows=told, run=Side(300.0), reference=Side(100.0))


def test_the_line_of_the_report_tells_how_sharp_it_is():
    one = report_of(
        ("temperature", 4.0),
        ("longest bond C-O", None),
        ("overlap of spectrum", 0.93),
        ("overlap of g(r)", 0.98),
    )
    two = report_of(("temperature", 5.0), ("overlap of spectrum", 0.91))

    text = sharpness([one, two])

    assert text.startswith("600 ps of the model beside 200 ps of MD, which show")
    assert "a mean temperature off by 5 K" in text
    assert "any overlap of curves below 0.91 in four of five cases" in text
    blunt = report_of(("temperature", np.inf), ("overlap of g(r)", -np.inf))
    assert "too short to be sure" in sharpness([blunt])


def row(name, verdict):
    return Row(name, "", 0.0, 0.1, 1.0, 0.1, "", 0.1, None, verdict, None)


def test_rows_that_do_not_pass_are_named_and_doubt_is_explained():
    rows = [row(f"bond {k}", Verdict.FAIL) for k in range(7)]
    rows += [row("angle", Verdict.PASS), row("bond H-O", Verdict.DOUBTFUL)]
    one = SimpleNamespace(rows=rows)

    text = named(wrong_rows({300.0: one}))

    assert text.startswith(
        "; failed: bond 0, bond 1, bond 2, bond 3, bond 4 and 2 more; not trustworthy: "
        "bond H-O (off by more than chance"
    )
    assert "angle" not in text
    assert named({}) == ""
    several = wrong_rows({280.0: one, 350.0: one})
    assert len(several) == 16
    assert "bond H-O at 350 K" in several


@pytest.mark.parametrize(
    ("value", "text"),
    [(1310.4, "1310"), (138.2, "138"), (0.6864, "0.686"), (7280.0, "7280"), (21, "21")],
)
def test_numbers_have_three_figures_and_no_powers_of_ten(value, text):
    assert figures(value) == text


def test_nouns_follow_their_numbers():
    assert counted(1, "process", "processes") == "1 process"
    assert counted(2, "process", "processes") == "2 processes"


def test_runs_that_break_down_are_told_in_a_line(tmp_path):
    reason = (
        "the forecast of step 508 is refused: it kicks atom 27 (Cu) by 13.2 times the "
        "thermal speed; the Atoms hold step 507; guards= chooses what is looked at"
    )
    (tmp_path / "run-00.evidence.extxyz").touch()
    error = LostReplicasError([LostReplica(0, 507, reason, ValueError())], 3)
    paths = tuple(tmp_path / f"run-0{k}.traj" for k in range(3))

    assert broken(error, paths) == (
        "1 of 3 runs broke down: run-00 after 507 strides (the forecast of step 508 is "
        "refused: it kicks atom 27 (Cu) by 13.2 times the thermal speed); the last "
        f"frames are in {tmp_path}/*.evidence.extxyz"
    )


def environment(name):
    return os.environ.get(name)


@pytest.mark.slow
def test_a_worker_has_one_thread(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    found = {}

    run_all(
        environment,
        ["OMP_NUM_THREADS", "MKL_NUM_THREADS"],
        1,
        done=found.__setitem__,
        look=lambda: None,
        signals=[],
    )

    assert found == {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    assert os.environ["OMP_NUM_THREADS"] == "7"
