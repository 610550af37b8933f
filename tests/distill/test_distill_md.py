from __future__ import annotations

import json
import subprocess
import sys
import time
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from distill_system import STIFFNESS, Springs, tetrahedron
from rich.console import Console

from trajcast_ase.distill import journal, timestep
from trajcast_ase.distill.calculators import CalculatorSpec
from trajcast_ase.distill.chains import (
    Lengths,
    frames_on_disk,
    make_chains,
    plan_lengths,
    run_chains,
)
from trajcast_ase.distill.effort import WallClock
from trajcast_ase.distill.findings import findings
from trajcast_ase.distill.given import take_trajectories
from trajcast_ase.distill.job import Job
from trajcast_ase.distill.journal import Frame, Journal, JournalError, energies_of
from trajcast_ase.distill.reference_md import joined
from trajcast_ase.distill.request import Request
from trajcast_ase.distill.segments import MDError, Segment, Setup, run_segments
from trajcast_ase.distill.state import StateFile
from trajcast_ase.distill.timestep import (
    RELAXING_STEPS,
    SWING_LIMIT,
    TRIAL_STEPS,
    Trial,
    Trials,
    choose_timestep,
)
from trajcast_ase.distill.workers import WorkerError
from trajcast_ase.training.pairs import make_pairs
from trajcast_ase.trajectory import read_frames
from trajcast_ase.validation.inputs import read_run

LENGTHS = Lengths(
    equilibration=30,
    pause=20,
    nve=40,
    canonical=20,
    n_rounds=3,
    n_needed=2,
    n_tracks=2,
)
SEGMENTS = (
    Segment("start", None, "strong", 50, 1, 300.0),
    Segment("pause", "start", "weak", 30, 2, 300.0),
    Segment("run", "pause", "nve", 30, 3, 300.0),
)


def setup(folder, **changes):
    values = {"timestep_fs": 4.0, "frame_steps": 2}
    folder.mkdir(exist_ok=True)
    return Setup(atoms=tetrahedron(), folder=folder, **(values | changes))


def run(where, segments=SEGMENTS, calculator=None, tick=lambda _: None):
    run_segments(where, segments, calculator or Springs(), tick, lambda: False)


class KilledError(Exception):
    """The process is gone."""


@pytest.mark.parametrize("after", [1, 20, 51, 75, 100])
def test_a_killed_run_goes_on_to_the_same_frames(tmp_path, after):
    whole, cut = setup(tmp_path / "whole"), setup(tmp_path / "cut")
    run(whole)
    n_ticks = 0

    def tick(_n_frames):
        nonlocal n_ticks
        n_ticks += 1
        if n_ticks == after:
            raise KilledError

    with pytest.raises(KilledError):
        run(cut, tick=tick)
    run(cut)

    for name in ("start", "pause", "run"):
        wanted, found = (read_frames(one.path(name)) for one in (whole, cut))
        np.testing.assert_array_equal(found.positions, wanted.positions)
        np.testing.assert_array_equal(found.velocities, wanted.velocities)
    assert not list(cut.folder.glob("*.part"))


def test_a_torn_frame_at_the_end_of_a_journal_is_dropped(tmp_path):
    where = setup(tmp_path)

    def tick(_n_frames):
        raise KilledError

    with pytest.raises(KilledError):
        run(where, tick=tick)
    with (tmp_path / "start.h5.part").open("ab") as file:
        file.write(b"half a frame")
    run(where)

    assert read_frames(where.path("start")).n_frames == 50


def test_a_journal_of_other_settings_is_refused(tmp_path):
    def tick(_n_frames):
        raise KilledError

    with pytest.raises(KilledError):
        run(setup(tmp_path), tick=tick)
    with pytest.raises(JournalError, match=r"temperature_K = 300.0, now 310.0"):
        run(setup(tmp_path), [replace(SEGMENTS[0], temperature_K=310.0)])


def test_what_is_no_journal_is_refused(tmp_path):
    path = tmp_path / "run.h5.part"
    path.write_bytes(b"a text\nand another\n")

    with pytest.raises(JournalError, match=r"run.h5.part is no journal"):
        Journal(path, 2, {"seed": 1})


def test_a_journal_gives_its_frames_in_blocks(tmp_path, monkeypatch):
    monkeypatch.setattr(journal, "FRAMES_PER_BLOCK", 3)
    with Journal(tmp_path / "run.h5.part", 2, {"seed": 1}) as made:
        for k in range(8):
            made.append(Frame(np.full((2, 3), k), np.zeros((2, 3)), float(k), 0.5))
        sizes = [len(block) for block in made.blocks(1)]
        made.append(Frame(np.zeros((2, 3)), np.zeros((2, 3)), 8.0, 0.5))

        assert sizes == [3, 3, 1]
        assert made.frames()["potential_energy"].tolist() == list(range(9))
        assert made.last().total_energy == 8.5


def test_a_canonical_run_is_at_constant_energy_between_its_kicks(tmp_path):
    where = setup(tmp_path, kick_frames=7)
    canonical = Segment("canonical", "start", "canonical", 60, 4, 300.0)
    run(where, [SEGMENTS[0], canonical])
    frames = read_frames(where.path("canonical"))
    assert frames.kicks.tolist() == list(range(7, 60, 7))
    energies = energies_of(where.path("canonical")).sum(axis=1)
    pairs = make_pairs(frames, 2 * frames.stride_fs)
    changes = np.abs(energies[2:] - energies[:-2])
    kept = np.isin(np.arange(58), pairs.starts)
    assert kept.sum() == 58 - 2 * 8
    assert changes[kept].max() < 0.1 * changes[~kept].min()


def test_pieces_of_a_canonical_run_keep_their_kicks(tmp_path):
    where = setup(tmp_path, kick_frames=7)
    pieces = [
        Segment("one", "start", "canonical", 30, 4, 300.0),
        Segment("two", "one", "canonical", 30, 5, 300.0),
    ]
    run(where, [SEGMENTS[0], *pieces])
    one, two = (read_frames(where.path(piece.name)) for piece in pieces)
    whole = joined([one, two])
    assert whole.n_frames == 59
    assert whole.kicks.tolist() == [7, 14, 21, 28, 29 + 7, 29 + 14, 29 + 21, 29 + 28]
    np.testing.assert_array_equal(whole.velocities[29 + 7], two.velocities[7])
    bare = [replace(frames, kicks=None) for frames in (one, two)]
    assert joined(bare).kicks is None


def test_parts_of_a_given_run_keep_their_kicks(tmp_path):
    where = setup(tmp_path, kick_frames=40)
    run(where, [SEGMENTS[0], Segment("given", "start", "canonical", 250, 4, 300.0)])
    request = Request(tmp_path / "out", trajectories=(str(where.path("given")),))
    request.out.mkdir()
    state = StateFile(request.out, request.identity())

    take_trajectories(Job(request, WallClock(1e3), state, Console(quiet=True)))

    parts = [
        read_frames(request.out / "reference" / f"{role}-1.h5")
        for role in ("train", "choice", "report")
    ]
    assert [part.n_frames for part in parts] == [162, 26, 62]
    kicks = [part.kicks.tolist() for part in parts]
    assert kicks == [[40, 80, 120, 160], [], [200 - 188, 240 - 188]]


def test_each_segment_begins_where_the_one_before_ended(tmp_path):
    where = setup(tmp_path)
    run(where)
    start, pause = (read_frames(where.path(name)) for name in ("start", "pause"))

    np.testing.assert_array_equal(pause.positions[0], start.positions[-1])
    np.testing.assert_allclose(pause.velocities[0], start.velocities[-1], rtol=1e-14)


def test_files_tell_what_they_are(tmp_path):
    where = setup(tmp_path)
    run(where)

    assert read_run(where.path("pause")).temperature_K == 300.0
    assert read_run(where.path("run")).temperature_K is None
    assert read_frames(where.path("run")).stride_fs == 8.0


@pytest.mark.statistical
def test_canonical_runs_have_the_temperature_of_their_degrees_of_freedom(tmp_path):
    where = setup(tmp_path, frame_steps=3)
    run(where, (Segment("start", None, "strong", 1500, 5, 300.0),))
    frames = read_frames(where.path("start"))
    frames = frames.velocities[200:], frames.masses
    from trajcast_ase.analysis.temperature import temperature  # noqa: PLC0415

    # Twelve coordinates, at rest and without rotation: six; ASE would aim at twelve.
    mean = temperature(*frames, 6).mean()
    # A memory of 100 fs and 6 degrees of freedom in 16 ps: an error of 5 %.
    assert abs(mean / 300 - 1) < 0.2


def test_a_calculator_that_fails_later_keeps_the_frames_before(tmp_path):
    where, calculator = setup(tmp_path), Springs()

    def tick(_n_frames):
        if calculator.n_calls > 40:
            calculator.fault = "raises"

    with pytest.raises(MDError, match=r"SCF did not converge.*frames before are kept"):
        run(where, calculator=calculator, tick=tick)
    chain = [SEGMENTS]
    assert frames_on_disk(where, chain) > 15


def test_chains_make_all_runs_and_count_their_frames(tmp_path):
    where = setup(tmp_path)
    chains = make_chains(LENGTHS, (300.0,), 0)
    seen = []

    run_chains(
        where, chains, CalculatorSpec(Springs), 1, report=seen.append, seconds=None
    )

    total = sum(segment.n_frames for chain in chains for segment in chain)
    assert seen[-1] == total == frames_on_disk(where, chains)
    assert len(list(tmp_path.glob("nve-*.h5"))) == 6
    assert len(list(tmp_path.glob("piece-*.h5"))) == 6


def test_without_time_only_the_indispensable_is_run(tmp_path):
    where = setup(tmp_path)

    run_chains(
        where,
        make_chains(LENGTHS, (300.0,), 0),
        CalculatorSpec(Springs),
        1,
        report=lambda _: None,
        seconds=0.0,
    )

    assert len(list(tmp_path.glob("nve-*.h5"))) == 4
    assert len(list(tmp_path.glob("piece-*.h5"))) == 4


@pytest.mark.slow
def test_two_processes_give_the_frames_of_one(tmp_path):
    chains = make_chains(LENGTHS, (300.0,), 0)
    spec = CalculatorSpec("emt")
    found = []
    for processes in (1, 2):
        where = setup(tmp_path / str(processes))
        run_chains(where, chains, spec, processes, report=lambda _: None, seconds=None)
        found.append(read_frames(where.path("nve-2-03")).positions)

    np.testing.assert_array_equal(*found)


@pytest.mark.slow
def test_a_process_that_is_ended_is_explained(tmp_path):
    where = setup(tmp_path)

    with pytest.raises(WorkerError, match=r"ended from outside.*fewer --processes"):
        run_chains(
            where,
            make_chains(LENGTHS, (300.0,), 0),
            CalculatorSpec("os:_exit", {"status": 9}),
            2,
            report=lambda _: None,
            seconds=None,
        )


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self").exists(), reason="asks Linux who lives")
def test_processes_end_with_a_parent_that_is_killed(tmp_path):
    script = tmp_path / "parent.py"
    script.write_text(
        "import os, sys, time\n"
        "from concurrent.futures import ProcessPoolExecutor\n"
        "import multiprocessing\n"
        "from trajcast_ase.distill.workers import _begin\n"
        "if __name__ == '__main__':\n"
        "    context = multiprocessing.get_context('spawn')\n"
        "    pool = ProcessPoolExecutor(\n"
        "        1, context, initializer=_begin, initargs=(os.getpid(),))\n"
        "    print(pool.submit(os.getpid).result(), flush=True)\n"
        "    time.sleep(100)\n"
    )
    parent = subprocess.Popen(
        [sys.executable, str(script)], stdout=subprocess.PIPE, text=True
    )
    worker = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    parent.stdout.close()

    for _ in range(300):
        if not is_alive(worker):
            break
        time.sleep(0.1)
    assert not is_alive(worker)


def is_alive(process):
    try:
        state = Path(f"/proc/{process}/stat").read_text().rsplit(")")[1].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"  # nobody may be there to ask how it ended


def test_all_steps_are_planned_and_no_more():
    for n_steps in (4_000, 100_000, 3_000_000):
        lengths = plan_lengths(n_steps, 2, 1.0, 2)
        chains = make_chains(lengths, (300.0,), 0)
        frames = sum(segment.n_frames for chain in chains for segment in chain)
        assert 0.95 < 2 * frames / n_steps < 1.05


def chosen(folder, fixed_fs=None, calculator=None, *, done=(), tick=lambda _: None):
    """Return the trial of the time step chosen, and all that were kept."""
    folder.mkdir(exist_ok=True)
    kept = []
    trials = Trials(
        tetrahedron(), calculator or Springs(), 300.0, 0, folder, tuple(done)
    )
    trial = choose_timestep(
        trials, fixed_fs, keep=kept.append, follow=lambda _: nullcontext(tick)
    )
    return trial, kept[-1]


def test_a_time_step_that_swings_is_passed_over(tmp_path):
    trial, _ = chosen(tmp_path)

    assert trial.passes
    # The frequency of the breathing mode of a tetrahedron of springs, 4 k / m.
    period = 2 * np.pi / np.sqrt(4 * STIFFNESS / 63.546) / 0.0982269
    assert 0.5 * period < 10 * trial.fastest_period_fs / 10 < 2 * period
    stiff, _ = chosen(tmp_path, 40.0)
    assert stiff.swing > SWING_LIMIT
    assert not stiff.passes


@pytest.mark.parametrize("after", [90, 201, 230, 695])
def test_a_trial_that_is_killed_goes_on_at_its_frame(tmp_path, after):
    whole, _ = chosen(tmp_path / "whole", 5.0)
    calculator, frames = Springs(), []

    def killed(n_frames):
        frames.append(n_frames)
        if n_frames == after:
            raise KilledError

    with pytest.raises(KilledError):
        chosen(tmp_path / "cut", 5.0, tick=killed)
    found, _ = chosen(tmp_path / "cut", 5.0, calculator, tick=frames.append)

    for name in ("drift", "resolution", "swing", "fastest_period_fs"):
        assert getattr(found, name) == getattr(whole, name)
    assert 0.0 < found.seconds_per_step < 1.0
    assert frames[-1] == RELAXING_STEPS + TRIAL_STEPS
    assert calculator.n_calls <= RELAXING_STEPS + TRIAL_STEPS - after + 10


def test_finished_trials_are_kept_also_those_that_fail(tmp_path, monkeypatch):
    monkeypatch.setattr(timestep, "ladder", lambda _: (400.0, 5.0))
    with pytest.raises(KilledError):
        chosen(tmp_path, tick=lambda n: n == 300 and stop())
    trial, kept = chosen(tmp_path)
    assert [one.timestep_fs for one in kept] == [400.0, 5.0]
    assert not kept[0].passes
    assert trial == kept[1]

    plain = json.loads(json.dumps([one.to_plain() for one in kept], allow_nan=False))
    calculator = Springs()
    again, _ = chosen(tmp_path, None, calculator, done=map(Trial.from_plain, plain))
    assert again == trial
    assert calculator.n_calls == 0
    with pytest.raises(ValueError, match="lacks a key or has another"):
        Trial.from_plain({"drift": 1.0})


def stop():
    raise KilledError


def test_forces_that_do_not_belong_to_the_energy_are_explained(tmp_path):
    class Leaking(Springs):
        def calculate(self, *args, **kwargs):
            super().calculate(*args, **kwargs)
            self.results["energy"] *= 3.0

    with pytest.raises(MDError, match="no time step keeps the energy"):
        chosen(tmp_path, calculator=Leaking())


def test_a_cluster_that_flies_apart_is_noticed(tmp_path):
    where = setup(tmp_path)
    run(where)
    held, run_ = read_frames(where.path("pause")), read_frames(where.path("run"))
    assert not [one for one in findings([held], [run_], 300.0) if "bonds" in one]
    run_.positions[-1, 0] += 8.0

    (found,) = [one for one in findings([held], [run_], 300.0) if "bonds" in one]
    assert "Cu-Cu reaches" in found
